"""The layers of a decoder as launches on a stream (N3 to N9), without a wait, so that a forward pass can be a graph.

The order of operations is that of fastpath/model/forward.pyx. Without an observer, the kernel that computes a
sublayer's output also adds the residual: the same two roundings.
"""

from verbatim.fastpath.gpu.batch import Shape
from verbatim.fastpath.gpu.formats import WARP
from verbatim.fastpath.gpu.matrices import DeviceMatrix, Joined
from verbatim.fastpath.gpu.operations import MOST_ROWS, NOWHERE, Heads, Operations
from verbatim.fastpath.gpu.support import check_support
from verbatim.fastpath.gpu.weights import DeviceLayer, DeviceWeights, Gated
from verbatim.fastpath.model.attention import LOG2E, query_scale

PARTS_BYTES = 256 << 20  # scratch for blocks of keys in parallel; a pass that needs more computes them in order


class Decoder:
    """All layers of a model, between the embedding and the final norm, with their scratch memory.

    `watch`, once set, is called with (layer or None, operation, rows); see reference/model/decoder.py.
    """

    def __init__(self, device, config, checkpoint, quantization: str | None):
        check_support(config)
        self.device, self.config, self.watch = device, config, None
        self.operations = Operations(device.launch)
        self.weights = DeviceWeights(device, config, checkpoint, quantization)
        cap = config.attention_softcap
        self.heads = Heads(
            heads=config.num_heads, kv_heads=config.num_kv_heads, head_dim=config.head_dim,
            scale=float(query_scale(config.head_dim, config.attention_scale, cap)),
            cap=cap or 0.0, scaled_cap=(cap or 0.0) * LOG2E,
        )  # fmt: skip
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

    def reserve(self, shape: Shape) -> dict[str, int]:
        """Allocate scratch memory for a pass of that shape; returns addresses by name."""
        sizes = scratch_sizes(self.config, shape.rows)
        return {name: self.scratch(name, size) for name, size in sizes.items()}

    def run_layers(self, at: dict[str, int], shape: Shape, cache, places, parts: int) -> None:
        """Run all rows of at["x"] through all layers, in place."""
        for index, layer in enumerate(self.weights.layers):
            self._attend(layer, index, at, shape, cache, places, parts)
            self.show(index, "after attention", at["x"], shape.rows, self.config.hidden_size)
            self._feed_forward(layer, index, at, shape.rows)
            self.show(index, "after mlp", at["x"], shape.rows, self.config.hidden_size)

    def _attend(self, layer: DeviceLayer, index: int, at, shape: Shape, cache, places, parts: int) -> None:
        """Store the batch's keys and values, attend to each token's own sequence, add the result to x."""
        rows, config, ops = shape.rows, self.config, self.operations
        queries, width = config.num_heads * config.head_dim, self.heads.stride
        keys = config.num_kv_heads * config.head_dim
        rounded = self.rounding(layer.inputs, at)
        self.norm(layer.norms["attention_norm"], at["x"], at["normed"], rows, index, "attention norm", rounded=rounded)
        self.multiply(layer.inputs, at["normed"], at["mixed"], at, rows, rounded=rounded)
        cuts = {"query": (0, queries), "key": (queries, queries + keys), "value": (queries + keys, width)}
        self.show_parts(index, cuts, at["mixed"], rows, width)
        self._norm_heads(layer.norms["query_norm"], at["mixed"], rows, config.num_heads)
        self._norm_heads(layer.norms["key_norm"], at["mixed"] + 4 * queries, rows, config.num_kv_heads)
        stored = cache.addresses(index)
        ops.rotate_and_store(at["mixed"], places, layer.table, *stored, self.heads, rows=rows, dtype=cache.dtype)
        rotated = {"rotated query": cuts["query"], "rotated key": cuts["key"]}
        self.show_parts(index, rotated, at["mixed"], rows, width)
        rounded = self.rounding(layer.output, at) if parts and config.head_dim % WARP == 0 else NOWHERE
        ops.attend(
            at["mixed"], *stored, places, at["attended"], self.heads, rows=rows, window=layer.window,
            sinks=layer.sinks, parts=parts, key_blocks=shape.key_blocks, dtype=cache.dtype, rounded=rounded,
        )  # fmt: skip
        self.show(index, "attention", at["attended"], rows, queries)
        self._add(layer.output, layer.norms["attention_out_norm"], at["attended"], at, rows, index, "output", rounded)

    def _feed_forward(self, layer: DeviceLayer, index: int, at, rows: int) -> None:
        """Add the feed-forward network of the normed rows, dense or a mixture of experts, to x."""
        part = layer.stack or layer.parts[0]
        are_all = layer.stack and rows > MOST_ROWS  # each expert's gated rows overwrite the rounded input
        rounded = NOWHERE if are_all else self.rounding(part.gate_and_up, at)
        self.norm(layer.norms["mlp_norm"], at["x"], at["normed"], rows, index, "mlp norm", rounded=rounded)
        if layer.stack:
            self._weigh(layer, index, at, rows)
            (self._mix_all if are_all else self._mix_chosen)(layer, at, rows, rounded)
            self.show(index, "experts", at["projected"], rows, self.config.hidden_size)
            self._add_projected(layer.norms["mlp_out_norm"], at, rows)
            return
        operand = self.operand(part.gate_and_up, at["normed"], at, rows, rounded)
        rounded = self._gate(part, operand, at, rows)
        self._add(part.down, layer.norms["mlp_out_norm"], at["gated"], at, rows, index, "mlp", rounded)

    def _gate(self, part: Gated, operand: tuple[int, int, int], at, rows: int, **choice) -> tuple[int, int]:
        """Write activation(gate(x)) * up(x) to at["gated"]; returns the addresses of its rounded rows."""
        rounded = self.rounding(part.down, at)
        self._products(part.gate_and_up, operand, at["both"], rows, **choice)
        self.operations.gate(
            self.config.activation, at["both"], at["gated"], rows=rows, intermediate=part.intermediate, rounded=rounded
        )  # fmt: skip
        return rounded

    def _weigh(self, layer: DeviceLayer, index: int, at, rows: int) -> None:
        """Compute the router's scores, each expert's gate for each row, and the chosen experts (N9)."""
        settings = self.config.experts
        self.multiply(layer.router, at["normed"], at["scores"], at, rows)
        self.show(index, "router", at["scores"], rows, settings.num_experts)
        self.operations.weigh_experts(
            at["scores"], at["gates"], at["chosen"], rows=rows, experts=settings.num_experts,
            per_token=settings.num_per_token, is_normalized=settings.is_normalized,
        )  # fmt: skip

    def _mix_chosen(self, layer: DeviceLayer, at, rows: int, rounded) -> None:
        """Compute each of a few rows with its chosen experts; no other expert's weights are read."""
        settings, stack = self.config.experts, layer.stack
        slots, choice = rows * settings.num_per_token, {"chosen": at["chosen"]}
        operand = self.operand(stack.gate_and_up, at["normed"], at, rows, rounded)
        rounded = self._gate(stack, operand, at, slots, share=settings.num_per_token, **choice)
        self.multiply(stack.down, at["gated"], at["expert"], at, slots, rounded=rounded, **choice)
        self.operations.add_chosen(
            at["projected"], at["expert"], at["gates"], at["chosen"], rows=rows, experts=settings.num_experts,
            per_token=settings.num_per_token, hidden=self.config.hidden_size,
        )  # fmt: skip

    def _mix_all(self, layer: DeviceLayer, at, rows: int, rounded) -> None:
        """Run each expert on the rows that chose it; add weighted outputs in ascending id from +0."""
        ops, stride, hidden = self.operations, self.config.experts.num_experts, self.config.hidden_size
        self.device.clear(at["projected"], 4 * rows * hidden)
        for number, part in enumerate(layer.parts):
            choice = {"gates": at["gates"] + 4 * number, "stride": stride}
            operand = self.operand(part.gate_and_up, at["normed"], at, rows, rounded)
            inside = self._gate(part, operand, at, rows, **choice)
            self.multiply(part.down, at["gated"], at["expert"], at, rows, rounded=inside, **choice)
            ops.add_expert(at["projected"], at["expert"], choice["gates"], stride=stride, rows=rows, hidden=hidden)

    def _add(self, matrix: DeviceMatrix, norm: int, x: int, at, rows: int, index: int, name: str, rounded) -> None:
        """Add the product, normed and scaled as the family does, to at["x"]."""
        if norm or self.watch:
            self.multiply(matrix, x, at["projected"], at, rows, rounded=rounded)
            self.show(index, name, at["projected"], rows, self.config.hidden_size)
            self._add_projected(norm, at, rows)
        else:
            after = {"residual": at["x"], "scale": self.config.residual_scale}
            self.multiply(matrix, x, at["x"], at, rows, rounded=rounded, **after)

    def _add_projected(self, norm: int, at, rows: int) -> None:
        hidden = self.config.hidden_size
        if norm:
            self.norm(norm, at["projected"], at["projected"], rows)
        self.operations.add_scaled(
            at["x"], at["projected"], scale=self.config.residual_scale, count=rows * hidden
        )  # fmt: skip

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
        self._products(matrix, self.operand(matrix, x, at, rows, rounded), y, rows, **after)

    def _products(self, matrix: DeviceMatrix | Joined, operand: tuple[int, int, int], y: int, rows: int, **after):
        """A product for each part; their outputs lie side by side."""
        for part in matrix.parts:
            x = operand[1:] if part.takes_integers else (operand[0], 0)
            self.operations.linear(part, *x, y, rows=rows, width=matrix.outputs, **after)
            y += 4 * part.outputs

    def norm(
        self, weight: int, x: int, y: int, rows: int, index=None, name: str = "", *, wanted: int = 0, rounded=NOWHERE
    ) -> None:
        """Norm rows (N5), or copy them where the family has no norm here; with `wanted`, only those rows."""
        hidden = self.config.hidden_size
        self.operations.rms_norm(
            x, weight, y, rows=rows, size=hidden, epsilon=self.config.norm_epsilon, wanted=wanted, rounded=rounded
        )  # fmt: skip
        if name:
            self.show(index, name, y, rows, hidden)

    def _norm_heads(self, weight: int, x: int, rows: int, num_heads: int) -> None:
        """Norm queries or keys in place: each head, or all heads of a token together."""
        if weight:
            are_joined = self.config.query_key_norm == "all"
            heads, size = (1, num_heads * self.config.head_dim) if are_joined else (num_heads, self.config.head_dim)
            self.operations.rms_norm(
                x, weight, x, rows=rows, heads=heads, size=size, epsilon=self.config.norm_epsilon,
                from_stride=self.heads.stride, to_stride=self.heads.stride,
            )  # fmt: skip

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


def scratch_sizes(config, rows: int) -> dict[str, int]:
    """The bytes of each scratch buffer for that many rows, by name."""
    queries, experts = config.num_heads * config.head_dim, config.experts
    intermediate = max(config.intermediate_size, experts.intermediate_size if experts else 0)
    most = -(-max(config.hidden_size, queries, intermediate) // 32) * 32
    widths = {
        "x": config.hidden_size, "normed": config.hidden_size, "projected": config.hidden_size,
        "mixed": queries + 2 * config.num_kv_heads * config.head_dim, "attended": queries,
        "both": 2 * intermediate, "gated": intermediate, "scales": most // 32,
    }  # fmt: skip
    if experts:
        widths |= {"scores": experts.num_experts, "gates": experts.num_experts, "expert": config.hidden_size}
        widths |= {"chosen": experts.num_per_token}
    slots = min(rows, MOST_ROWS) * experts.num_per_token if experts else 0  # rows side by side, one for each choice
    wide = {"both", "gated", "scales", "expert"}
    sizes = {name: 4 * width * (max(rows, slots) if name in wide else rows) for name, width in widths.items()}
    return sizes | {"integers": most * max(rows, slots)}
