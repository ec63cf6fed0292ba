"""LFM2: gated short convolutions in the place of attention in most layers (N14a)."""

from typing import Any

from verbatim.reference.checkpoint.families.family import ExpertNames, Family, check_known, no_layer
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.mixer import ShortConvolution

KNOWN: dict[str, tuple] = {"block_use_swiglu": (True,), "use_pos_enc": (True,), "use_expert_bias": (True,)}
SAME_AS = {"conv_dim": "hidden_size", "conv_dim_out": "hidden_size", "block_dim": "hidden_size",
           "num_heads": "num_attention_heads", "block_norm_eps": "norm_eps"}  # fmt: skip
OLDER = {"block_ff_dim": "intermediate_size", "tie_embedding": "tie_word_embeddings"}  # names that have precedence
DEFAULTS: dict[str, Any] = {
    "max_position_embeddings": 128000, "rope_theta": 1000000.0, "tie_word_embeddings": True, "conv_L_cache": 3,
    "conv_bias": False, "norm_eps": 1e-5, "num_key_value_heads": 8,
}  # fmt: skip
LAYER_TYPES = {"conv": {"has_attention": False, "has_mixer": True}}
NAMES = {
    "input_layernorm": "operator_norm", "post_attention_layernorm": "ffn_norm", "norm": "embedding_norm",
    "self_attn.q_norm": "self_attn.q_layernorm", "self_attn.k_norm": "self_attn.k_layernorm",
    "self_attn.o_proj": "self_attn.out_proj", "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
}  # fmt: skip


def _prepare(raw: dict) -> dict[str, Any]:
    """In the common spelling: the inner size that results from the given one, and what each layer is."""
    found = _common(raw)
    return found | {"intermediate_size": _inner_size(found), "layer_types": _layer_types(found)}


def _prepare_experts(raw: dict) -> dict[str, Any]:
    """The same of the model with experts, behind its first few layers; inner sizes are as given."""
    found = _common(raw)
    num_dense = found.get("num_dense_layers")
    return found | {"mlp_only_layers": list(range(2 if num_dense is None else num_dense))}


def _common(raw: dict) -> dict[str, Any]:
    check_known(raw, KNOWN, "LFM2")
    raw = raw | {name: raw[older] for older, name in OLDER.items() if raw.get(older) is not None}
    for name, other in SAME_AS.items():
        whole = (DEFAULTS | raw).get(other)
        if raw.get(name) is not None and raw[name] != whole:
            raise ModelError(f"config.json: {name} = {raw[name]!r} is not supported: {other} is {whole!r}")
    found = {name: value for name, value in raw.items() if name not in (*KNOWN, *SAME_AS, *OLDER)}
    found["rms_norm_eps"] = found.pop("norm_eps", None) or DEFAULTS["norm_eps"]
    return found


def _inner_size(raw: dict) -> Any:
    """The size of the feed-forward networks: two thirds of the given one, times a factor, rounded up to a multiple."""
    size, factor = raw.get("intermediate_size"), raw.get("block_ffn_dim_multiplier", 1.0)
    if raw.get("block_auto_adjust_ff_dim") is False or not isinstance(size, int):
        return size
    multiple = raw.get("block_multiple_of") or 256
    size = int(2 * size / 3)
    if factor is None:
        return size
    return -(-int(factor * size) // multiple) * multiple


def _layer_types(raw: dict) -> list[str] | None:
    listed, attending, num_layers = raw.get("layer_types"), raw.get("full_attn_idxs"), raw.get("num_hidden_layers")
    if listed or attending is None or not isinstance(num_layers, int):
        return listed
    return ["full_attention" if index in attending else "conv" for index in range(num_layers)]


def _fields(raw: dict) -> dict[str, Any]:
    sizes = ShortConvolution(channels=raw["hidden_size"], length=raw["conv_L_cache"], has_bias=bool(raw["conv_bias"]))
    return {"query_key_norm": "head", "mixer": sizes}


FAMILIES = (
    Family(
        name="lfm2",
        architecture="Lfm2ForCausalLM",
        prepare=_prepare,
        defaults=DEFAULTS,
        reads=(
            "norm_eps", "conv_L_cache", "conv_bias", "full_attn_idxs", "block_auto_adjust_ff_dim",
            "block_ffn_dim_multiplier", "block_multiple_of", *KNOWN, *SAME_AS, *OLDER,
        ),
        fields=_fields,
        slides=no_layer,
        layer_types=LAYER_TYPES,
        names=NAMES,
    ),
    Family(
        name="lfm2_moe",
        architecture="Lfm2MoeForCausalLM",
        prepare=_prepare_experts,
        defaults=DEFAULTS | {
            "num_local_experts": 32, "num_experts_per_tok": 4, "moe_intermediate_size": 1792, "norm_topk_prob": True,
            "routed_scaling_factor": 1.0,
        },
        reads=(
            "norm_eps", "conv_L_cache", "conv_bias", "num_dense_layers", "routed_scaling_factor", *KNOWN, *SAME_AS,
            *OLDER,
        ),
        fields=_fields,
        routing=lambda raw: {
            "routing": "sigmoid", "scale": float(raw["routed_scaling_factor"]), "least_sum": 1e-6,
        },
        slides=no_layer,
        has_experts=True,
        experts=ExpertNames(part="feed_forward.", score_bias="expert_bias", gate="w1", up="w3", down="w2"),
        layer_types=LAYER_TYPES,
        names=NAMES,
    ),
)  # fmt: skip
