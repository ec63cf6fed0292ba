"""HunYuan V1: queries and keys are normed after rotation; `alpha` stretches the base of the rotary positions.

With experts (A13B) every layer has a shared one, of the size of the others.
"""

from typing import Any

import numpy as np

from verbatim.reference.checkpoint.config_values import is_number
from verbatim.reference.checkpoint.families.family import ExpertNames, Family, check_known, no_layer
from verbatim.reference.numerics.rotary import power
from verbatim.reference.records.errors import ModelError

ONLY: dict[str, tuple] = {  # what published files say of themselves, and what is computed
    "use_qk_norm": (True,), "use_rotary_pos_emb": (True,), "norm_type": ("rms",), "use_cla": (False,),
}  # fmt: skip
ONLY_EXPERTS: dict[str, tuple] = {
    "use_mixed_mlp_moe": (True,), "moe_layer_num_skipped": (0,), "num_shared_expert": (1,),
    "moe_random_routing_dropped_token": (False,), "moe_drop_tokens": (True, False), "capacity_factor": (1.0,),
    "group_limited_greedy": (False,), "norm_topk_prob": (True,),
}  # fmt: skip
READS = ("attention_bias", "attention_head_dim", *ONLY)


def _prepare(raw: dict) -> dict:
    """config.json with the stretched base in place of `alpha`."""
    check_known(raw, ONLY, "HunYuan's models")
    head_dim, other = raw.get("head_dim"), raw.get("attention_head_dim")
    if other is not None and head_dim is not None and other != head_dim:
        raise ModelError(f"config.json: attention_head_dim must be head_dim, {head_dim}, not {other!r}")
    raw = raw if head_dim is not None else raw | {"head_dim": other}
    for name in ("rope_scaling", "rope_parameters"):
        settings = raw.get(name)
        if isinstance(settings, dict) and settings.get("alpha"):
            return raw | {name: _without_alpha(raw, settings)}
    return raw


def _without_alpha(raw: dict, settings: dict) -> dict:
    """A base of theta * alpha^(d / (d - 2)), whatever the context; the further settings of such files mean nothing."""
    alpha, theta = settings["alpha"], settings.get("rope_theta") or raw.get("rope_theta") or 10000.0
    size = raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"]
    if (settings.get("rope_type") or settings.get("type")) != "dynamic":
        raise ModelError(f"config.json: rotary setting alpha = {alpha!r} is not supported without the type dynamic")
    if not (is_number(alpha) and is_number(theta) and alpha > 0 and theta > 0 and size > 2):
        raise ModelError(f"config.json: rotary setting alpha must be a number above 0, not {alpha!r}")
    return {"rope_type": "default", "rope_theta": float(theta * power(alpha, np.array([size / (size - 2)]))[0])}


def _with_experts(raw: dict) -> dict:
    """The same; the number of experts that a token takes has another name."""
    found = _prepare(raw)
    check_known(found, ONLY_EXPERTS, "HunYuan's models")
    inner, size = found.get("moe_intermediate_size"), found.get("intermediate_size")
    if inner is not None and inner != size:
        raise ModelError(f"config.json: moe_intermediate_size must be intermediate_size, {size!r}, not {inner!r}")
    return found | {"num_experts_per_tok": found.get("moe_topk") or found.get("num_experts_per_tok") or 1}


SHARED: dict[str, Any] = {
    "fixed": {"query_key_norm": "head", "norms_rotated": True}, "slides": no_layer,
    "names": {"self_attn.q_norm": "self_attn.query_layernorm", "self_attn.k_norm": "self_attn.key_layernorm"},
}  # fmt: skip
FAMILIES = (
    Family(
        name="hunyuan_v1_dense",
        architecture="HunYuanDenseV1ForCausalLM",
        prepare=_prepare,
        defaults={"rms_norm_eps": 1e-5},
        reads=READS,
        **SHARED,
    ),
    Family(
        name="hunyuan_v1_moe",
        architecture="HunYuanMoEV1ForCausalLM",
        prepare=_with_experts,
        defaults={"rms_norm_eps": 1e-5, "num_local_experts": 1},
        reads=(*READS, *ONLY_EXPERTS, "moe_topk"),
        listed=("num_experts", "moe_topk", "moe_intermediate_size", "num_shared_expert"),
        has_experts=True,
        normalizes_experts=True,
        routing=lambda raw: {"shared_size": raw["intermediate_size"]},
        experts=ExpertNames(router="gate.wg", shared="shared_mlp"),
        **SHARED,
    ),
)
