"""Falcon H1: attention and a state space (N15) side by side in each layer, and many constant factors.

Those of attention's input and keys are in its scale, those of its input and output in the factor of its output. That
of the state space's input multiplies what its first matrix makes.
"""

from typing import Any

from verbatim.reference.checkpoint import mamba_settings
from verbatim.reference.checkpoint.config_values import is_number
from verbatim.reference.checkpoint.families.bamba import NAMES
from verbatim.reference.checkpoint.families.family import Family, check_known, no_layer
from verbatim.reference.records.errors import ModelError

KNOWN: dict[str, tuple] = {
    "hidden_act": ("silu",), "mamba_use_mlp": (True,), "attn_layer_indices": ([],),
}  # fmt: skip
FACTORS = (
    "embedding_multiplier", "lm_head_multiplier", "key_multiplier", "attention_in_multiplier",
    "attention_out_multiplier", "ssm_in_multiplier", "ssm_out_multiplier",
)  # fmt: skip
LISTED = {"mlp_multipliers": 2, "ssm_multipliers": 5}  # of gate and down; of gates, values, inward, outward and steps
BIASES = {  # which a factor of the input would multiply here, and does not in the model
    "attention_bias": ("attention_in_multiplier", "key_multiplier"), "mamba_proj_bias": ("ssm_in_multiplier",),
}  # fmt: skip


def _prepare(raw: dict) -> dict[str, Any]:
    """In the common spelling. ModelError for factors that are no numbers, or that would multiply a bias, too."""
    check_known(raw, KNOWN, "'falcon_h1'")
    for name in FACTORS:
        if raw.get(name) is not None and (not is_number(raw[name]) or raw[name] <= 0):
            raise ModelError(f"config.json: {name} must be a number above 0, not {raw[name]!r}")
    for name, count in LISTED.items():
        value = raw.get(name)
        if value is not None and not (isinstance(value, list) and len(value) == count and all(map(is_number, value))):
            raise ModelError(f"config.json: {name} must be a list of {count} numbers, not {value!r}")
    for bias, names in BIASES.items():
        if raw.get(bias) and any(raw.get(name) not in (None, 1) for name in names):
            raise ModelError(f"config.json: {bias} = {raw[bias]!r} is not supported beside {' and '.join(names)}")
    num_layers = raw.get("num_hidden_layers")
    found = raw | {"layer_types": ["hybrid"] * num_layers if isinstance(num_layers, int) else None}
    return found | ({"mamba_d_ssm": 0} if "mamba_d_ssm" in raw and raw["mamba_d_ssm"] is None else {})


def _fields(raw: dict) -> dict[str, Any]:
    """Sizes and factors."""
    gate, down = raw["mlp_multipliers"]
    entry, head_dim = float(raw["attention_in_multiplier"]), raw.get("head_dim")
    head_dim = head_dim or raw["hidden_size"] // raw["num_attention_heads"]
    norm = ("before" if raw["mamba_norm_before_gate"] else "after") if raw["mamba_rms_norm"] else None
    sizes = mamba_settings.read_mamba_sizes(
        raw, inner_size=raw["mamba_d_ssm"], norm=norm, has_output_bias=bool(raw["projectors_bias"]),
        factors=tuple(float(raw["ssm_in_multiplier"]) * factor for factor in raw["ssm_multipliers"]),
        output_scale=float(raw["ssm_out_multiplier"]),
    )  # fmt: skip
    return {
        "mixer": sizes, "embedding_scale": float(raw["embedding_multiplier"]),
        "logits_divisor": 1 / float(raw["lm_head_multiplier"]), "gate_scale": float(gate),
        "feed_forward_scale": float(down), "attention_out_scale": entry * float(raw["attention_out_multiplier"]),
        "attention_scale": head_dim**-0.5 * entry * entry * float(raw["key_multiplier"]),
    }  # fmt: skip


FAMILIES = (
    Family(
        name="falcon_h1",
        architecture="FalconH1ForCausalLM",
        prepare=_prepare,
        defaults=mamba_settings.DEFAULTS | dict.fromkeys(FACTORS, 1.0) | {
            "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "max_position_embeddings": 8192, "mamba_d_ssm": 1024,
            "mamba_norm_before_gate": True, "mamba_rms_norm": False, "projectors_bias": False,
            "mlp_multipliers": [1.0, 1.0], "ssm_multipliers": [1.0] * 5,
        },
        reads=(
            *mamba_settings.READS, *FACTORS, *LISTED, *KNOWN, "mamba_d_ssm", "mamba_norm_before_gate", "mamba_rms_norm",
            "projectors_bias", "attention_bias", "mlp_bias", "mlp_expansion_factor",
        ),
        fields=_fields,
        slides=no_layer,
        layer_types={"hybrid": {"has_mixer": True}},
        names=NAMES,
    ),
)  # fmt: skip
