"""Gemma 4's text models: full layers with wider heads, layers that share keys and values, inputs of each layer (N9b).

Values are normed; where `attention_k_eq_v` says so they are made of what keys are made of. The model with experts has
them beside the dense network. Of the models with images and sound, the text part is read.
"""

from collections.abc import Callable
from typing import Any

from verbatim.reference.checkpoint.families.family import ExpertNames, Family, check_known, text_part
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.residuals import LayerInputs

DEFAULTS: dict[str, Any] = {
    "vocab_size_per_layer_input": 262144, "hidden_size_per_layer_input": 256, "head_dim": 256, "sliding_window": 512,
    "num_key_value_heads": 4, "max_position_embeddings": 131072, "hidden_act": "gelu_pytorch_tanh",
    "tie_word_embeddings": True, "bos_token_id": 2, "eos_token_id": 1, "final_logit_softcapping": None,
    "attention_k_eq_v": False, "num_kv_shared_layers": 0, "use_double_wide_mlp": False, "global_head_dim": 512,
}  # fmt: skip
UNIFIED = DEFAULTS | {"hidden_size_per_layer_input": 0, "sliding_window": 1024, "max_position_embeddings": 262144}
SIZES = {  # what a text_config may leave out besides
    "vocab_size": 262144, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 30,
    "num_attention_heads": 8,
}  # fmt: skip
ROPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0},
}  # fmt: skip
READS = (
    "attention_bias", "hidden_activation", "final_logit_softcapping", "use_bidirectional_attention",
    "vocab_size_per_layer_input", "hidden_size_per_layer_input", "attention_k_eq_v", "num_kv_shared_layers",
    "enable_moe_block", "use_double_wide_mlp", "top_k_experts", "global_head_dim", "num_global_key_value_heads",
    "per_layer_config",
)  # fmt: skip
OWN = {"head_dim": "head_dim", "num_key_value_heads": "num_kv_heads"}  # what per_layer_config may say of a layer


def _prepare(raw: dict) -> dict[str, Any]:
    """In the common spelling, with the type of each layer and the rotary positions of each type."""
    found = (SIZES if raw.get("text_config") is not None else {}) | text_part(raw)
    check_known(found, {"use_bidirectional_attention": ("vision",)}, "a text model")
    has_experts = bool(found.get("enable_moe_block"))
    return found | {
        "hidden_act": found.get("hidden_activation") or DEFAULTS["hidden_act"], "rope_theta": 10000.0,
        "rope_scaling": None, "rope_parameters": ROPE | (found.get("rope_parameters") or {}),
        "layer_types": _types(found), "num_experts": None,
        "num_local_experts": found.get("num_experts") if has_experts else None,
        "num_experts_per_tok": found.get("top_k_experts") if has_experts else None,
        "moe_intermediate_size": found.get("moe_intermediate_size") if has_experts else None,
    }  # fmt: skip


def _types(raw: dict) -> list[str] | None:
    """The type of each layer: every sixth attends to all tokens by default, and the last one always."""
    num_layers, types = raw.get("num_hidden_layers"), raw.get("layer_types")
    if not isinstance(num_layers, int):
        return None  # refused by name later
    types = types or ["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(num_layers)]
    return [*types[:-1], "full_attention"]  # a wrong number of them is refused later


def sources(raw: dict) -> list[int | None]:
    """For each layer the one whose keys and values it attends to, of its own type; None where it makes its own."""
    types, num_shared = raw["layer_types"], raw["num_kv_shared_layers"]
    if not raw.get("sliding_window"):
        raise ModelError(f"config.json: sliding_window must be a positive integer, not {raw.get('sliding_window')!r}")
    first = len(types) - num_shared
    if num_shared and not set(types[first:]) <= set(types[: max(first, 0)]):
        raise ModelError(
            f"config.json: num_kv_shared_layers = {num_shared} leaves no layer of each type that makes keys and values"
        )
    last = {name: index for index, name in enumerate(types[:first])}
    return [None if index < first else last[name] for index, name in enumerate(types)]


def _layer_fields(raw: dict) -> list[dict[str, Any]]:
    """What is each layer's own: the heads of full ones, shared keys, the width of networks behind shared keys."""
    layers = []
    for name, source, heads in zip(raw["layer_types"], sources(raw), _heads(raw), strict=True):
        own = heads | ({} if source is None else {"keys_of": source})
        if source is not None and raw["use_double_wide_mlp"]:
            own["intermediate_size"] = 2 * raw["intermediate_size"]
        if raw["attention_k_eq_v"] and name == "full_attention":
            own["has_values"] = False
        layers.append(own)
    return layers


def _heads(raw: dict) -> list[dict[str, Any]]:
    """Each layer's heads where they are not the model's: as transformers 5.24 lists them, or those of full layers."""
    listed, types = raw.get("per_layer_config"), raw["layer_types"]
    if listed is None:
        full: dict[str, Any] = {"head_dim": raw["global_head_dim"]}
        if raw["attention_k_eq_v"] and raw.get("num_global_key_value_heads"):
            full["num_kv_heads"] = raw["num_global_key_value_heads"]
        return [full if name == "full_attention" else {} for name in types]
    found: list[dict[str, Any]] = [{} for _ in types]
    for index, changes in listed.items():
        if not index.isdecimal() or int(index) >= len(types) or not isinstance(changes, dict):
            raise ModelError(f"config.json: per_layer_config names layer {index!r} of {len(types)}")
        for name, value in changes.items():
            if name not in OWN or not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ModelError(f"config.json: per_layer_config has {name} = {value!r}, which is not supported")
            found[int(index)][OWN[name]] = value
    return found


def _fields(raw: dict) -> dict[str, Any]:
    found: dict[str, Any] = {"final_softcap": raw["final_logit_softcapping"]}
    if raw["hidden_size_per_layer_input"]:
        sizes = raw["hidden_size_per_layer_input"], raw["vocab_size_per_layer_input"]
        found["layer_inputs"] = LayerInputs(size=sizes[0], vocab_size=sizes[1])
    return found


def scales(raw: dict) -> dict[str, float]:
    """The embedding's rows are multiplied by a constant, scores by none: queries and keys are normed."""
    return {"embedding_scale": float(raw["hidden_size"]) ** 0.5, "attention_scale": 1.0}


def _family(name: str, architecture: str, defaults: dict[str, Any], fields: Callable[[dict], dict[str, Any]]) -> Family:
    return Family(
        name=name,
        architecture=f"{architecture}ForCausalLM",
        aliases=(f"{architecture}ForConditionalGeneration",),
        model_types=(f"{name}_text", name),
        prepare=_prepare,
        fixed={"norms": "around", "query_key_norm": "head", "norms_values": True, "has_layer_scale": True},
        defaults=defaults,
        reads=READS,
        scales=scales,
        fields=fields,
        layer_fields=_layer_fields,
        has_experts=True,
        normalizes_experts=True,
        routing=lambda raw: {"beside": True},
        experts=ExpertNames(
            part="", router="router.proj", stacked=("experts.gate_up_proj", "experts.down_proj")
        ),
    )  # fmt: skip


FAMILIES = (
    _family("gemma4", "Gemma4", DEFAULTS, _fields),
    _family("gemma4_unified", "Gemma4Unified", UNIFIED, lambda raw: {"final_softcap": raw["final_logit_softcapping"]}),
)
