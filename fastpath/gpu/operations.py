"""Kernel launches: grid, block, shared memory and arguments for every operation of a model.

`launch(name, grid, block, shared, types, *values)` enqueues a kernel; `types` are letters of struct, P for an
address. device.py launches on a GPU, the tests on the emulator. This module does not import PyCUDA.
"""

from collections.abc import Callable
from dataclasses import dataclass

from verbatim.fastpath.gpu.formats import MOST_ROWS, WARP, few_rows
from verbatim.fastpath.gpu.matrices import NOTHING, DeviceMatrix

THREADS, ROW_THREADS = 128, 256
KEY_BLOCK, TILE_ROWS, MAX_HEAD_DIM, HEAD_PIECE = 64, 64, 1024, 256  # the last: features of a head in a warp
MOST_THREADS = SAMPLING_THREADS = 1024
MOST_PARTS, ROW_STATE_BYTES = 32, 25992  # as in cuda/draws.cu: blocks that share a row, and their common state
PEAKS_BYTES, MOST_BLOCKS = 12 * MOST_PARTS, 128  # blocks that search for peaks: about as many as multiprocessors
NOWHERE = NOTHING, NOTHING  # no addresses for rounded rows: their integers and scales (N4)


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
    """Device addresses of each row's position, of the index of its first page, and of the pages."""

    positions: int
    first_page: int
    pages: int


