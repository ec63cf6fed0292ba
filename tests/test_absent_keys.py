"""config.json with keys left out: what transformers' class of the architecture means by that, for each architecture.

A file with a key left out must read as the file that transformers makes of it, where nothing is left out.
"""

import json

import pytest

from verbatim.reference.checkpoint.families import families, read_config
from verbatim.reference.records.errors import ModelError

SIZES = {  # never assumed
    "vocab_size": 300_000, "hidden_size": 6144, "intermediate_size": 80, "num_hidden_layers": 40,
    "num_attention_heads": 96,
}  # fmt: skip
FURTHER_SIZES = {
    "mamba2": {"num_heads": 192}, "nemotron_h": {"layers_block_type": ["mamba", "moe", "attention", "mlp"] * 10},
}  # fmt: skip
BOOKKEEPING = ("architectures", "model_type", "transformers_version", "dtype", "id2label", "label2id")


@pytest.fixture(scope="module")
def mapping():
    pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", minversion="5", reason="transformers 5 is not installed")
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    transformers.logging.set_verbosity_error()
    return CONFIG_MAPPING


def known_types():
    names = [name for family in families() for name in family.model_types or (family.name,)]
    missing = ("internlm2", "stablelm_epoch", "kimi_k2", "gemma3", "mistral3", "llama4", "gemma3n", "gemma4",
               "gemma4_unified", "qwen3_5", "qwen3_5_moe")  # fmt: skip
    return [name for name in names if name not in missing]


def completed(mapping, raw):
    """The config.json that transformers writes of one, in full."""
    made = mapping[raw["model_type"]].from_dict(json.loads(json.dumps(raw))).to_dict()
    return {name: value for name, value in made.items() if name != "architectures"} | {"model_type": raw["model_type"]}


def sizes_of(model_type):
    """What a config.json of that type has to say."""
    return SIZES | FURTHER_SIZES.get(model_type, {})


def cases(whole):
    """Files with one key left out, with all keys but the sizes left out, and the same in transformers 4's spelling."""
    whole = {name: value for name, value in whole.items() if value is not None}
    sizes = sizes_of(whole["model_type"])
    for name in whole.keys() - sizes.keys() - {*BOOKKEEPING}:
        yield name, {key: value for key, value in whole.items() if key != name}
    bare = {"model_type": whole["model_type"]} | sizes
    yield "everything", bare
    for name in ("use_sliding_window", "sliding_window", "max_window_layers"):
        if name in whole or name == "sliding_window":
            value = {"use_sliding_window": True, "sliding_window": 77, "max_window_layers": 3}
            yield f"everything but {name}", bare | {name: value[name]}
    yield "layer_types, with windows", bare | {"use_sliding_window": True, "sliding_window": 77}
    yield "rope_parameters, but not rope_theta", bare | {"rope_theta": 500000.0}


@pytest.mark.parametrize("model_type", known_types())  # transformers lacks three, the others are with images
def test_a_key_left_out_means_what_transformers_means(mapping, model_type):
    whole = mapping[model_type](**sizes_of(model_type)).to_dict() | {"model_type": model_type}
    differences = {}
    for name, raw in cases(whole):
        expected, found = read_config(completed(mapping, raw), {}), read_config(raw, {})
        if found != expected:
            differences[name] = [
                (field, getattr(found, field), getattr(expected, field))
                for field in found.__slots__ if getattr(found, field) != getattr(expected, field)
            ]  # fmt: skip
    assert differences == {}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_never_assumed(name):
    raw = {"model_type": "llama"} | {key: value for key, value in SIZES.items() if key != name}
    with pytest.raises(ModelError, match=f"{name} must be a positive integer, not None"):
        read_config(raw, {})
