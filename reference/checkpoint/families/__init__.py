"""The model families: one file each, and the reading of config.json that they share.

Both spellings that transformers has used are read: version 4 writes `rope_theta`, `rope_scaling` and `torch_dtype`,
version 5 writes `rope_parameters` and `dtype`. A field that would change the arithmetic and is not implemented is
refused by name; a model is never run as something it is not. What a file leaves out has the value that transformers'
class of the architecture gives it; sizes alone are never assumed.
"""

import importlib
import pkgutil
from pathlib import Path

from verbatim.reference.checkpoint.config_keys import EXPERTS, READ, check_keys, unread
from verbatim.reference.checkpoint.config_values import check_values
from verbatim.reference.checkpoint.families.family import DEFAULTS, Family, same_in_all_layers
from verbatim.reference.checkpoint.quantized.settings import read_settings
from verbatim.reference.checkpoint.rope_settings import read_rope
from verbatim.reference.numerics.quantization import MXFP4, read_entry
from verbatim.reference.records.config import LayerConfig, ModelConfig, read_json
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.experts import Experts
from verbatim.reference.records.rope import Rope

ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh", "relu2": "relu2"}
LAYER_TYPES = ("full_attention", "sliding_attention")
# Where null means something: none of it, or what follows from other fields. Elsewhere null is as if left out.
NULLABLE = ("num_key_value_heads", "head_dim", "sliding_window", "attn_logit_softcapping", "final_logit_softcapping",
            "bos_token_id", "eos_token_id", "q_lora_rank", "attention_chunk_size")  # fmt: skip


def load_config(directory: str | Path) -> ModelConfig:
    """Read `config.json`, and `generation_config.json` where it is there: it has the better end-of-sequence ids."""
    directory = Path(directory)
    if not directory.is_dir():
        raise ModelError(f"model directory {directory} does not exist")
    return read_config(read_json(directory / "config.json"), read_generation_defaults(directory))


def read_config(raw: dict, generation: dict, **changes) -> ModelConfig:
    """The same of the contents of the files. A value that cannot be, or arithmetic that we lack, is refused by name.

    `changes` are fields of the result that differ from what config.json says.
    """
    family = _family(raw)
    raw, known = same_in_all_layers(raw, family.listed), _known_keys(family)
    for part in (raw, raw.get("text_config") or {}):
        for values in _values_of_layers(part, family):
            check_values(values, known | {"text_config", "num_experts", "norm_eps", "rope_pct"})
    whole = _complete(raw, family)
    check_keys(whole, known, family.name)
    return _config({name: value for name, value in whole.items() if name in known}, generation, family, **changes)


def _values_of_layers(raw: dict, family: Family) -> list[dict]:
    """config.json, and what it lists for each layer as one value each."""
    lists = {name: raw[name] for name in family.per_layer if isinstance(raw.get(name), list)}
    rest = {name: value for name, value in raw.items() if name not in lists}
    return [rest, *({name: value} for name, values in lists.items() for value in values)]


def make_config(raw: dict, generation: dict, **changes) -> ModelConfig:
    """The model that another format describes, in config.json's words; `changes` are fields that differ from theirs."""
    family = _family(raw)
    return _config(_complete(raw, family), generation, family, **changes)


def _config(raw: dict, generation: dict, family: Family, **changes) -> ModelConfig:
    fields = _common(raw, generation, family) | family.scales(raw) | family.fields(raw) | family.fixed | changes
    return ModelConfig(**fields, family=family.name, layers=_layers(raw, family))


def unread_keys(directory: str | Path) -> list[str]:
    """The keys of config.json that nothing here knows, and that do not look as if they changed the arithmetic."""
    raw = read_json(Path(directory) / "config.json")
    family = _family(raw)
    return unread(_complete(raw, family), _known_keys(family))


def _known_keys(family: Family) -> set[str]:
    return {*READ, *family.reads, *(EXPERTS if family.has_experts else ())}


def _complete(raw: dict, family: Family) -> dict:
    """In the common spelling, with what the file leaves out."""
    found = {name: value for name, value in family.prepare(raw).items() if value is not None or name in NULLABLE}
    if "num_experts" in found and family.has_experts:
        found["num_local_experts"] = found.pop("num_experts")
    found = DEFAULTS | family.defaults | found
    for name in ("bos_token_id", "eos_token_id"):  # the family's id may lie outside of a small vocabulary
        if name not in raw and isinstance(found[name], int) and found[name] >= required(found, "vocab_size"):
            found[name] = None
    return found


def read_generation_defaults(directory: Path) -> dict:
    """`generation_config.json`, or nothing."""
    path = directory / "generation_config.json"
    return read_json(path) if path.exists() else {}


