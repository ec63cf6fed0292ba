"""What all parts of a decoder on a device share: scratch memory, products, norms, and what an observer sees."""

from verbatim.fastpath.gpu.matrices import NOTHING, DeviceMatrix, Joined
from verbatim.fastpath.gpu.operations import NOWHERE, Operations
from verbatim.fastpath.gpu.support import check_support
from verbatim.fastpath.gpu.weights import DeviceWeights


class Products:
    """A model's weights and scratch memory on a device, with the operations of single rows.

    `watch`, once set, is called with (layer or None, operation, rows); see reference/model/decoder.py.
    """

    def __init__(self, device, config, checkpoint, quantization: str | None):
        check_support(config)
        self.device, self.config, self.watch = device, config, None
        self.operations = Operations(device.launch)
        self.weights = DeviceWeights(device, config, checkpoint, quantization)
        self._memory, self._capacity = {}, {}

    def scratch(self, name: str, num_bytes: int) -> int:
        """The address of at least that much scratch memory; its former content may be lost."""
        if self._capacity.get(name, -1) < num_bytes:
            self.forget_graphs()  # they contain the old address
            self.device.synchronize()
            self._memory.pop(name, None)
            self._memory[name] = self.device.allocate(num_bytes, f"scratch memory ({name})")
            self._capacity[name] = num_bytes
        return int(self._memory[name])

    def forget_graphs(self) -> None:
        """Drop everything that contains addresses of scratch memory, which is about to move."""

    def rounding(self, matrix: DeviceMatrix | Joined, at) -> tuple[int, int]:
        """Where a kernel also writes the rounded rows of a product (N4): NOWHERE for floats, or with an observer."""
        return (at["integers"], at["scales"]) if matrix.takes_integers and not self.watch else NOWHERE

    def operand(self, matrix: DeviceMatrix | Joined, x: int, at, rows: int, rounded=NOWHERE) -> tuple[int, int, int]:
        """A product's input: rows of x, their integers and scales, computed here unless `rounded` has them (N4)."""
        if matrix.takes_integers and rounded == NOWHERE:
            self.operations.quantize(x, at["integers"], at["scales"], rows=rows, inputs=matrix.inputs)
            rounded = at["integers"], at["scales"]
        return (x, *rounded)

    def multiply(
        self, matrix: DeviceMatrix | Joined, x: int, y: int, at, rows: int, *, rounded=NOWHERE, **after
    ) -> None:
        """Y = x times the matrix transposed (N3, N4)."""
        self.multiply_parts(matrix, self.operand(matrix, x, at, rows, rounded), y, rows, **after)

    def multiply_parts(
        self, matrix: DeviceMatrix | Joined, operand: tuple[int, int, int], y: int, rows: int, **after
    ) -> None:
        """A product for each part of the matrix, of what `operand` returned; their outputs lie side by side."""
        for part in matrix.parts:
            x = operand[1:] if part.takes_integers else (operand[0], NOTHING)
            self.operations.linear(part, *x, y, rows=rows, width=matrix.outputs, **after)
            y += 4 * part.outputs

    def norm(
        self, weight: int, x: int, y: int, rows: int, index=None, name: str = "", *, bias: int = NOTHING,
        wanted: int = NOTHING, rounded=NOWHERE,
    ) -> None:  # fmt: skip
        """Norm rows (N5), or copy them where the family has no norm here; with `wanted`, only those rows."""
        hidden, options = self.config.hidden_size, {"wanted": wanted, "rounded": rounded, "bias": bias}
        self.operations.norm(
            x, weight, y, rows=rows, size=hidden, epsilon=self.config.norm_epsilon, norm_type=self.config.norm_type,
            **options,
        )  # fmt: skip
        if name:
            self.show(index, name, y, rows, hidden)

    def show(self, index: int | None, name: str, address: int, rows: int, width: int) -> None:
        """Let the observer read or change an intermediate result."""
        self.show_parts(index, {name: (0, width)}, address, rows, width)

    def show_parts(self, index: int | None, cuts: dict[str, tuple[int, int]], address: int, rows: int, width: int):
        """Let the observer read or change several named parts of the rows."""
        if self.watch:
            array = self.device.read(address, (rows, width))
            for name, (start, stop) in cuts.items():
                self.watch(index, name, array[:, start:stop])
            self.device.write(address, array)
