"""The model families: one file each, and the reading of config.json that they share.

Both spellings that transformers has used are read: version 4 writes `rope_theta`, `rope_scaling` and `torch_dtype`,
version 5 writes `rope_parameters` and `dtype`. A field that would change the arithmetic and is not implemented is
refused by name; a model is never run as something it is not.
"""

import importlib
import pkgutil
from pathlib import Path

from verbatim.reference.checkpoint.families.family import Family
from verbatim.reference.checkpoint.rope_settings import read_rope
from verbatim.reference.numerics.quantization import read_entry
from verbatim.reference.records.config import Experts, LayerConfig, ModelConfig, Rope, read_json
from verbatim.reference.records.errors import ModelError

ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}
MODEL_TYPES = {"gemma3": "gemma3_text"}  # where config.json has another `model_type` than the family's name


def load_config(directory: str | Path) -> ModelConfig:
    """Read `config.json`, and `generation_config.json` where it is there: it has the better end-of-sequence ids."""
    directory = Path(directory)
    if not directory.is_dir():
        raise ModelError(f"model directory {directory} does not exist")
    return make_config(read_json(directory / "config.json"), read_generation_defaults(directory))


def make_config(raw: dict, generation: dict, **changes) -> ModelConfig:
    """The ModelConfig of a config.json and a generation_config.json; `changes` are fields that differ from theirs."""
    family = _family(raw)
    raw = family.defaults | family.prepare(raw)
    fields = _common(raw, generation, family) | family.scales(raw) | family.fields(raw) | family.fixed | changes
    return ModelConfig(**fields, family=family.name, layers=_layers(raw, family))


def read_generation_defaults(directory: Path) -> dict:
    """`generation_config.json`, or nothing."""
    path = directory / "generation_config.json"
    return read_json(path) if path.exists() else {}


def load_eagle_config(directory: str | Path) -> ModelConfig:
    """Read the `config.json` of an eagle head: the fields of a Llama of one layer."""
    raw = read_draft_config(directory, "eagle")
    config = ModelConfig(
        **_common(raw, {}, family_named("llama")), family="eagle", norms="between",
        layers=_layers(raw, family_named("llama")),
    )  # fmt: skip
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


def families() -> list[Family]:
    """All families, found in the files of this folder."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "family")
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return [family for module in modules for family in module.FAMILIES]


def family_named(name: str) -> Family:
    """The family that a ModelConfig names."""
    return next(family for family in families() if family.name == name)


def _family(raw: dict) -> Family:
    known = {name: family for family in families() for name in (family.architecture, *family.aliases)}
    types = {MODEL_TYPES.get(family.name, family.name): family.architecture for family in families()}
    name = (raw.get("architectures") or [types.get(str(raw.get("model_type")))])[0]
    if name not in known:
        raise ModelError(f"config.json: architecture {name!r} is not supported; supported: {', '.join(known)}")
    if quantized := raw.get("quantization_config"):
        method = quantized.get("quant_method", "of no name") if isinstance(quantized, dict) else "of no name"
        raise ModelError(
            f"config.json: quantization_config is not supported (method {method}): "
            "give the float checkpoint, and --quantization w8a8 or w4a8"
        )
    return known[name]


def _common(raw: dict, generation: dict, family: Family) -> dict:
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
        "experts": _experts(raw, family),
        "attention_softcap": raw.get("attn_logit_softcapping"),
        "final_softcap": raw.get("final_logit_softcapping"),
        "eos_ids": token_ids(generation.get("eos_token_id", raw.get("eos_token_id"))),
        "quantization": read_entry(raw),
        "bos_id": next(iter(token_ids(raw.get("bos_token_id"))), None),
    }


def _layers(raw: dict, family: Family) -> tuple[LayerConfig, ...]:
    """Each layer's positions, window and kind of feed-forward part."""
    num_layers = required(raw, "num_hidden_layers")
    interval = raw.get("no_rope_layer_interval")  # SmolLM3: each such layer has no positions, where none are listed
    turns = raw.get("no_rope_layers") or [not interval or (i + 1) % interval for i in range(num_layers)]
    if len(turns) != num_layers:
        raise ModelError(f"config.json: no_rope_layers has {len(turns)} entries for {num_layers} layers")
    windows = [raw.get("sliding_window") if slides else None for slides in _sliding(raw, family, num_layers)]
    dense, step = raw.get("mlp_only_layers") or [], raw.get("decoder_sparse_step") or 1
    ropes: dict[str, Rope] = {}
    for layer_type in {"sliding_attention" if window else "full_attention" for window in windows}:
        ropes[layer_type] = read_rope(raw, layer_type)
    return tuple(
        LayerConfig(
            rope=ropes["sliding_attention" if window else "full_attention"] if turns[i] else None,
            window=window,
            sinks=raw.get("attention_sink_size") or 0,
            has_experts=_experts(raw, family) is not None and i not in dense and (i + 1) % step == 0,
        )
        for i, window in enumerate(windows)
    )


def _sliding(raw: dict, family: Family, num_layers: int) -> list[bool]:
    """Which layers attend to a sliding window only; transformers 5 lists them, 4 had a rule for each family."""
    if not raw.get("sliding_window") or raw.get("use_sliding_window") is False:
        return [False] * num_layers
    if raw.get("layer_types"):
        if len(raw["layer_types"]) != num_layers:
            raise ModelError(f"config.json: layer_types has {len(raw['layer_types'])} entries for {num_layers} layers")
        return [layer_type == "sliding_attention" for layer_type in raw["layer_types"]]
    return family.slides(raw, num_layers)


def _experts(raw: dict, family: Family) -> Experts | None:
    count = raw.get("num_local_experts") or raw.get("num_experts")
    if not count:
        return None
    return Experts(
        num_experts=count,
        num_per_token=required(raw, "num_experts_per_tok"),
        intermediate_size=raw.get("moe_intermediate_size") or required(raw, "intermediate_size"),
        is_normalized=bool(raw.get("norm_topk_prob", family.normalizes_experts)),
        **family.routing(raw),
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
