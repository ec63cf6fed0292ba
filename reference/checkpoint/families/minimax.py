"""MiniMax M2: sigmoid routing with a learned bias in the choice, norms over all heads, each rotated in part."""

from verbatim.reference.checkpoint.families.family import ExpertNames, Family, check_known, no_layer
from verbatim.reference.records.errors import ModelError

ONLY: dict[str, tuple] = {  # what published files say of themselves, and what is computed
    "qk_norm_type": ("per_layer",), "scoring_func": ("sigmoid",), "shared_moe_mode": ("sigmoid",),
    "use_qk_norm": (True,), "use_routing_bias": (True,), "shared_intermediate_size": (0,),
}  # fmt: skip


def _prepare(raw: dict) -> dict:
    """Files give the number of rotated features. ModelError for layers with linear attention."""
    check_known(raw, ONLY, "MiniMax's models")
    types, rotary_dim = raw.get("attn_type_list") or [], raw.get("rotary_dim")
    if types != [1] * len(types):
        raise ModelError(f"config.json: attn_type_list must hold 1 alone, not {types!r}")
    if rotary_dim is None or raw.get("partial_rotary_factor") is not None:
        return raw
    return raw | {"partial_rotary_factor": rotary_dim / (raw.get("head_dim") or 128)}


FAMILIES = (
    Family(
        name="minimax_m2",
        architecture="MiniMaxM2ForCausalLM",
        prepare=_prepare,
        defaults={
            "rope_theta": 5e6, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 196608,
            "num_local_experts": 256, "num_experts_per_tok": 8, "bos_token_id": 200034, "eos_token_id": 200020,
        },
        reads=("rotary_dim", "attn_type_list", "mlp_intermediate_size", *ONLY),
        fixed={"query_key_norm": "all"},
        slides=no_layer,
        has_experts=True,
        normalizes_experts=True,
        routing=lambda raw: {"routing": "sigmoid"},
        experts=ExpertNames(
            part="block_sparse_moe.", gate="w1", up="w3", down="w2", score_bias="e_score_correction_bias"
        ),
    ),
)  # fmt: skip
