"""What config.json says of the state space of a hybrid model (N15), in the words that several families share."""

from typing import Any

from verbatim.reference.checkpoint.config_values import is_number
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.mamba import Mamba

READS = (
    "mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state", "mamba_d_conv", "mamba_expand",
    "mamba_chunk_size", "mamba_conv_bias", "mamba_proj_bias", "time_step_limit",
)  # fmt: skip
DEFAULTS: dict[str, Any] = {
    "mamba_n_heads": 128, "mamba_d_head": "auto", "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_conv": 4,
    "mamba_expand": 2, "mamba_conv_bias": True, "mamba_proj_bias": False, "time_step_limit": [0.0, float("inf")],
}  # fmt: skip
INFINITY = {str({"__float__": "Infinity"}): float("inf")}  # as transformers 5 writes it
IN_PLACE = {"has_attention": False, "has_mixer": True}  # a layer with a state space in the place of attention
LAYER_TYPES = {"mamba": IN_PLACE, "linear_attention": IN_PLACE, "attention": {}, "full_attention": {}}
PARTS = ("in_proj", "out_proj", "conv1d.weight", "conv1d.bias", "dt_bias", "A_log", "A", "D", "norm.weight")


def read_mamba_sizes(raw: dict, *, inner_size: int | None = None, **changes: Any) -> Mamba:
    """The sizes of a hybrid's state spaces; `inner_size` is that of all heads, where config.json has one of its own."""
    heads, head_dim = raw["mamba_n_heads"], raw["mamba_d_head"]
    inner_size = inner_size or inner_size_of(raw["mamba_expand"], raw["hidden_size"])
    head_dim = inner_size // heads if head_dim == "auto" else head_dim
    check_heads(heads, head_dim, inner_size)
    has_bias = bool(raw["mamba_proj_bias"])
    sizes: dict[str, Any] = {
        "num_heads": heads, "head_dim": head_dim, "state_rows": raw["mamba_d_state"],
        "num_groups": raw["mamba_n_groups"], "width": raw["mamba_d_conv"], "norm_epsilon": float(raw["rms_norm_eps"]),
        "step_bounds": step_bounds(raw), "has_input_bias": has_bias, "has_output_bias": has_bias,
        "has_convolution_bias": bool(raw["mamba_conv_bias"]),
    }  # fmt: skip
    return Mamba(**sizes | changes)


def mixer_of_some_layers(raw: dict) -> dict[str, Any]:
    """The field of ModelConfig; nothing where all layers attend."""
    has_any = any(LAYER_TYPES.get(name) is IN_PLACE for name in raw["layer_types"])
    return {"mixer": read_mamba_sizes(raw)} if has_any else {}


def inner_size_of(expand: Any, hidden: int) -> int:
    """The features of all heads: `expand` times the hidden size."""
    if not is_number(expand) or expand <= 0:
        raise ModelError(f"config.json: expand of the state space must be a number above 0, not {expand!r}")
    return int(expand * hidden)


def check_heads(heads: int, head_dim: Any, inner_size: int) -> None:
    """ModelError where the heads do not have the features that follow from other fields."""
    is_integer = isinstance(head_dim, int) and not isinstance(head_dim, bool)
    if not is_integer or head_dim < 1 or heads * head_dim != inner_size:
        raise ModelError(
            f"config.json: {heads} heads of a state space of {head_dim!r} features each do not make {inner_size}"
        )


def step_bounds(raw: dict) -> tuple[float, float]:
    """The least and the greatest step."""
    value = raw["time_step_limit"]
    bounds: list[Any] = [INFINITY.get(str(x), x) for x in value] if isinstance(value, list | tuple) else []
    if len(bounds) != 2 or not all(isinstance(x, int | float) and not isinstance(x, bool) for x in bounds):
        raise ModelError(f"config.json: time_step_limit must be two numbers, not {value!r}")
    return float(bounds[0]), float(bounds[1])


def part_names(stem: str) -> dict[str, str]:
    """The names of a state space's tensors in a layer where they stand behind another word."""
    return {f"mamba.{part}": f"{stem}.{part}" for part in PARTS}