def load_eagle_config(directory: str | Path) -> ModelConfig:
    """Read the `config.json` of an eagle head: the fields of a Llama of one layer."""
    llama = family_named("llama")
    raw = _complete(read_draft_config(directory, "eagle"), llama)
    fields = _common(raw, {}, llama)
    config = ModelConfig(**fields, family="eagle", norms="between", layers=_layers(raw, llama))
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
    check_values(raw, ("architectures", "model_type"))
    known = {name: family for family in families() for name in (family.architecture, *family.aliases)}
    types = {name: family.architecture for family in families() for name in family.model_types or (family.name,)}
    name = (raw.get("architectures") or [types.get(str(raw.get("model_type")))])[0]
    if name not in known:
        raise ModelError(f"config.json: architecture {name!r} is not supported; supported: {', '.join(known)}")
    return known[name]


def _common(raw: dict, generation: dict, family: Family) -> dict:
    """What is read the same way for every family."""
    heads, hidden = required(raw, "num_attention_heads"), required(raw, "hidden_size")
    activation = raw["hidden_act"]
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
        "norm_epsilon": float(raw["rms_norm_eps"]),
        "activation": ACTIVATIONS[activation],
        "tie_embeddings": bool(raw["tie_word_embeddings"]),
        "query_bias": has_bias,
        "output_bias": has_bias,
        "mlp_bias": bool(raw.get("mlp_bias", False)),
        "experts": _experts(raw, family),
        "eos_ids": token_ids(generation.get("eos_token_id", raw.get("eos_token_id"))),
        "quantization": _quantization(raw, family),
        "bos_id": next(iter(token_ids(raw.get("bos_token_id"))), None),
    }


def _quantization(raw: dict, family: Family) -> str | None:
    """How the checkpoint holds its matrices, as ModelConfig names it."""
    settings = read_settings(raw)
    if settings is not None and settings.method == MXFP4 and not family.experts.interleaved:
        raise ModelError(f"config.json: quantization_config is not supported (method {MXFP4} for {family.name!r})")
    return settings.method if settings else read_entry(raw)


def _layers(raw: dict, family: Family) -> tuple[LayerConfig, ...]:
    """Each layer's positions, window and kind of feed-forward part."""
    num_layers = required(raw, "num_hidden_layers")
    interval = raw.get("no_rope_layer_interval")  # SmolLM3: each such layer has no positions, where none are listed
    turns = raw.get("no_rope_layers") or [not interval or (i + 1) % interval for i in range(num_layers)]
    if len(turns) != num_layers:
        raise ModelError(f"config.json: no_rope_layers has {len(turns)} entries for {num_layers} layers")
    windows = [raw.get("sliding_window") if slides else None for slides in _sliding(raw, family, num_layers)]
    dense, step = raw.get("mlp_only_layers") or [], raw.get("decoder_sparse_step") or 1
    chunk, is_chunked = raw.get("attention_chunk_size"), raw.get("chunked_layers") or [False] * num_layers
    listed = (raw.get("layer_types") if family.layer_types else None) or [""] * num_layers
    own = [family.layer_types.get(name, {}) | more for name, more in zip(listed, family.layer_fields(raw), strict=True)]
    types = ["sliding_attention" if window else "full_attention" for window in windows]
    ropes: dict[tuple[str, int | None], Rope] = {}
    for layer_type, head_dim in {(types[i], own[i].get("head_dim")) for i in range(num_layers)}:
        ropes[layer_type, head_dim] = read_rope(raw, layer_type, head_dim)
    return tuple(
        LayerConfig(
            rope=ropes[types[i], own[i].get("head_dim")] if turns[i] and own[i].get("has_attention", True) else None,
            window=window,
            sinks=raw.get("attention_sink_size") or 0,
            has_experts=_experts(raw, family) is not None and i not in dense and (i + 1) % step == 0,
            chunk=chunk if is_chunked[i] else None,
            **own[i],
        )
        for i, window in enumerate(windows)
    )


def _sliding(raw: dict, family: Family, num_layers: int) -> list[bool]:
    """Which layers attend to a sliding window only; transformers 5 lists them, 4 had a rule for each family."""
    types = raw.get("layer_types")
    known = (*LAYER_TYPES, *family.layer_types)
    if unknown := [layer_type for layer_type in types or () if layer_type not in known]:
        supported = f"supported: {', '.join(known)}"
        raise ModelError(f"config.json: layer_types has {unknown[0]!r}, which is not supported; {supported}")
    slides = raw.get("sliding_window") and raw.get("use_sliding_window") is not False
    if types and (slides or family.layer_types) and len(types) != num_layers:
        raise ModelError(f"config.json: layer_types has {len(types)} entries for {num_layers} layers")
    if not slides:
        return [False] * num_layers
    if types:
        return [layer_type == "sliding_attention" for layer_type in types]
    return family.slides(raw, num_layers)


def _experts(raw: dict, family: Family) -> Experts | None:
    count = raw.get("num_local_experts")
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
