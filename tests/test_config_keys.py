"""Keys of config.json that nothing here knows: those of arithmetic are refused by name, others pass and are named."""

import json
import logging

import pytest

from family_models import published
from small_models import SMALL, write_chat_model
from verbatim.reference import backend
from verbatim.reference.checkpoint.families import read_config, unread_keys
from verbatim.reference.records.errors import ModelError

LEGACY = {  # what transformers 4 has written beside what describes the model
    "_name_or_path": "a/b", "transformers_version": "4.51.3", "torch_dtype": "bfloat16", "use_cache": True,
    "auto_map": {"AutoConfig": "configuration.Config"}, "pad_token_id": 0, "attention_dropout": 0.1,
    "resid_pdrop": 0.1, "embd_pdrop": 0.1, "initializer_range": 0.02, "pretraining_tp": 2, "chunk_size_feed_forward": 0,
    "max_length": 20, "temperature": 1.5, "top_k": 50, "no_repeat_ngram_size": 3, "pruned_heads": {},
    "id2label": {"0": "LABEL_0"}, "output_attentions": False, "attn_implementation": "eager", "is_decoder": True,
    "tie_encoder_decoder": False, "cross_attention_hidden_size": None, "_attn_implementation_autoset": True,
}  # fmt: skip
REAL = {  # as files of the hub have them, by family
    "llama": {"rope_interleaved": False, "is_llama_config": True, "transformers.js_config": {"kv_cache_dtype": "q4"},
              "num_heads": 4, "n_layers": 2, "_flash_attn_2_enabled": True, "mtp_layers": 2},
    "qwen2": {"dual_chunk_attention_config": {"chunk_size": 262144}, "use_mrope": False, "max_window_layers": 21,
              "use_sliding_window": False, "sliding_window": 131072},
    "phi3": {"full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": False, "mlp_bias": False},
    "smollm3": {"max_window_layers": 28, "pretraining_tp": 2},
    "gemma2": {"hidden_act": "gelu_pytorch_tanh", "cache_implementation": "hybrid"},
    "mixtral": {"router_aux_loss_coef": 0.02, "router_jitter_noise": 0.1, "output_router_logits": False},
    "starcoder2": {"scale_attn_weights": True, "attention_softmax_in_fp32": True, "layer_norm_epsilon": 1e-5,
                   "scale_attention_softmax_in_fp32": True, "mlp_type": "default", "norm_type": "layer_norm"},
    "stablelm": {"norm_eps": 1e-5, "rope_pct": 0.25, "num_heads": 4, "rotary_scaling_factor": 1.0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "name", "value"),
    [
        ("llama", "attn_logit_softcapping", 50.0), ("llama", "final_logit_softcapping", 30.0),
        ("llama", "qk_norm", True), ("llama", "use_qk_norm", True), ("llama", "attention_sink", 4),
        ("llama", "logit_scale", 0.0625), ("llama", "residual_multiplier", 0.22), ("llama", "clip_qkv", 8.0),
        ("llama", "alibi", True), ("llama", "embedding_multiplier", 12), ("llama", "rope_interleaved", True),
        ("llama", "num_experts", 8),
        ("llama", "num_local_experts", 8), ("llama", "layer_norm_eps", 1e-5), ("llama", "parallel_attn", True),
        ("llama", "use_rope", False), ("llama", "attn_temperature_tuning", 4), ("llama", "norm_type", "layer_norm"),
        ("llama", "hidden_activation", "gelu"), ("llama", "rotary_pct", 0.25), ("llama", "is_causal", False),
        ("mistral", "attention_bias", True), ("qwen2", "logits_scaling", 8.0), ("phi3", "lm_head_bias", True),
        ("gemma2", "mlp_bias", True), ("qwen3", "swiglu_limit", 7.0), ("olmo2", "clip_qkv", 8.0),
        ("mixtral", "shared_expert_intermediate_size", 64), ("phi", "qk_layernorm", True), ("phi3", "full_attn_mod", 2),
    ],
)  # fmt: skip
def test_unknown_arithmetic_is_refused_by_name(model_type, name, value):
    raw = SMALL | {"architectures": None, "model_type": model_type, name: value}
    with pytest.raises(ModelError, match=rf"config\.json: {name} = .* is not supported for '{model_type}'"):
        read_config(raw, {})


@pytest.mark.parametrize("value", [False, None, 0, 0.0, 1, 1.0, "none", [], {}])
def test_neutral_values_pass(value):
    raw = SMALL | {"logit_scale": value, "use_qk_norm": value, "attn_logit_softcapping": value}
    assert read_config(raw, {}) == read_config(SMALL, {})


@pytest.mark.parametrize("model_type", REAL)
def test_what_files_of_the_hub_have_passes(model_type):
    raw = SMALL | {"architectures": None, "model_type": model_type}
    assert read_config(raw | LEGACY | REAL[model_type], {}).family == model_type


def test_the_first_stablelm_has_names_of_its_own():
    raw = published("stablelm") | {"architectures": ["StableLMEpochForCausalLM"], "norm_eps": 1e-6, "rope_pct": 0.5}
    config = read_config(
        {name: raw[name] for name in raw if name not in ("layer_norm_eps", "partial_rotary_factor")}, {}
    )
    assert (config.norm_epsilon, config.layers[0].rope.rotary_dim) == (1e-6, 8)


def test_types_of_layers_that_are_not_known_are_refused():
    with pytest.raises(
        ModelError, match="layer_types has 'linear_attention', which is not supported; supported: full_"
    ):
        read_config(SMALL | {"layer_types": ["full_attention", "linear_attention"]}, {})


def test_other_unknown_keys_are_named_in_the_log(tmp_path, caplog):
    write_chat_model(tmp_path, **LEGACY, favourite_colour="green", trained_on={"tokens": 10})
    assert unread_keys(tmp_path) == ["favourite_colour", "trained_on"]
    with caplog.at_level(logging.INFO, "verbatim"):
        backend.load_engine(tmp_path)
    assert (
        "config.json has keys that are not known here, and are passed over: favourite_colour, trained_on" in caplog.text
    )
    (tmp_path / "config.json").write_text(
        json.dumps(json.loads((tmp_path / "config.json").read_text()) | {"alibi": True})
    )
    with pytest.raises(ModelError, match="alibi = True is not supported"):
        backend.load_engine(tmp_path)
