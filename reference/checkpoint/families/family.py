"""What sets a model family apart: how its config.json reads, and where its tensor names differ.

Each file beside this one describes a family, or several that belong together, as `FAMILIES`. A new family is one new
file: nothing else names it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from verbatim.reference.records.config import LayerConfig
from verbatim.reference.records.errors import ModelError

BESIDE_TEXT = (
    "architectures",
    "quantization",
    "quantization_config",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
)
# What config.json may leave out, and what transformers' classes mean by that; families have exceptions of their own.
DEFAULTS: dict[str, Any] = {
    "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 2048,
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip

# Where a family normalises, and how Hugging Face names it: before attention, after it, before the feed-forward, after.
NORM_NAMES = {
    "before": ("input_layernorm", None, "post_attention_layernorm", None),
    "after": (None, "post_attention_layernorm", None, "post_feedforward_layernorm"),
    "around": (
        "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
    ),
    "between": (None, None, "post_attention_layernorm", None),
    "parallel": ("input_layernorm", None, None, None),
}  # fmt: skip


def norm_names(norms: str, layer: LayerConfig) -> list[str | None]:
    """The same for the halves that a layer has."""
    mixes, has_network = layer.has_attention or layer.has_mixer, layer.has_feed_forward
    is_there = mixes, mixes, has_network, has_network
    return [name if there else None for name, there in zip(NORM_NAMES[norms], is_there, strict=True)]


def no_scales(raw: dict) -> dict[str, float]:
    """No constant factors."""
    return {}


def no_fields(raw: dict) -> dict[str, Any]:
    """Nothing besides what all families have."""
    return {}


def as_it_is(raw: dict) -> dict[str, Any]:
    """config.json in the common spelling already."""
    return raw


def text_part(raw: dict) -> dict[str, Any]:
    """The text model's fields of a multimodal config.json; fields of the whole model have precedence."""
    text = raw.get("text_config")
    if text is None:
        return raw
    if not isinstance(text, dict):
        raise ModelError(f"config.json: text_config must be an object, not {text!r}")
    beside = {name: raw[name] for name in BESIDE_TEXT if raw.get(name) is not None}
    return text | beside


def check_known(raw: dict, known: dict[str, tuple], whose: str) -> None:
    """ModelError for a key of config.json with a value that is none of those that are computed."""
    for name, values in known.items():
        if raw.get(name) is not None and raw[name] not in values:
            raise ModelError(f"config.json: {name} = {raw[name]!r} is not supported for {whose}")


def same_in_all_layers(raw: dict, names: tuple[str, ...]) -> dict[str, Any]:
    """config.json with one value where these keys have a list of one for each layer; ModelError if they differ."""
    found = dict(raw)
    for name in names:
        if isinstance(value := raw.get(name), list) and value:
            if any(item != value[0] for item in value):
                raise ModelError(f"config.json: {name} must be the same in all layers, not {value!r}")
            found[name] = value[0]
    return found


def rope_of_each_type(raw: dict, *, full: float, sliding: float) -> dict[str, Any]:
    """config.json with rotary settings for each type of layer, as transformers 5 writes them.

    `full` and `sliding` are the bases of layers without and with a window, where no settings have one.
    """
    given = raw.get("rope_parameters") or {}
    if "full_attention" not in given and "sliding_attention" not in given:
        given = {"full_attention": given}
    whole = {"rope_theta": full} | (given.get("full_attention") or {}) | (raw.get("rope_scaling") or {})
    near = {"rope_theta": sliding} | (given.get("sliding_attention") or {})
    return raw | {"rope_scaling": None, "rope_parameters": {"full_attention": whole, "sliding_attention": near}}


def every_layer(raw: dict, num_layers: int) -> list[bool]:
    """Where config.json gives a window, every layer has it."""
    return [True] * num_layers


def no_layer(raw: dict, num_layers: int) -> list[bool]:
    """A window in config.json is ignored."""
    return [False] * num_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertNames:
    """How the tensors of a mixture of experts are called within a layer.

    Where `is_stacked`, one tensor (experts, outputs, inputs) holds a matrix of all experts: `up` has each expert's gate
    and up one after the other, `down` has down. `interleaved` names two tensors of a model directory (of GGUF files it
    has no meaning): outputs of gate and up in turn, and down (interleaved_experts.py); `joined` the same with gate's
    outputs before up's; `stacked` those that some files have in the place of a matrix for each expert, (experts,
    outputs, inputs), gate's outputs before up's. `score_bias` is what experts are chosen by beside the scores.
    `shared` and `shared_gate` belong to the expert of every token.
    """

    part: str = "mlp."
    router: str = "gate"
    score_bias: str = "gate.e_score_correction_bias"
    score_bias_rows: bool = False  # whether it is a matrix of one row
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"
    is_stacked: bool = False
    interleaved: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    stacked: tuple[str, ...] = ()
    shared: str = "shared_expert"
    is_shared_network: bool = False  # whether it has the names and the size of a dense network
    shared_gate: str = "shared_expert_gate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One architecture.

    `aliases` are further names of the architecture, `model_types` the names by which config.json calls it without any.
    `prepare` brings config.json to the common spelling and refuses what the family can be and we cannot. `fixed` are
    fields of ModelConfig that hold whatever config.json says, `defaults` fields of config.json that its files may leave
    out, beside DEFAULTS, `reads` those that it reads beside what all families do (`config_keys.py`). `scales` are the
    constant factors as ModelConfig names them, `fields` what else it makes of config.json, `routing` the same of
    Experts. `slides` says which layers have the window, where config.json does not list them itself. `names` maps names
    of tensors within a layer or the model, as Llama has them, to the family's own. `layer_types` maps what the family
    alone says in `layer_types` of config.json to fields of LayerConfig.
    """

    name: str
    architecture: str
    aliases: tuple[str, ...] = ()
    model_types: tuple[str, ...] = ()  # none: the family's name
    prepare: Callable[[dict], dict[str, Any]] = as_it_is
    fixed: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()  # keys of config.json that may have a list, of equal values, one for each layer
    scales: Callable[[dict], dict[str, float]] = no_scales
    fields: Callable[[dict], dict[str, Any]] = no_fields
    routing: Callable[[dict], dict[str, Any]] = no_fields
    slides: Callable[[dict, int], list[bool]] = every_layer
    names: dict[str, str] = field(default_factory=dict)
    stems: tuple[str, ...] = ()  # what may stand before the names of layers in place of stems.py's
    layer_types: dict[str, dict[str, bool]] = field(default_factory=dict)
    groups_queries: bool = False  # query, key and value are one matrix, each group of queries before its key and value
    has_pairs: bool = False  # in the rows of queries and keys, the two features of a rotated pair are neighbours
    has_fused_gate: bool = False  # gate and up are one matrix, while query, key and value are three
    has_experts: bool = False  # a mixture of them, if config.json counts more than none
    normalizes_experts: bool = False  # unless config.json says otherwise
    experts: ExpertNames = ExpertNames()
