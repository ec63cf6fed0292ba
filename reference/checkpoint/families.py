"""The model families by name: how each one's config.json reads as the one description in config.py.

Both spellings that transformers has used are read: version 4 writes `rope_theta`, `rope_scaling` and `torch_dtype`,
version 5 writes `rope_parameters` and `dtype`. A field that would change the arithmetic and is not implemented is
refused by name; a model is never run as something it is not.
"""

from pathlib import Path

from verbatim.reference.checkpoint.rope_settings import read_rope
from verbatim.reference.numerics.quantization import read_entry
from verbatim.reference.records.config import Experts, LayerConfig, ModelConfig, Rope, read_json
from verbatim.reference.records.errors import ModelError

# What a family sets whatever its config.json says. Fields read from the file are in `_common`.
FAMILIES = {
    "LlamaForCausalLM": {"family": "llama"},
    "MistralForCausalLM": {"family": "mistral"},
    "Qwen2ForCausalLM": {"family": "qwen2", "query_bias": True},
    "Qwen3ForCausalLM": {"family": "qwen3", "query_key_norm": "head"},
    "Gemma2ForCausalLM": {"family": "gemma2", "norms": "around", "norm_offset": 1.0},
    "Gemma3ForCausalLM": {"family": "gemma3", "norms": "around", "norm_offset": 1.0, "query_key_norm": "head"},
    "Phi3ForCausalLM": {"family": "phi3", "has_fused_matrices": True},
    "SmolLM3ForCausalLM": {"family": "smollm3"},
    "Olmo2ForCausalLM": {"family": "olmo2", "norms": "after", "query_key_norm": "all"},
    "GraniteForCausalLM": {"family": "granite"},
    "MixtralForCausalLM": {"family": "mixtral"},
    "Qwen3MoeForCausalLM": {"family": "qwen3_moe", "query_key_norm": "head"},
}
ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
GEMMA_DEFAULTS = {"tie_word_embeddings": True, "query_pre_attn_scalar": 256, "head_dim": 256}  # what Google left out


def load_config(directory: str | Path) -> ModelConfig:
    """Read `config.json`, and `generation_config.json` where it is there: it has the better end-of-sequence ids."""
    directory = Path(directory)
    if not directory.is_dir():
        raise ModelError(f"model directory {directory} does not exist")
    raw = read_json(directory / "config.json")
    generation = {}
    if (directory / "generation_config.json").exists():
        generation = read_json(directory / "generation_config.json")
    fixed = _family(raw)
    if fixed["family"].startswith("gemma"):
        raw = GEMMA_DEFAULTS | raw
    return ModelConfig(
        **(_common(raw, generation) | _scales(raw, fixed["family"]) | fixed), layers=_layers(raw, fixed["family"])
    )


def load_eagle_config(directory: str | Path) -> ModelConfig:
    """Read the `config.json` of an eagle head: the fields of a Llama of one layer."""
    raw = read_draft_config(directory, "eagle")
    config = ModelConfig(**(_common(raw, {}) | {"family": "eagle", "norms": "between"}), layers=_layers(raw, "llama"))
    if config.num_layers != 1:
        raise ModelError(f"config.json: an eagle head has 1 layer, num_hidden_layers is {config.num_layers}")
    return config


def read_draft_config(directory: str | Path, model_type: str) -> dict:
    """The `config.json` of draft heads, which must be of this type."""
    directory = Path(directory)
    if not directory.is_dir():
        raise ModelError(f"directory {directory} of the {model_type} heads does not exist")
    raw = read_json(directory / "config.json")
    if (found := raw.get("model_type")) != model_type:
        raise ModelError(f"{directory / 'config.json'}: model_type must be {model_type!r}, not {found!r}")
    return raw


def _family(raw: dict) -> dict:
    name = (raw.get("architectures") or [None])[0]
    if name not in FAMILIES:
        raise ModelError(f"config.json: architecture {name!r} is not supported; supported: {', '.join(FAMILIES)}")
    if raw.get("quantization_config"):
        raise ModelError(
            "config.json: quantization_config is not supported: give the float checkpoint and --quantization"
        )
    return FAMILIES[name]


