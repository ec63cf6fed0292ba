"""GLM 4: rotary positions on half of each head, in pairs of neighbours; gate and up in one matrix.

GLM-4-0414 has norms around each half of a layer besides.
"""

from typing import Any

from verbatim.reference.checkpoint.families.family import Family, no_layer

END = [151329, 151336, 151338]
DEFAULTS: dict[str, Any] = {
    "rms_norm_eps": 1.5625e-7, "num_key_value_heads": 2, "head_dim": 128, "attention_bias": True,
    "max_position_embeddings": 131072, "partial_rotary_factor": 0.5, "bos_token_id": None,
}  # fmt: skip
SHARED: dict[str, Any] = {
    "defaults": DEFAULTS, "reads": ("attention_bias",), "slides": no_layer, "has_pairs": True, "has_fused_gate": True,
}  # fmt: skip


def _prepare(raw: dict) -> dict:
    """Files without end-of-sequence ids have those of the family."""
    return raw if raw.get("eos_token_id") is not None else raw | {"eos_token_id": END}


FAMILIES = (
    Family(
        name="glm", architecture="GlmForCausalLM", prepare=_prepare, fixed={"output_bias": False}, **SHARED,
    ),
    Family(
        name="glm4",
        architecture="Glm4ForCausalLM",
        prepare=_prepare,
        fixed={"output_bias": False, "norms": "around"},
        names={
            "post_attention_layernorm": "post_self_attn_layernorm",
            "pre_feedforward_layernorm": "post_attention_layernorm",
            "post_feedforward_layernorm": "post_mlp_layernorm",
        },
        **SHARED,
    ),
)  # fmt: skip
