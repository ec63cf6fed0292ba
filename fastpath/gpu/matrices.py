"""Packed matrices on the device: their addresses, stacks of them, and several that share an input."""

from dataclasses import dataclass, replace

from verbatim.fastpath.gpu.formats import GROUP, LAYOUTS, Layout

NOTHING = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMatrix:
    """Device addresses of a packed matrix; 0 for no scales or no bias. `format` is one of LAYOUTS."""

    format: str
    outputs: int
    inputs: int
    weights: int
    scales: int = NOTHING
    bias: int = NOTHING

    @property
    def layout(self) -> Layout:
        """How it lies there."""
        return LAYOUTS[self.format]

    @property
    def num_groups(self) -> int:
        """Groups of 32 inputs."""
        return -(-self.inputs // GROUP)

    @property
    def parts(self) -> tuple["DeviceMatrix", ...]:
        """Itself, as the one part of a product."""
        return (self,)

    @property
    def takes_integers(self) -> bool:
        """Whether its products take rounded rows (N4)."""
        return self.layout.takes_integers

    def part(self, number: int) -> "DeviceMatrix":
        """Matrix `number` of a stack of such matrices."""
        sizes = {
            "weights": self.layout.weight_bytes(self.outputs, self.inputs),
            "scales": self.layout.scale_bytes(self.outputs, self.inputs), "bias": 4 * self.outputs,
        }  # fmt: skip
        own = {name: getattr(self, name) + number * size for name, size in sizes.items() if getattr(self, name)}
        return replace(self, **own)


@dataclass(frozen=True, slots=True)
class Joined:
    """Matrices with the same input, whose outputs lie side by side: a product for each, of a format of its own."""

    parts: tuple[DeviceMatrix, ...]

    @property
    def outputs(self) -> int:
        """Those of all parts."""
        return sum(part.outputs for part in self.parts)

    @property
    def inputs(self) -> int:
        """The same for all."""
        return self.parts[0].inputs

    @property
    def takes_integers(self) -> bool:
        """Whether any of the products takes rounded rows (N4)."""
        return any(part.takes_integers for part in self.parts)

    def part(self, number: int) -> "Joined":
        """Matrices `number` of stacks."""
        return Joined(tuple(part.part(number) for part in self.parts))
