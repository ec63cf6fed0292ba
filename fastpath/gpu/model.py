"""The forward pass on a GPU: one copy in, the layers, one copy out; a pass that only decodes is the replay of a graph.

The first pass of a shape (rows, and blocks of keys rounded up to a power of two) is noted down as a graph; from then on
Python is entered once a step. What comes back is each row's likeliest token and whether its logits are finite.
"""

import numpy as np

from verbatim.fastpath.gpu.batch import Shape, check, describe, fill
from verbatim.fastpath.gpu.decoder import PARTS_BYTES, Decoder
from verbatim.fastpath.gpu.logits import Logits
from verbatim.fastpath.gpu.operations import NOWHERE, PEAKS_BYTES

MOST_GRAPHS = 64  # the oldest goes


class Model(Decoder):
    """A decoder on a device: `forward` computes chunks; `states` and `score` are its two halves."""

    def __init__(self, device, config, checkpoint, *, quantization: str | None = None):
        super().__init__(device, config, checkpoint, quantization)
        self._graphs, self._pinned = {}, {}
        self.num_replays, self.generation = 0, 0

    def forward(self, chunks, cache) -> Logits:
        """Compute every chunk; returns logits float32 (wanted rows, vocab), which stay on the device."""
        check(chunks, self.config, cache)
        shape = describe(chunks)
        numbers, peaks = self._host("numbers", shape.size), self._host("peaks", 2 * shape.num_wanted)
        fill(numbers, shape, chunks)
        at = self._addresses(shape)
        if shape.key_blocks and not self.watch:
            self._replay(shape, at, cache, numbers, peaks)
        else:
            self._pass(shape, at, cache, numbers, peaks)
        self.device.synchronize()
        self.generation += 1
        return Logits(self, at["logits"], peaks.reshape(-1, 2).copy())

    def states(self, chunks, cache, beside=None) -> np.ndarray:
        """The last layer's normed states (tokens, hidden); an eagle head is given others `beside` the ids."""
        check(chunks, self.config, cache)
        shape = describe(chunks)
        numbers = self._host("numbers", shape.size)
        fill(numbers, shape, chunks)
        at = self._addresses(shape)
        self.device.send(at["numbers"], numbers)
        self._embed(shape, at, beside)
        self._through_layers(shape, at, cache)
        self.norm(self.weights.norm, at["x"], at["normed"], shape.rows, None, "norm", bias=self.weights.norm_bias)
        return self.device.read(at["normed"], (shape.rows, self.config.hidden_size))

    def score(self, states) -> np.ndarray:
        """Logits float32 (rows, vocab) of normed states, on the host."""
        states = np.ascontiguousarray(states, np.float32)
        if states.ndim != 2 or states.shape[1] != self.config.hidden_size or self.weights.head is None:
            wanted = f"a model with a head scores states of {self.config.hidden_size} features"
            raise ValueError(f"{wanted}, not {states.shape}")
        return self.fetch_logits(self.place(states), len(states))

    def place(self, states: np.ndarray) -> dict[str, int]:
        """Scratch memory with these normed states (rows, hidden) in it; the latest pass's logits are gone."""
        at = self._addresses(Shape(rows=len(states), num_wanted=len(states), num_pages=0))
        self.device.write(at["normed"], states)
        self.generation += 1
        return at

    def fetch_logits(self, at: dict[str, int], rows: int, *, is_scored: bool = False) -> np.ndarray:
        """Logits float32 (rows, vocab) of the normed states there, or those that somebody has put there."""
        if not is_scored:
            self._score(at, rows)
        return self.device.read(at["logits"], (rows, self.config.vocab_size))

    @property
    def latest_graph(self):
        """The graph that was made last, for measurements; None before the first."""
        return next(reversed(self._graphs.values()), None)

    def forget_graphs(self) -> None:
        """Scratch memory moves."""
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()

    def _addresses(self, shape: Shape) -> dict[str, int]:
        """Scratch memory of a pass."""
        sizes = {
            "numbers": 4 * shape.size, "logits": 4 * shape.num_wanted * self.config.vocab_size,
            "peaks": 8 * shape.num_wanted, "peak_parts": PEAKS_BYTES * shape.num_wanted,
            "parts": self._parts_bytes(shape), "beside": 0, "joined": 0,
        }  # fmt: skip
        if self.weights.fusion:
            width = 4 * shape.rows * self.config.hidden_size
            sizes |= {"beside": width, "joined": 2 * width}
        return self.reserve(shape) | {name: self.scratch(name, size) for name, size in sizes.items()}

    def _parts_bytes(self, shape: Shape) -> int:
        """Bytes of scratch for attention over blocks of keys in parallel, 0 where it would be too much."""
        size = 4 * shape.rows * self.config.num_heads * shape.key_blocks * (2 + self.config.head_dim)
        return size if size <= PARTS_BYTES else 0

    def _replay(self, shape: Shape, at, cache, numbers, peaks) -> None:
        """The graph of a pass of this shape over this cache, made when it is first needed."""
        key = shape, cache.addresses(0), cache.num_pages, cache.dtype
        if key not in self._graphs:
            if len(self._graphs) >= MOST_GRAPHS:
                self._graphs.pop(next(iter(self._graphs))).close()
            with self.device.captured() as graph:
                self._pass(shape, at, cache, numbers, peaks)
            self._graphs[key] = graph
        self.num_replays += 1
        self._graphs[key].launch()

    def _pass(self, shape: Shape, at, cache, numbers, peaks) -> None:
        """Everything between the numbers and the peaks, on the stream."""
        self.device.send(at["numbers"], numbers)
        self._embed(shape, at)
        self._through_layers(shape, at, cache)
        if not shape.num_wanted:  # a piece from the middle of a prompt
            return
        wanted = shape.wanted(at["numbers"])
        rounded, rows = self.rounding(self.weights.head, at), shape.num_wanted
        options = {"bias": self.weights.norm_bias, "wanted": wanted, "rounded": rounded}
        self.norm(self.weights.norm, at["x"], at["normed"], rows, None, "norm", **options)
        self._score(at, rows, rounded)
        sizes = {"rows": shape.num_wanted, "vocab": self.config.vocab_size}
        self.operations.find_peaks(at["logits"], at["peak_parts"], at["peaks"], **sizes)
        self.device.fetch(peaks, at["peaks"])

    def _embed(self, shape: Shape, at, beside=None) -> None:
        """at["x"] is the tokens' rows, for an eagle head made one with those beside them."""
        config, weights, rows = self.config, self.weights, shape.rows
        into = at["normed"] if weights.fusion else at["x"]
        scaled = {"rows": rows, "scale": config.embedding_scale}
        if weights.table is not None:
            self.operations.embed_matrix(weights.table, at["numbers"], into, **scaled)
        else:
            dtype, table = weights.embedding
            self.operations.embed(dtype, at["numbers"], table, into, hidden=config.hidden_size, **scaled)
        if weights.fusion:
            self.device.write(at["beside"], np.ascontiguousarray(beside, np.float32))
            self.operations.join(into, at["beside"], at["joined"], rows=rows, hidden=config.hidden_size)
            self.multiply(weights.fusion, at["joined"], at["x"], at, rows)
        self.show(None, "embedding", at["x"], rows, config.hidden_size)

    def _through_layers(self, shape: Shape, at, cache) -> None:
        parts = at["parts"] if shape.key_blocks and self._parts_bytes(shape) else 0
        self.run_layers(at, shape, cache, shape.places(at["numbers"]), parts)

    def _score(self, at, rows: int, rounded=NOWHERE) -> None:
        """Logits of the normed rows."""
        config = self.config
        self.multiply(self.weights.head, at["normed"], at["logits"], at, rows, rounded=rounded)
        if config.logits_divisor != 1 or config.final_softcap:
            self.operations.finish_logits(
                at["logits"], divisor=config.logits_divisor, cap=config.final_softcap or 0.0,
                count=rows * config.vocab_size,
            )  # fmt: skip
        self.show(None, "logits", at["logits"], rows, config.vocab_size)

    def _host(self, name: str, count: int) -> np.ndarray:
        """Pinned host memory of that many numbers; a larger piece takes the place of a smaller one."""
        if name not in self._pinned or len(self._pinned[name]) < count:
            self.forget_graphs()
            self._pinned[name] = self.device.pinned(max(count, 1024))
        return self._pinned[name][:count]
