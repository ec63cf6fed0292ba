"""A batch as integers for the device: token ids, positions, page offsets, rows that want logits, pages.

They are one int32 array, in this order, so that one copy transfers them. In a decode-only pass every row has as many
pages as the longest needs, rounded up, so that passes of the same shape share a graph.
"""

from dataclasses import dataclass

import numpy as np

from verbatim.fastpath.cache.pages import NO_PAGE, PAGE_SIZE
from verbatim.fastpath.gpu.operations import KEY_BLOCK, Places
from verbatim.reference.records.limits import MAX_DRAFT_LENGTH
from verbatim.reference.records.sequence import wanted_rows

PAGES_A_BLOCK = KEY_BLOCK // PAGE_SIZE
MOST_DECODED = MAX_DRAFT_LENGTH + 1  # a sampled token and the maximum of draft tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of a forward pass. `key_blocks` is 0 unless the pass only decodes."""

    rows: int
    num_wanted: int
    num_pages: int
    key_blocks: int = 0

    @property
    def size(self) -> int:
        """The number of integers."""
        return 3 * self.rows + self.num_wanted + self.num_pages

    def places(self, start: int) -> Places:
        """Device addresses of positions, page offsets and pages, for an array at `start`."""
        at = [start + 4 * self.rows, start + 8 * self.rows, start + 12 * self.rows + 4 * self.num_wanted]
        return Places(positions=at[0], first_page=at[1], pages=at[2])

    def wanted(self, start: int) -> int:
        """The device address of the rows that want logits, for an array at `start`."""
        return start + 12 * self.rows


def describe(chunks) -> Shape:
    """The shape of a forward pass over these chunks."""
    rows, wanted = sum(len(chunk.token_ids) for chunk in chunks), sum(chunk.num_logits for chunk in chunks)
    if not all(is_decoding(chunk) for chunk in chunks):
        return Shape(rows=rows, num_wanted=wanted, num_pages=sum(len(chunk.pages) for chunk in chunks))
    blocks = max((chunk.start + len(chunk.token_ids) - 1) // KEY_BLOCK + 1 for chunk in chunks)
    key_blocks = 1 << (blocks - 1).bit_length()
    return Shape(rows=rows, num_wanted=rows, num_pages=rows * key_blocks * PAGES_A_BLOCK, key_blocks=key_blocks)


def is_decoding(chunk) -> bool:
    """Whether a chunk decodes: a sampled token, perhaps with draft tokens, all of which want logits."""
    return chunk.num_logits == len(chunk.token_ids) <= MOST_DECODED


def fill(numbers: np.ndarray, shape: Shape, chunks) -> None:
    """Write these chunks into an array of that shape's size."""
    rows, wanted = shape.rows, shape.num_wanted
    numbers[:rows] = np.concatenate([np.asarray(chunk.token_ids, np.int64) for chunk in chunks])
    lengths = [len(chunk.token_ids) for chunk in chunks]
    numbers[rows : 2 * rows] = np.concatenate([chunk.start + np.arange(len(chunk.token_ids)) for chunk in chunks])
    numbers[3 * rows : 3 * rows + wanted] = wanted_rows(chunks)
    pages = numbers[3 * rows + wanted : shape.size]
    if shape.key_blocks:
        width = shape.key_blocks * PAGES_A_BLOCK
        numbers[2 * rows : 3 * rows] = np.arange(rows) * width
        pages[...] = 0
        of_rows, row = pages.reshape(rows, width), 0
        for chunk, length in zip(chunks, lengths, strict=True):
            held = chunk.pages[:width]
            of_rows[row : row + length, : len(held)] = held
            row += length
    else:
        first = np.cumsum([0, *[len(chunk.pages) for chunk in chunks]])[:-1]
        numbers[2 * rows : 3 * rows] = np.repeat(first, lengths)
        pages[...] = np.concatenate([np.asarray(chunk.pages) for chunk in chunks])
    pages[pages == NO_PAGE] = 0  # freed pages lie outside the window and are never read


def check(chunks, config, cache) -> None:
    """Check all integers that kernels use as addresses; raises IndexError or ValueError."""
    ids = [token_id for chunk in chunks for token_id in chunk.token_ids]
    if not ids or min(ids) < 0 or max(ids) >= config.vocab_size:
        raise IndexError(f"token ids must be at least one and lie in 0..{config.vocab_size - 1}")
    if cache.shape != (config.num_kv_heads, config.head_dim) or cache.num_layers != config.num_layers:
        raise ValueError("the cache was made for another model")
    for chunk in chunks:
        stop = chunk.start + len(chunk.token_ids)
        if not 0 <= chunk.start <= stop <= min(config.context_size, len(chunk.pages) * PAGE_SIZE):
            raise IndexError(f"positions {chunk.start} to {stop - 1} lie outside the context or the chunk's pages")
        held = chunk.pages[chunk.start // PAGE_SIZE :]  # earlier pages may be freed
        if NO_PAGE in held or not all(NO_PAGE <= page < cache.num_pages for page in chunk.pages):
            raise IndexError(f"pages must lie in 0..{cache.num_pages - 1}, not {chunk.pages}")