def _common(raw: dict, generation: dict) -> dict:
    """What is read the same way for every family."""
    heads, hidden = required(raw, "num_attention_heads"), required(raw, "hidden_size")
    activation = raw.get("hidden_activation") or raw.get("hidden_act", "silu")
    if activation not in ACTIVATIONS:
        raise ModelError(
            f"config.json: hidden_act {activation!r} is not supported; supported: {', '.join(ACTIVATIONS)}"
        )
    has_bias = bool(raw.get("attention_bias", False))
    return {
        "vocab_size": required(raw, "vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": required(raw, "intermediate_size"),
        "num_layers": required(raw, "num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": raw.get("num_key_value_heads") or heads,
        "head_dim": raw.get("head_dim") or hidden // heads,
        "context_size": required(raw, "max_position_embeddings"),
        "norm_epsilon": float(raw.get("rms_norm_eps", 1e-6)),
        "activation": ACTIVATIONS[activation],
        "tie_embeddings": bool(raw.get("tie_word_embeddings", False)),
        "query_bias": has_bias,
        "output_bias": has_bias,
        "mlp_bias": bool(raw.get("mlp_bias", False)),
        "experts": _experts(raw),
        "attention_softcap": raw.get("attn_logit_softcapping"),
        "final_softcap": raw.get("final_logit_softcapping"),
        "eos_ids": token_ids(generation.get("eos_token_id", raw.get("eos_token_id"))),
        "quantization": read_entry(raw),
        "bos_id": next(iter(token_ids(raw.get("bos_token_id"))), None),
    }


def _scales(raw: dict, family: str) -> dict:
    """Constant factors, which only Gemma and Granite have."""
    if family.startswith("gemma"):
        return {
            "embedding_scale": float(raw["hidden_size"]) ** 0.5,
            "attention_scale": float(raw["query_pre_attn_scalar"]) ** -0.5,
        }
    if family == "granite":
        return {
            "embedding_scale": float(raw.get("embedding_multiplier", 1.0)),
            "attention_scale": float(raw.get("attention_multiplier", 1.0)),
            "residual_scale": float(raw.get("residual_multiplier", 1.0)),
            "logits_divisor": float(raw.get("logits_scaling", 1.0)),
        }
    return {}


def _layers(raw: dict, family: str) -> tuple[LayerConfig, ...]:
    """Each layer's positions, window and kind of feed-forward part."""
    num_layers = required(raw, "num_hidden_layers")
    turns = raw.get("no_rope_layers") or [1] * num_layers  # SmolLM3: 0 where a layer has no positions
    if len(turns) != num_layers:
        raise ModelError(f"config.json: no_rope_layers has {len(turns)} entries for {num_layers} layers")
    windows = [raw.get("sliding_window") if slides else None for slides in _sliding(raw, family, num_layers)]
    dense, step = raw.get("mlp_only_layers") or [], raw.get("decoder_sparse_step") or 1
    ropes: dict[str, Rope] = {}
    for kind in {"sliding_attention" if window else "full_attention" for window in windows}:
        ropes[kind] = read_rope(raw, kind)
    return tuple(
        LayerConfig(
            rope=ropes["sliding_attention" if window else "full_attention"] if turns[i] else None,
            window=window,
            sinks=raw.get("attention_sink_size") or 0,
            has_experts=_experts(raw) is not None and i not in dense and (i + 1) % step == 0,
        )
        for i, window in enumerate(windows)
    )


def _sliding(raw: dict, family: str, num_layers: int) -> list[bool]:
    """Which layers look back through a window only; transformers 5 lists them, 4 had a rule for each family."""
    if not raw.get("sliding_window") or raw.get("use_sliding_window") is False:
        return [False] * num_layers
    if raw.get("layer_types"):
        if len(raw["layer_types"]) != num_layers:
            raise ModelError(f"config.json: layer_types has {len(raw['layer_types'])} entries for {num_layers} layers")
        return [kind == "sliding_attention" for kind in raw["layer_types"]]
    if family == "gemma2":
        return [i % 2 == 0 for i in range(num_layers)]
    if family == "gemma3":
        pattern = raw.get("sliding_window_pattern") or raw.get("_sliding_window_pattern") or 6
        return [(i + 1) % pattern != 0 for i in range(num_layers)]
    if family in ("qwen2", "qwen3"):
        return [i >= raw.get("max_window_layers", 28) for i in range(num_layers)]
    return [family != "llama"] * num_layers


def _experts(raw: dict) -> Experts | None:
    count = raw.get("num_local_experts") or raw.get("num_experts")
    if not count:
        return None
    return Experts(
        num_experts=count,
        num_per_token=required(raw, "num_experts_per_tok"),
        intermediate_size=raw.get("moe_intermediate_size") or required(raw, "intermediate_size"),
        is_normalized=bool(raw.get("norm_topk_prob", raw["architectures"][0] == "MixtralForCausalLM")),
    )


def required(raw: dict, name: str) -> int:
    """A positive integer that config.json must have."""
    value = raw.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"config.json: {name} must be a positive integer, not {value!r}")
    return value


def token_ids(value) -> tuple[int, ...]:
    """One id, a list of ids, or nothing at all: transformers writes all three."""
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(item, int) for item in ids):
        raise ModelError(f"config.json: token ids must be integers, not {value!r}")
    return tuple(ids)
