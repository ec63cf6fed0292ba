"""The layers of a decoder as launches on a stream (N3 to N9), without a wait, so that a forward pass can be a graph.

The order of operations is that of fastpath/model/forward.pyx. Without an observer, the kernel that computes a
sublayer's output also adds the residual: the same two roundings.
"""

from verbatim.fastpath.gpu.batch import Shape
from verbatim.fastpath.gpu.formats import MOST_ROWS, WARP
from verbatim.fastpath.gpu.networks import Networks
from verbatim.fastpath.gpu.operations import NOWHERE, Heads
from verbatim.fastpath.gpu.weights import DeviceLayer
from verbatim.fastpath.model.attention import LOG2E, query_scale

PARTS_BYTES = 256 << 20  # scratch for blocks of keys in parallel; a pass that needs more computes them in order


class Decoder(Networks):
    """All layers of a model, between the embedding and the final norm, with their scratch memory."""

    def __init__(self, device, config, checkpoint, quantization: str | None):
        super().__init__(device, config, checkpoint, quantization)
        cap = config.attention_softcap
        self.heads = Heads(
            heads=config.num_heads, kv_heads=config.num_kv_heads, head_dim=config.head_dim,
            scale=float(query_scale(config.head_dim, config.attention_scale, cap)),
            cap=cap or 0.0, scaled_cap=(cap or 0.0) * LOG2E,
        )  # fmt: skip

    def reserve(self, shape: Shape) -> dict[str, int]:
        """Allocate scratch memory for a pass of that shape; returns addresses by name."""
        sizes = scratch_sizes(self.config, shape.rows)
        return {name: self.scratch(name, size) for name, size in sizes.items()}

    def run_layers(self, at: dict[str, int], shape: Shape, cache, places, parts: int) -> None:
        """Run all rows of at["x"] through all layers, in place."""
        for index, layer in enumerate(self.weights.layers):
            self._attend(layer, index, at, shape, cache, places, parts)
            self.show(index, "after attention", at["x"], shape.rows, self.config.hidden_size)
            self.feed_forward(layer, index, at, shape.rows)
            self.show(index, "after mlp", at["x"], shape.rows, self.config.hidden_size)

    def _attend(self, layer: DeviceLayer, index: int, at, shape: Shape, cache, places, parts: int) -> None:
        """Store the batch's keys and values, attend to each token's own sequence, add the result to x."""
        rows, config, ops = shape.rows, self.config, self.operations
        queries, width = config.num_heads * config.head_dim, self.heads.stride
        keys = config.num_kv_heads * config.head_dim
        rounded = self.rounding(layer.inputs, at)
        self.norm(
            layer.norms["attention_norm"], at["x"], at["normed"], rows, index, "attention norm",
            bias=layer.norms["attention_norm_bias"], rounded=rounded,
        )  # fmt: skip
        self.multiply(layer.inputs, at["normed"], at["mixed"], at, rows, rounded=rounded)
        cuts = {"query": (0, queries), "key": (queries, queries + keys), "value": (queries + keys, width)}
        self.show_parts(index, cuts, at["mixed"], rows, width)
        self._norm_heads(layer.norms["query_norm"], at["mixed"], rows, config.num_heads)
        self._norm_heads(layer.norms["key_norm"], at["mixed"] + 4 * queries, rows, config.num_kv_heads)
        stored = cache.addresses(index)
        ops.rotate_and_store(
            at["mixed"], places, layer.table, *stored, self.heads, rows=rows, dtype=cache.dtype,
            query_scales=self.weights.query_scales,
        )  # fmt: skip
        rotated = {"rotated query": cuts["query"], "rotated key": cuts["key"]}
        self.show_parts(index, rotated, at["mixed"], rows, width)
        rounded = self.rounding(layer.output, at) if parts and config.head_dim % WARP == 0 else NOWHERE
        ops.attend(
            at["mixed"], *stored, places, at["attended"], self.heads, rows=rows, window=layer.window,
            sinks=layer.sinks, sink_scores=layer.sink_scores, parts=parts, key_blocks=shape.key_blocks,
            dtype=cache.dtype, rounded=rounded,
        )  # fmt: skip
        self.show(index, "attention", at["attended"], rows, queries)
        self.add(layer.output, layer.norms["attention_out_norm"], at["attended"], at, rows, index, "output", rounded)

    def _norm_heads(self, weight: int, x: int, rows: int, num_heads: int) -> None:
        """Norm queries or keys in place: each head, or all heads of a token together."""
        if weight:
            are_joined = self.config.query_key_norm == "all"
            heads, size = (1, num_heads * self.config.head_dim) if are_joined else (num_heads, self.config.head_dim)
            self.operations.norm(
                x, weight, x, rows=rows, heads=heads, size=size, epsilon=self.config.norm_epsilon,
                norm_type=self.config.norm_type, from_stride=self.heads.stride, to_stride=self.heads.stride,
            )  # fmt: skip


def scratch_sizes(config, rows: int) -> dict[str, int]:
    """The bytes of each scratch buffer for that many rows, by name."""
    queries, experts = config.num_heads * config.head_dim, config.experts
    sizes = (experts.intermediate_size, experts.shared_size) if experts else ()
    intermediate = max(config.intermediate_size, *sizes, 1)
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
