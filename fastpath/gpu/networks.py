"""The second half of a layer on a device: a feed-forward network, dense or a mixture of experts (N9, N9a)."""

from verbatim.fastpath.gpu.formats import MOST_ROWS
from verbatim.fastpath.gpu.matrices import NOTHING, DeviceMatrix, Joined
from verbatim.fastpath.gpu.operations import NOWHERE
from verbatim.fastpath.gpu.products import Products
from verbatim.fastpath.gpu.weights import DeviceLayer, Gated


class Networks(Products):
    """The feed-forward networks of a model; without an observer the last product also adds the residual."""

    def feed_forward(self, layer: DeviceLayer, index: int, at, rows: int) -> None:
        """Add the feed-forward network of the normed rows, dense or a mixture of experts, to x."""
        part = layer.stack or layer.parts[0]
        are_all = layer.stack and rows > MOST_ROWS  # each expert's gated rows overwrite the rounded input
        rounded = NOWHERE if are_all else self.rounding(part.gate_and_up, at)
        rounded = self._norm(layer, index, at, rows, rounded)
        if layer.stack:
            self._weigh(layer, index, at, rows)
            (self._mix_all if are_all else self._mix_chosen)(layer, at, rows, rounded)
            if layer.shared:
                self._add_shared(layer, at, rows)
            self.show(index, "experts", at["projected"], rows, self.config.hidden_size)
            self._add_projected(layer.norms["mlp_out_norm"], at, rows)
            return
        operand = self.operand(part.gate_and_up, at["normed"], at, rows, rounded)
        rounded = self._gate(part, operand, at, rows)
        self.add(part.down, layer.norms["mlp_out_norm"], at["gated"], at, rows, index, "mlp", rounded)

    def _norm(self, layer: DeviceLayer, index: int, at, rows: int, rounded) -> tuple[int, int]:
        """Norm x for the network; a parallel one takes the rows of attention's norm. Returns where rows are rounded."""
        if self.config.norms == "parallel":
            self.show(index, "mlp norm", at["normed"], rows, self.config.hidden_size)
            return NOWHERE
        self.norm(
            layer.norms["mlp_norm"], at["x"], at["normed"], rows, index, "mlp norm",
            bias=layer.norms["mlp_norm_bias"], rounded=rounded,
        )  # fmt: skip
        return rounded

    def _gate(self, part: Gated, operand: tuple[int, int, int], at, rows: int, **choice) -> tuple[int, int]:
        """Write activation(gate(x)) * up(x) to at["gated"]; returns the addresses of its rounded rows."""
        rounded, clamped = self.rounding(part.down, at), self.config.clamped_gate
        self.multiply_parts(part.gate_and_up, operand, at["both"], rows, **choice)
        shape = {"rows": rows, "intermediate": part.intermediate, "rounded": rounded}
        if clamped:
            limits = {"alpha": clamped.alpha, "limit": clamped.limit}
            self.operations.clamped_gate(at["both"], at["gated"], **limits, **shape)
        else:
            has_gate, activation = self.config.has_gate, self.config.activation
            self.operations.gate(activation, at["both"], at["gated"], has_gate=has_gate, **shape)
        return rounded

    def _weigh(self, layer: DeviceLayer, index: int, at, rows: int) -> None:
        """Compute the router's scores, each expert's gate for each row, and the chosen experts (N9)."""
        settings, places = self.config.experts, (at["scores"], at["gates"], at["chosen"])
        self.multiply(layer.router, at["normed"], at["scores"], at, rows)
        self.show(index, "router", at["scores"], rows, settings.num_experts)
        shape = {"rows": rows, "experts": settings.num_experts, "per_token": settings.num_per_token}
        if settings.routing == "sparsemixer":
            self.operations.weigh_sparsemixer(*places, tolerance=settings.tolerance, **shape)
        else:
            self.operations.weigh_experts(*places, is_normalized=settings.is_normalized, **shape)

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

    def _add_shared(self, layer: DeviceLayer, at, rows: int) -> None:
        """Add the output of the expert that every token takes, times its own weight where it has a gate."""
        part, scores = layer.shared, NOTHING
        if layer.shared_gate:
            scores = at["scores"]
            self.multiply(layer.shared_gate, at["normed"], scores, at, rows)
        rounded = self._gate(part, self.operand(part.gate_and_up, at["normed"], at, rows), at, rows)
        self.multiply(part.down, at["gated"], at["expert"], at, rows, rounded=rounded)
        self.operations.add_shared(at["projected"], at["expert"], scores, rows=rows, hidden=self.config.hidden_size)

    def add(
        self, matrix: DeviceMatrix | Joined, norm: int, x: int, at, rows: int, index: int, name: str, rounded
    ) -> None:
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