class Operations:
    """Every operation of a model as kernel launches, in the caller's order."""

    def __init__(self, launch: Callable):
        self._launch = launch

    def embed(self, dtype: str, ids: int, table: int, x: int, *, rows: int, hidden: int, scale: float) -> None:
        """x[r] = scale * table[ids[r]]."""
        self._launch(f"embed_{dtype}", (rows,), ROW_THREADS, 0, "PPPif", ids, table, x, hidden, scale)

    def embed_matrix(self, matrix: DeviceMatrix, ids: int, x: int, *, rows: int, scale: float) -> None:
        """The same of a table that is packed as a matrix of integers: rows are dequantised (N4g)."""
        values = (ids, matrix.weights, matrix.scales, x, matrix.inputs, scale, *matrix.layout.shape)
        self._launch(f"embed_{matrix.layout.kernel}", (rows,), ROW_THREADS, 0, "PPPPifiiii", *values)

    def join(self, a: int, b: int, y: int, *, rows: int, hidden: int) -> None:
        """Concatenate rows of a and b."""
        self._launch("join_rows", (rows,), ROW_THREADS, 0, "PPPi", a, b, y, hidden)

    def norm(
        self, x: int, weight: int, y: int, *, rows: int, size: int, epsilon: float, norm_type: str = "rms",
        bias: int = NOTHING, heads: int = 1, from_stride: int | None = None, to_stride: int | None = None,
        wanted: int = NOTHING, rounded=NOWHERE,
    ) -> None:  # fmt: skip
        """Norm `heads` items of `size` in each row (N5); without a weight, copy them."""
        width, threads = heads * size, min(MOST_THREADS, WARP * _ceil(size, WARP))
        self._launch(
            f"{norm_type}_norm", (rows * heads,), threads, 4 * (size + 1), "PPPPPPPiiiif", x, wanted, weight, bias, y,
            *rounded, heads, size, from_stride or width, to_stride or width, epsilon,
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
        self, matrix: DeviceMatrix, x: int, x_scales: int, y: int, *, rows: int, width: int = 0,
        residual: int = NOTHING, scale: float = 1.0, gates: int = NOTHING, stride: int = 0, chosen: int = NOTHING,
        share: int = 1,
    ) -> None:  # fmt: skip
        """Y = x wᵀ + bias, or residual + scale * (x wᵀ + bias); `x` are integers where the matrix has scales (N3, N4).

        Rows of y lie `width` floats apart, by default side by side. With `gates`, many rows are computed only where
        their gate is not 0. With `chosen`, row r of y uses matrix chosen[r] of a stack, and `share` rows of y share a
        row of x.
        """
        layout, tiles = matrix.layout, _ceil(matrix.outputs, WARP)
        shape = rows, matrix.outputs, matrix.num_groups if matrix.takes_integers else matrix.inputs
        operands = (x, x_scales, matrix.weights, matrix.scales, y) if matrix.takes_integers else (x, matrix.weights, y)
        types = "P" * len(operands) + "iiiiPPf" + "iiii" * layout.has_shape + "Pi"
        after = (width or matrix.outputs, matrix.bias, residual, scale, *(layout.shape if layout.has_shape else ()))
        if chosen or rows <= MOST_ROWS:
            most, warps, shared = few_rows(1 if chosen else rows, matrix.inputs, matrix.format)
            name, grid, threads = f"linear_rows{most}_{layout.kernel}", (tiles, _ceil(rows, most)), WARP * warps
            last = chosen, share
        else:
            shared, threads, last = 0, THREADS if matrix.takes_integers else ROW_THREADS, (gates, stride)
            name, grid = f"linear_tile_{layout.kernel}", (tiles, _ceil(rows, TILE_ROWS))
        self._launch(name, grid, threads, shared, types, *operands, *shape, *after, *last)

    def rotate_and_store(
        self, x: int, places: Places, table: tuple[int, int, int], keys: int, values: int, shape: Heads, *, rows: int,
        dtype: str = "float32", query_scales: int = NOTHING,
    ) -> None:  # fmt: skip
        """Rotate queries and keys in place (N6), then store keys and values in that dtype.

        `table`: the addresses of cosines and sines, and the number of rotated pairs. `query_scales`: a factor of the
        rotated queries for each position (N8).
        """
        numbers = (shape.heads, shape.kv_heads, shape.head_dim, table[2])
        addresses = (x, places.positions, places.first_page, places.pages, *table[:2], keys, values, query_scales)
        self._launch(f"rotate_and_store_{dtype}", (rows,), ROW_THREADS, 0, "PPPPPPPPPiiii", *addresses, *numbers)

    def copy_page(
        self, keys: int, values: int, *, source: int, target: int, layers: int, pages: int, size: int
    ) -> None:
        """Copy a page's `size` words of 32 bits in every layer to another page."""
        numbers = (source, target, pages * size, size)
        self._launch("copy_page", (layers,), ROW_THREADS, 0, "PPiiQi", keys, values, *numbers)

    def attend(
        self, x: int, keys: int, values: int, places: Places, out: int, shape: Heads, *, rows: int, window: int = 0,
        sinks: int = 0, sink_scores: int = NOTHING, parts: int = NOTHING, key_blocks: int = 0, dtype: str = "float32",
        rounded=NOWHERE,
    ) -> None:  # fmt: skip
        """Attention over pages of that dtype (N8); `sink_scores` (heads,) are powers of two.

        With `parts`, scratch of (rows, heads, key_blocks, 2 + head_dim) floats, blocks of keys run in parallel; only
        then `rounded`.
        """
        numbers = (shape.heads, shape.kv_heads, shape.head_dim, shape.stride, window, sinks)
        addresses = (x, keys, values, places.positions, places.first_page, places.pages, parts or out, sink_scores)
        warps = shape.heads * _ceil(shape.head_dim, HEAD_PIECE)
        grid, types = (rows, _ceil(warps, THREADS // WARP)), "PPPPPPPPiiiiiifff"
        values = (*addresses, *numbers, shape.scale, shape.cap, shape.scaled_cap)
        if not parts:
            self._launch(f"attend_rows_{dtype}", grid, THREADS, 0, types, *values)
            return
        self._launch(f"attend_blocks_{dtype}", (*grid, key_blocks), THREADS, 0, types, *values)
        numbers = (shape.heads, shape.head_dim, key_blocks)
        self._launch("merge_blocks", grid, THREADS, 0, "PPPiiiPP", parts, out, sink_scores, *numbers, *rounded)

    def gate(
        self, activation: str, both: int, y: int, *, rows: int, intermediate: int, has_gate: bool = True,
        rounded=NOWHERE,
    ) -> None:  # fmt: skip
        """Y = activation(gate) * up (N7), or activation(up); `both` is gate and up side by side, or up alone."""
        count = rows * _ceil(intermediate, WARP)
        grid, values = (_ceil(count, THREADS // WARP),), (both, y, *rounded, intermediate, count, int(has_gate))
        self._launch(f"gate_{activation}", grid, THREADS, 0, "PPPPiii", *values)

    def clamped_gate(
        self, both: int, y: int, *, rows: int, intermediate: int, alpha: float, limit: float, rounded=NOWHERE
    ) -> None:
        """Y = (up + 1) * gate * sigmoid(alpha * gate), both clamped to the limit (N9a)."""
        count = rows * _ceil(intermediate, WARP)
        grid, values = (_ceil(count, THREADS // WARP),), (both, y, *rounded, intermediate, count, alpha, limit)
        self._launch("gate_clamped", grid, THREADS, 0, "PPPPiiff", *values)

    def add_silu(self, x: int, y: int, *, count: int) -> None:
        """X += silu(y)."""
        self._launch("add_silu", (_ceil(count, ROW_THREADS),), ROW_THREADS, 0, "PPi", x, y, count)

    def weigh_experts(
        self, scores: int, gates: int, chosen: int, *, rows: int, experts: int, per_token: int, is_normalized: bool
    ) -> None:
        """From router scores to gates, 0 for experts that are not chosen, and the ids of the chosen experts (N9)."""
        grid, numbers = (_ceil(rows, THREADS // WARP),), (rows, experts, per_token, int(is_normalized))
        self._launch("weigh_experts", grid, THREADS, 0, "PPPiiii", scores, gates, chosen, *numbers)

    def weigh_sparsemixer(
        self, scores: int, gates: int, chosen: int, *, rows: int, experts: int, per_token: int, tolerance: float
    ) -> None:
        """The same by sparsemixer (N9)."""
        grid, numbers = (_ceil(rows, THREADS // WARP),), (rows, experts, per_token, tolerance)
        self._launch("weigh_sparsemixer", grid, THREADS, 0, "PPPiiif", scores, gates, chosen, *numbers)

    def add_shared(self, total: int, y: int, scores: int, *, rows: int, hidden: int) -> None:
        """Total += y * sigmoid(score of its row), or y without scores (N9)."""
        grid, values = (_ceil(rows * hidden, ROW_THREADS),), (total, y, scores, hidden, rows * hidden)
        self._launch("add_shared", grid, ROW_THREADS, 0, "PPPii", *values)

    def add_chosen(
        self, total: int, y: int, gates: int, chosen: int, *, rows: int, experts: int, per_token: int, hidden: int
    ) -> None:
        """Total = the chosen experts' rows (rows, per_token, hidden), times their gates (N9)."""
        grid, numbers = (_ceil(rows * hidden, ROW_THREADS),), (experts, per_token, hidden, rows * hidden)
        self._launch("add_chosen", grid, ROW_THREADS, 0, "PPPPiiii", total, y, gates, chosen, *numbers)

    def add_expert(self, total: int, y: int, gates: int, *, stride: int, rows: int, hidden: int) -> None:
        """Total += y * gate, for rows that chose the expert (N9)."""
        grid, values = (_ceil(rows * hidden, ROW_THREADS),), (total, y, gates, stride, hidden, rows * hidden)
        self._launch("add_expert", grid, ROW_THREADS, 0, "PPPiii", *values)

    def finish_logits(self, logits: int, *, divisor: float, cap: float, count: int) -> None:
        """Divide, then softcap (N9a)."""
        grid = (_ceil(count, ROW_THREADS),)
        self._launch("finish_logits", grid, ROW_THREADS, 0, "PffQ", logits, divisor, cap, count)

    def find_peaks(self, logits: int, parts: int, result: int, *, rows: int, vocab: int) -> None:
        """For each row the id of the largest logit, and whether all are finite (N10); `parts`: PEAKS_BYTES a row."""
        count = parts_of_row(rows, vocab, MOST_BLOCKS)
        self._launch("find_peaks", (count, rows), SAMPLING_THREADS, 0, "PPi", logits, parts, vocab)
        self._launch("join_peaks", (rows,), WARP, 0, "PPi", parts, result, count)

    def sample_rows(
        self, logits: int, records: int, lists: int, edited: int, weights: int, states: int, results: int, *,
        draws: int, vocab: int, parts: int = 1,
    ) -> None:  # fmt: skip
        """Sample a token for each record of requests.py (N10); `states`: zeros, ROW_STATE_BYTES a draw.

        `parts` blocks share a row; they are on the device at the same time.
        """
        values = (logits, records, lists, edited, weights, states, results, vocab)
        grid, together = (parts, draws), {"is_cooperative": True} if parts > 1 else {}
        self._launch("sample_rows", grid, SAMPLING_THREADS, 0, "PPPPPPPi", *values, **together)

    def score_rows(
        self, logits: int, places: int, tokens: int, ids: int, logprobs: int, *, scores: int, vocab: int, num_top: int
    ) -> None:
        """The log-probabilities of some tokens, and of the most probable tokens of their rows (N10)."""
        values = (logits, places, tokens, ids, logprobs, vocab, num_top)
        self._launch("score_rows", (scores,), SAMPLING_THREADS, 0, "PPPPPii", *values)


def parts_of_row(rows: int, vocab: int, blocks: int) -> int:
    """The number of blocks that share each row's vocabulary, so that about `blocks` run at once."""
    return max(1, min(MOST_PARTS, blocks // rows, _ceil(vocab, SAMPLING_THREADS)))


def _ceil(count: int, step: int) -> int:
    return -(-count // step)
