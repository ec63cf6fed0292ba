"""Qwen3-Next and Qwen 3.5: gated delta nets (N16) in most layers, attention with a gate behind it in the others.

Of Qwen 3.5, whose published models have images, the text part is read. Layers of multi-token prediction (`mtp.`) are
left aside. For text alone the three positions of a token are one, whatever `mrope_section` says.
"""

from typing import Any

from verbatim.reference.checkpoint.families.family import ExpertNames, Family, check_known, no_layer, text_part
from verbatim.reference.records.gated_delta import SIZES, GatedDelta

KNOWN: dict[str, tuple] = {
    "hidden_act": ("silu",), "attn_output_gate": (True,), "output_gate_type": ("swish", "silu"),
    "mamba_ssm_dtype": ("float32",),
}  # fmt: skip
ALL_LAYERS: dict[str, tuple] = {"mlp_only_layers": ([],), "decoder_sparse_step": (1,), "norm_topk_prob": (True,)}
READS = ("attention_bias", "full_attention_interval", *SIZES.values(), *KNOWN)
DEFAULTS: dict[str, Any] = {
    "head_dim": 256, "max_position_embeddings": 32768, "partial_rotary_factor": 0.25, "full_attention_interval": 4,
    "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
EXPERTS: dict[str, Any] = {
    "num_key_value_heads": 2, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
}  # fmt: skip
TEXT = {"vocab_size": 248320, "num_attention_heads": 16}  # what a text_config may leave out
DENSE_TEXT = TEXT | {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 32}
EXPERTS_TEXT = TEXT | {"hidden_size": 2048, "num_hidden_layers": 40}
TILED = "linear_is_tiled"  # of GGUF files; no config.json says it
MIXER = {"has_attention": False, "has_mixer": True}


def _prepare(raw: dict, whose: str) -> dict[str, Any]:
    """config.json in the common spelling, with what each layer is."""
    check_known(raw, KNOWN, whose)
    interval, num_layers = raw.get("full_attention_interval") or 4, raw.get("num_hidden_layers")
    if raw.get("layer_types") or not isinstance(num_layers, int) or not isinstance(interval, int):
        return raw
    types = ["linear_attention" if (i + 1) % interval else "full_attention" for i in range(num_layers)]
    return raw | {"layer_types": types}


def _next(raw: dict) -> dict[str, Any]:
    return _prepare(raw, "'qwen3_next'")


def _dense(raw: dict) -> dict[str, Any]:
    return _prepare((DENSE_TEXT if "text_config" in raw else {}) | text_part(raw), "'qwen3_5'")


def _mixture(raw: dict) -> dict[str, Any]:
    """All layers have experts, whose weights are always normalised; the feed-forward size is that of an expert."""
    found = (EXPERTS_TEXT if "text_config" in raw else {}) | text_part(raw)
    check_known(found, ALL_LAYERS, "'qwen3_5_moe'")
    size = found.get("moe_intermediate_size") or EXPERTS["moe_intermediate_size"]
    return _prepare(found | {"intermediate_size": found.get("intermediate_size") or size}, "'qwen3_5_moe'")


def _fields(raw: dict, *, is_grouped: bool) -> dict[str, Any]:
    sizes = {field: raw[name] for field, name in SIZES.items()}
    mixer = GatedDelta(**sizes, is_grouped=is_grouped, is_tiled=bool(raw.get(TILED)))
    return {"query_key_norm": "head", "norm_offset": 1.0, "has_output_gate": True, "mixer": mixer}


def _next_fields(raw: dict) -> dict[str, Any]:
    return _fields(raw, is_grouped=True)


def _later_fields(raw: dict) -> dict[str, Any]:
    return _fields(raw, is_grouped=False)


def _shared_expert(raw: dict) -> dict[str, Any]:
    return {"shared_size": raw["shared_expert_intermediate_size"], "has_shared_gate": True}


FAMILIES = (
    Family(
        name="qwen3_next",
        architecture="Qwen3NextForCausalLM",
        prepare=_next,
        defaults=DEFAULTS | EXPERTS | {"num_local_experts": 512, "num_experts_per_tok": 10},
        reads=(*READS, "shared_expert_intermediate_size"),
        fields=_next_fields,
        slides=no_layer,
        layer_types={"linear_attention": MIXER},
        has_experts=True,
        normalizes_experts=True,
        routing=_shared_expert,
    ),
    Family(
        name="qwen3_5",
        architecture="Qwen3_5ForCausalLM",
        aliases=("Qwen3_5ForConditionalGeneration",),
        model_types=("qwen3_5_text", "qwen3_5"),
        prepare=_dense,
        defaults=DEFAULTS | {"num_key_value_heads": 4},
        reads=READS,
        fields=_later_fields,
        slides=no_layer,
        layer_types={"linear_attention": MIXER},
    ),
    Family(
        name="qwen3_5_moe",
        architecture="Qwen3_5MoeForCausalLM",
        aliases=("Qwen3_5MoeForConditionalGeneration",),
        model_types=("qwen3_5_moe_text", "qwen3_5_moe"),
        prepare=_mixture,
        defaults=DEFAULTS | EXPERTS | {"num_local_experts": 256, "num_experts_per_tok": 8},
        reads=(*READS, "shared_expert_intermediate_size"),
        fields=_later_fields,
        slides=no_layer,
        layer_types={"linear_attention": MIXER},
        has_experts=True,
        normalizes_experts=True,
        routing=_shared_expert,
        experts=ExpertNames(stacked=("experts.gate_up_proj", "experts.down_proj")),
    ),
)
