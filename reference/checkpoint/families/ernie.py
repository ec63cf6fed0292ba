"""Ernie 4.5: Llama with rotary positions in pairs of neighbours, and with biases or without; with experts or without.

Experts are chosen by their share of the softmax plus a learned bias (N9); some further ones serve every token.
"""

from typing import Any

from verbatim.reference.checkpoint.families.family import ExpertNames, Family, check_known, no_layer
from verbatim.reference.records.errors import ModelError

DEFAULTS: dict[str, Any] = {
    "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": True, "max_position_embeddings": 131072,
    "use_bias": False,
}  # fmt: skip
ONLY: dict[str, tuple] = {"moe_gate": ("topk",), "moe_use_aux_free": (True,), "moe_norm_min": (1e-12,)}
PLACES = ("moe_layer_start_index", "moe_layer_end_index", "moe_layer_interval")


def _with_experts(raw: dict) -> dict:
    """In the common spelling: the layers without experts are listed."""
    check_known(raw, ONLY, "Ernie's models")
    if raw.get("use_bias"):
        raise ModelError("config.json: use_bias = True is not supported for 'ernie4_5_moe'")
    num_layers = raw.get("num_hidden_layers")
    if not isinstance(num_layers, int):
        return raw  # refused by name later
    first, last, step = (raw.get(name) for name in PLACES)
    first, last = 1 if first is None else first, num_layers - 1 if last in (None, -1) else last
    dense = [i for i in range(num_layers) if (i + 1) % (step or 1) or not first <= i <= last]
    count, chosen = raw.get("moe_num_experts"), raw.get("moe_k")
    return raw | {
        "num_local_experts": 64 if count is None else count, "num_experts_per_tok": 6 if chosen is None else chosen,
        "mlp_only_layers": dense,
    }  # fmt: skip


def _biases(raw: dict) -> dict[str, bool]:
    return dict.fromkeys(("query_bias", "output_bias", "mlp_bias"), bool(raw["use_bias"]))


def _routing(raw: dict) -> dict[str, Any]:
    return {"shared_size": raw["moe_num_shared_experts"] * raw["moe_intermediate_size"], "has_score_bias": True}


FAMILIES = (
    Family(
        name="ernie4_5",
        architecture="Ernie4_5ForCausalLM",
        defaults=DEFAULTS | {"num_key_value_heads": 2, "head_dim": 128},
        reads=("use_bias",),
        fields=_biases,
        slides=no_layer,
        has_pairs=True,
    ),
    Family(
        name="ernie4_5_moe",
        architecture="Ernie4_5_MoeForCausalLM",
        prepare=_with_experts,
        defaults=DEFAULTS | {"num_key_value_heads": 4, "moe_intermediate_size": 1536, "moe_num_shared_experts": 2},
        reads=("use_bias", "moe_num_experts", "moe_k", "moe_num_shared_experts", "moe_capacity", *PLACES, *ONLY),
        routing=_routing,
        slides=no_layer,
        has_pairs=True,
        has_experts=True,
        normalizes_experts=True,
        experts=ExpertNames(
            score_bias="moe_statics.e_score_correction_bias", score_bias_rows=True, shared="shared_experts"
        ),
    ),
)
