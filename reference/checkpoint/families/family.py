"""What sets a model family apart: how its config.json reads, and where its tensor names differ.

Each file beside this one describes a family, or several that belong together, as `FAMILIES`. A new family is one new
file: nothing else names it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


def no_scales(raw: dict) -> dict[str, float]:
    """No constant factors."""
    return {}


def every_layer(raw: dict, num_layers: int) -> list[bool]:
    """Where config.json gives a window, every layer has it."""
    return [True] * num_layers


def no_layer(raw: dict, num_layers: int) -> list[bool]:
    """A window in config.json is ignored."""
    return [False] * num_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertNames:
    """How the tensors of a mixture of experts are called within a layer."""

    part: str = "mlp."
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One architecture.

    `fixed` are fields of ModelConfig that hold whatever config.json says, `defaults` fields of config.json that its
    files may leave out, `scales` the constant factors as ModelConfig names them. `slides` says which layers have the
    window, where config.json does not list them itself.
    """

    name: str
    architecture: str
    fixed: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    scales: Callable[[dict], dict[str, float]] = no_scales
    slides: Callable[[dict, int], list[bool]] = every_layer
    normalizes_experts: bool = False  # unless config.json says otherwise
    experts: ExpertNames = ExpertNames()
