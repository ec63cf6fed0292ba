"""What each kernel is given: grid, block, shared memory and arguments, for every operation of a model.

`launch(name, grid, block, shared, types, *values)` puts a kernel on a queue; `types` are struct's letters, P for an
address. On a GPU that is device.py; the tests launch the same operations on the emulator. Nothing here imports PyCUDA.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

WARP, THREADS, ROW_THREADS = 32, 128, 256
KEY_BLOCK, BLOCK, MAX_HEAD_DIM = 64, 256, 256
SHARED_BYTES = 99 << 10  # what a block may have on every chip that is asked for it
WARPS_A_PRODUCT, STAGE_BYTES = 4, 4096  # as in cuda/rows.cuh
WEIGHT_BYTES = {"f32": 4, "f16": 2, "bf16": 2, "w8a8": 1, "w4a8": 0.5}
MOST_ROWS = 8  # up to so many rows, a product reads the weights once for all; beyond, it works in tiles
TILE_ROWS = 64
MOST_THREADS = SAMPLING_THREADS = 1024
MOST_PARTS, ROOM_BYTES = 32, 25992  # as in cuda/draws.cu: blocks that share a row, and what they tell each other
PEAKS_BYTES, MOST_BLOCKS = 12 * MOST_PARTS, 128  # blocks that look for peaks at once: about as many as multiprocessors
NOTHING = 0
NOWHERE = NOTHING, NOTHING  # integers and scales: where rows for a product of integers go as well (N4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A packed matrix on the device: addresses, 0 for what it does not have."""

    kind: str
    outputs: int
    inputs: int
    weights: int
    scales: int = NOTHING
    bias: int = NOTHING

    @property
    def num_groups(self) -> int:
        """Groups of 32 inputs."""
        return -(-self.inputs // WARP)

    def part(self, number: int) -> "Matrix":
        """One matrix of a stack of such matrices."""
        tiles, groups = _ceil(self.outputs, WARP), self.num_groups
        inputs = groups * WARP if self.scales else _ceil(self.inputs, 8) * 8
        sizes = {
            "weights": int(tiles * WARP * inputs * WEIGHT_BYTES[self.kind]), "bias": 4 * self.outputs,
            "scales": tiles * WARP * 16 * _ceil(self.inputs, BLOCK),
        }  # fmt: skip
        own = {name: getattr(self, name) + number * size for name, size in sizes.items() if getattr(self, name)}
        return replace(self, **own)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """The shape of attention; a cap of 0 is none."""

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    cap: float = 0.0
    scaled_cap: float = 0.0

    @property
    def stride(self) -> int:
        """Floats of a row's queries, keys and values."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Device addresses of where each row stands: positions, where its page numbers begin, the page numbers."""

    positions: int
    first_page: int
    pages: int


class Operations:
    """Every operation of a model as launches of kernels, in the caller's order."""

    def __init__(self, launch: Callable):
        self._launch = launch

    def embed(self, kind: str, ids: int, table: int, x: int, *, rows: int, hidden: int, scale: float) -> None:
        """x[r] = scale * table[ids[r]]."""
        self._launch(f"embed_{kind}", (rows,), ROW_THREADS, 0, "PPPif", ids, table, x, hidden, scale)

    def join(self, a: int, b: int, y: int, *, rows: int, hidden: int) -> None:
        """Rows of a and b side by side."""
        self._launch("join_rows", (rows,), ROW_THREADS, 0, "PPPi", a, b, y, hidden)

    def rms_norm(
        self, x: int, weight: int, y: int, *, rows: int, size: int, epsilon: float, heads: int = 1,
        from_stride: int | None = None, to_stride: int | None = None, wanted: int = NOTHING, rounded=NOWHERE,
    ) -> None:  # fmt: skip
        """Norm `heads` items of `size` in each row (N5); without a weight, copy them."""
        width, threads = heads * size, min(MOST_THREADS, WARP * _ceil(size, WARP))
        self._launch(
            "rms_norm", (rows * heads,), threads, 4 * (size + 1), "PPPPPPiiiif", x, wanted, weight, y, *rounded, heads,
            size, from_stride or width, to_stride or width, epsilon,
        )  # fmt: skip

    def add_scaled(self, x: int, y: int, *, scale: float, count: int) -> None:
        """X += scale * y."""
        self._launch("add_scaled", (_ceil(count, ROW_THREADS),), ROW_THREADS, 0, "PPfi", x, y, scale, count)

    def quantize(self, x: int, integers: int, scales: int, *, rows: int, inputs: int) -> None:
        """Round rows to int8 in groups of 32 (N4)."""
        groups = _ceil(inputs, WARP)
        grid, values = (_ceil(rows * groups, THREADS // WARP),), (x, integers, scales, inputs, groups, rows * groups)
        self._launch("quantize_rows", grid, THREADS, 0, "PPPiii", *values)

    def linear(
        self, matrix: Matrix, x: int, x_scales: int, y: int, *, rows: int, residual: int = NOTHING, scale: float = 1.0,
        gates: int = NOTHING, stride: int = 0, chosen: int = NOTHING, share: int = 1,
    ) -> None:  # fmt: skip
        """Y = x wᵀ + bias, or residual + scale * that; `x` are integers where the matrix has scales (N3, N4).

        Of many rows, only those whose gate is not 0. With `chosen` each row of y is by that one of a stack of matrices
        that its number names, and `share` rows of y have one row of x.
        """
        groups = matrix.num_groups
        shape = (rows, matrix.outputs, groups if matrix.scales else matrix.inputs)
        operands = (x, x_scales, matrix.weights, matrix.scales, y) if matrix.scales else (x, matrix.weights, y)
        types, tiles = "P" * len(operands) + "iiiPPfPi", _ceil(matrix.outputs, WARP)
        after = (matrix.bias, residual, scale)
        if chosen or rows <= MOST_ROWS:
            most, warps, shared = few_rows(1 if chosen else rows, matrix.inputs, matrix.kind)
            name, grid, threads = f"linear_rows{most}_{matrix.kind}", (tiles, _ceil(rows, most)), WARP * warps
            last = chosen, share
        else:
            shared, threads, last = 0, THREADS if matrix.scales else ROW_THREADS, (gates, stride)
            name, grid = f"linear_tile_{matrix.kind}", (tiles, _ceil(rows, TILE_ROWS))
        self._launch(name, grid, threads, shared, types, *operands, *shape, *after, *last)

    def rotate_and_store(
        self, x: int, places: Places, table: tuple[int, int, int], keys: int, values: int, shape: Heads, *, rows: int,
        kind: str = "f32",
    ) -> None:  # fmt: skip
        """Turn queries and keys in place (N6), then store keys and values as that `kind`.

        `table` is cosines, sines, how many.
        """
        numbers = (shape.heads, shape.kv_heads, shape.head_dim, table[2])
        addresses = (x, places.positions, places.first_page, places.pages, *table[:2], keys, values)
        self._launch(f"rotate_and_store_{kind}", (rows,), ROW_THREADS, 0, "PPPPPPPPiiii", *addresses, *numbers)

    def copy_page(
        self, keys: int, values: int, *, source: int, target: int, layers: int, pages: int, size: int
    ) -> None:
        """A page's `size` words of 32 bits in every layer to another page."""
        numbers = (source, target, pages * size, size)
        self._launch("copy_page", (layers,), ROW_THREADS, 0, "PPiiQi", keys, values, *numbers)

    def attend(
        self, x: int, keys: int, values: int, places: Places, out: int, shape: Heads, *, rows: int, window: int = 0,
        sinks: int = 0, parts: int = NOTHING, key_blocks: int = 0, kind: str = "f32", rounded=NOWHERE,
    ) -> None:  # fmt: skip
        """Attention over pages of that `kind` (N8).

        Blocks of keys in parallel with `parts`, room for (rows, heads, key_blocks, 2 + head_dim); only then `rounded`.
        """
        numbers = (shape.heads, shape.kv_heads, shape.head_dim, shape.stride, window, sinks)
        addresses = (x, keys, values, places.positions, places.first_page, places.pages, parts or out)
        grid, types = (rows, _ceil(shape.heads, THREADS // WARP)), "PPPPPPPiiiiiifff"
        values = (*addresses, *numbers, shape.scale, shape.cap, shape.scaled_cap)
        if not parts:
            self._launch(f"attend_rows_{kind}", grid, THREADS, 0, types, *values)
            return
        self._launch(f"attend_blocks_{kind}", (*grid, key_blocks), THREADS, 0, types, *values)
        numbers = (shape.heads, shape.head_dim, key_blocks)
        self._launch("merge_blocks", grid, THREADS, 0, "PPiiiPP", parts, out, *numbers, *rounded)

    def gate(self, activation: str, both: int, y: int, *, rows: int, inner: int, rounded=NOWHERE) -> None:
        """Y = activation(gate) * up; both lie side by side (N7)."""
        count = rows * _ceil(inner, WARP)
        grid, values = (_ceil(count, THREADS // WARP),), (both, y, *rounded, inner, count)
        self._launch(f"gate_{activation}", grid, THREADS, 0, "PPPPii", *values)

    def add_silu(self, x: int, y: int, *, count: int) -> None:
        """X += silu(y)."""
        self._launch("add_silu", (_ceil(count, ROW_THREADS),), ROW_THREADS, 0, "PPi", x, y, count)

    def weigh_experts(
        self, scores: int, gates: int, chosen: int, *, rows: int, experts: int, per_token: int, is_normalized: bool
    ) -> None:
        """From a router's scores to weights, 0 for experts that are not chosen, and the ids of those that are (N9)."""
        grid, numbers = (_ceil(rows, THREADS // WARP),), (rows, experts, per_token, int(is_normalized))
        self._launch("weigh_experts", grid, THREADS, 0, "PPPiiii", scores, gates, chosen, *numbers)

    def add_chosen(
        self, total: int, y: int, gates: int, chosen: int, *, rows: int, experts: int, per_token: int, hidden: int
    ) -> None:
        """Total = the rows of the chosen experts, (rows, per_token, hidden), times their gates (N9)."""
        grid, numbers = (_ceil(rows * hidden, ROW_THREADS),), (experts, per_token, hidden, rows * hidden)
        self._launch("add_chosen", grid, ROW_THREADS, 0, "PPPPiiii", total, y, gates, chosen, *numbers)

    def add_expert(self, total: int, y: int, gates: int, *, stride: int, rows: int, hidden: int) -> None:
        """Total += y * gate, for rows that chose the expert (N9)."""
        grid, values = (_ceil(rows * hidden, ROW_THREADS),), (total, y, gates, stride, hidden, rows * hidden)
        self._launch("add_expert", grid, ROW_THREADS, 0, "PPPiii", *values)

    def finish_logits(self, logits: int, *, divisor: float, cap: float, count: int) -> None:
        """Divide, then cap (N9a)."""
        grid = (_ceil(count, ROW_THREADS),)
        self._launch("finish_logits", grid, ROW_THREADS, 0, "PffQ", logits, divisor, cap, count)

    def find_peaks(self, logits: int, parts: int, result: int, *, rows: int, vocab: int) -> None:
        """Of each row the id of the largest logit, and whether all are finite (N10); `parts`: PEAKS_BYTES a row."""
        count = parts_of_row(rows, vocab, MOST_BLOCKS)
        self._launch("find_peaks", (count, rows), SAMPLING_THREADS, 0, "PPi", logits, parts, vocab)
        self._launch("join_peaks", (rows,), WARP, 0, "PPi", parts, result, count)

    def sample_rows(
        self, logits: int, records: int, lists: int, edited: int, weights: int, rooms: int, results: int, *,
        draws: int, vocab: int, parts: int = 1,
    ) -> None:  # fmt: skip
        """A token for each record of requests.py (N10); `rooms`: zeros, ROOM_BYTES a draw.

        With several `parts` so many blocks share a row, all of them on the device at once.
        """
        values = (logits, records, lists, edited, weights, rooms, results, vocab)
        grid, together = (parts, draws), {"is_cooperative": True} if parts > 1 else {}
        self._launch("sample_rows", grid, SAMPLING_THREADS, 0, "PPPPPPPi", *values, **together)

    def score_rows(
        self, logits: int, places: int, tokens: int, ids: int, logprobs: int, *, scores: int, vocab: int, num_top: int
    ) -> None:
        """The log-probabilities of some tokens, and of the best few of their rows (N10)."""
        values = (logits, places, tokens, ids, logprobs, vocab, num_top)
        self._launch("score_rows", (scores,), SAMPLING_THREADS, 0, "PPPPPii", *values)


def parts_of_row(rows: int, vocab: int, blocks: int) -> int:
    """Among how many blocks each row's vocabulary is cut, where `blocks` are to work at once."""
    return max(1, min(MOST_PARTS, blocks // rows, _ceil(vocab, SAMPLING_THREADS)))


def few_rows(rows: int, inputs: int, kind: str) -> tuple[int, int, int]:
    """For how many rows a CUDA block reads weights once, 1, 2, 4 or 8; its warps and bytes of shared memory."""
    most, warps = 1, min(WARPS_A_PRODUCT, _ceil(inputs, BLOCK))
    while most < min(rows, MOST_ROWS) and shared_bytes(2 * most, warps, inputs, kind) <= SHARED_BYTES:
        most *= 2
    while (size := shared_bytes(most, warps, inputs, kind)) > SHARED_BYTES and warps > 1:
        warps -= 1
    return most, warps, size


def shared_bytes(most: int, warps: int, inputs: int, kind: str) -> int:
    """Each warp's stages of weights and of `most` rows, and the totals of all blocks of inputs: cuda/rows.cuh."""
    stage_inputs = int(STAGE_BYTES / WARP / WEIGHT_BYTES[kind])
    groups = stage_inputs // WARP
    beside = 4 * most * stage_inputs
    if kind in ("w8a8", "w4a8"):
        beside = most * (stage_inputs + 4 * groups) + 2 * WARP * groups
    return warps * (2 if most > 2 else 4) * (STAGE_BYTES + beside) + 4 * WARP * most * _ceil(inputs, BLOCK)


def _ceil(count: int, step: int) -> int:
    return -(-count // step)
