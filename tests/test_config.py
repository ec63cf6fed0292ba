"""config.json as transformers 4 and 5 write it, and what is refused by name."""

import json

import pytest

from small_models import SMALL
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.rope import Rope, RopeScaling

LLAMA3 = {
    "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
    "rope_type": "llama3",
}  # fmt: skip


def write(directory, **changes):
    raw = {name: value for name, value in (SMALL | changes).items() if value is not None}
    (directory / "config.json").write_text(json.dumps(raw))
    return directory


def test_version_4_and_5_mean_the_same(tmp_path):
    old = load_config(write(tmp_path, rope_theta=500000.0, rope_scaling=LLAMA3, torch_dtype="bfloat16"))
    parameters = LLAMA3 | {"rope_theta": 500000.0}
    new = load_config(write(tmp_path, rope_theta=None, rope_parameters=parameters, dtype="bfloat16"))
    assert old == new
    scaling = RopeScaling(
        rope_type="llama3", factor=8, low_frequency_factor=1, high_frequency_factor=4, original_context=64
    )
    assert old.layers[0].rope == Rope(theta=500000.0, rotary_dim=16, scaling=scaling)


def test_missing_fields_have_derived_values(tmp_path):
    config = load_config(write(tmp_path, head_dim=None, num_key_value_heads=None))
    assert config.head_dim == 48 // 4
    assert config.num_kv_heads == 4


def test_eos_ids_of_generation_config_have_priority(tmp_path):
    write(tmp_path, eos_token_id=2)
    assert load_config(tmp_path).eos_ids == (2,)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 7]}))
    assert load_config(tmp_path).eos_ids == (2, 7)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["MambaForCausalLM"]}, ["MambaForCausalLM", "LlamaForCausalLM"]),
        ({"architectures": None, "model_type": "mamba"}, ["architecture None"]),
        ({"hidden_act": "gelu"}, ["hidden_act", "gelu", "silu"]),
        ({"rope_scaling": {"rope_type": "ntk"}}, ["ntk", "default, linear, llama3, yarn, longrope"]),
        ({"rope_scaling": {"rope_type": "llama3"}}, ["llama3", "factor"]),
        ({"quantization_config": {"quant_method": "gptq"}}, ["quantization_config"]),
        ({"vocab_size": "many"}, ["vocab_size", "'many'", "positive integer"]),
        ({"hidden_size": 0}, ["hidden_size", "0"]),
        ({"num_key_value_heads": 3}, ["4 heads", "3 key-value heads"]),
        ({"head_dim": 7}, ["head_dim", "even", "7"]),
        ({"eos_token_id": "</s>"}, ["token ids", "</s>"]),
        ({"architectures": "LlamaForCausalLM"}, ["architectures must be a list of names, not 'LlamaForCausalLM'"]),
        ({"num_hidden_layers": 10**9}, ["num_hidden_layers must be at most 10000, not 1000000000"]),
        ({"rms_norm_eps": "1e-5"}, ["rms_norm_eps must be a number above 0, not '1e-5'"]),
        ({"rms_norm_eps": float("nan")}, ["rms_norm_eps must be a number above 0, not nan"]),
        ({"rope_theta": 0}, ["rope_theta must be a number above 0, not 0"]),
        ({"partial_rotary_factor": 1.5}, ["partial_rotary_factor must be a number above 0 and at most 1, not 1.5"]),
        ({"tie_word_embeddings": "no"}, ["tie_word_embeddings must be true or false, not 'no'"]),
        ({"layer_types": 3}, ["layer_types must be a list of names, not 3"]),
        ({"sliding_window": -1}, ["sliding_window must be an integer of at least 0, not -1"]),
        ({"hidden_act": ["silu"]}, ["hidden_act must be a text, not ['silu']"]),
        ({"rope_scaling": "yarn"}, ["rope_scaling must be an object, not 'yarn'"]),
    ],
)
def test_a_fault_is_named(tmp_path, changes, words):
    with pytest.raises(ModelError) as error:
        load_config(write(tmp_path, **changes))
    assert all(word in str(error.value) for word in words)


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere does not exist"):
        load_config(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"config\.json does not exist"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json cannot be read as JSON"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="JSON object"):
        load_config(tmp_path)
