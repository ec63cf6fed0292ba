"""The parts of an engine as types: what the loop, the commands and the server may rely on in any engine.

reference/ and fastpath/ have the same classes under the same names (`Parts`); these protocols say what the two have in
common. Rows of logits are `Any`: NumPy arrays on a processor, handles of rows that stay on the device on a GPU.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.drawn import Drawn
from verbatim.reference.records.request import FinishReason, Output, SamplingParams
from verbatim.reference.records.sequence import Chunk, Sequence

Pages = list[int] | tuple[int, ...]  # their numbers, in the order of positions
Work = list[tuple[Sequence, Chunk]]  # of a step: each sequence with its chunk, in the order of the rows


class Adapters(Protocol):
    """The LoRA adapters that a model has in memory."""

    def __contains__(self, key: str) -> bool:
        """Whether the adapter with this key is there."""

    def add(self, adapter: Any) -> None:
        """Take one into memory."""

    def remove(self, key: str) -> None:
        """Take one out of memory."""


class Model(Protocol):
    """A decoder with its weights in memory."""

    config: ModelConfig
    watch: Callable[[int | None, str, np.ndarray], None] | None

    @property
    def adapters(self) -> Adapters:
        """The LoRA adapters that are in memory."""

    def forward(self, chunks: list[Chunk], cache: Any) -> Any:
        """Logits float32 (wanted rows, vocab)."""

    def states(self, chunks: list[Chunk], cache: Any, beside: np.ndarray | None = None) -> np.ndarray:
        """The last layer's normed states, float32 (tokens, hidden)."""

    def score(self, states: np.ndarray) -> Any:
        """Logits float32 (rows, vocab) of normed states."""


class PagedCache(Protocol):
    """Pages of keys and values, and how many use each."""

    num_pages: int
    dtype: str
    states: Any  # StateCache, or None

    @property
    def num_free(self) -> int:
        """Pages that nobody uses."""

    def allocate(self) -> int:
        """Take a free page."""

    def share(self, pages: Pages) -> list[int]:
        """One more user of each page."""

    def release(self, pages: Pages) -> None:
        """One user less of each page."""

    def num_users(self, page: int) -> int:
        """How many hold the page."""

    def is_shared(self, page: int) -> bool:
        """Whether more than one holds the page."""

    def copy(self, page: int) -> int:
        """A new page with the same content."""

    def fork(self, pages: Pages, start: int, stop: int) -> list[int] | None:
        """Pages for another continuation; None if too few are free."""

    def read(self, layer: int, pages: Iterable[int], num_tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values, float32 (num_tokens, kv_heads, head_dim); or keys, and the latents that they hold."""

    def export_pages(self, pages: Iterable[int]) -> np.ndarray:
        """The pages' content in the layout of page_data.py."""

    def import_pages(self, pages: Iterable[int], data: np.ndarray) -> None:
        """Fill pages with an export."""

    def check(self, holdings: Iterable[Iterable[int]]) -> None:
        """Raise AssertionError if the counts are wrong."""


class PrefixCache(Protocol):
    """Pages of what has been computed before, by token ids."""

    @property
    def num_idle(self) -> int:
        """Pages that eviction could free."""

    def match(self, token_ids: tuple[int, ...], salt: str = "") -> tuple[list[int], int]:
        """The longest known beginning."""

    def evict(self) -> bool:
        """Free a page; False if there is none to be freed."""

    def trim(self) -> None:
        """Evict ended sequences beyond the bound on them."""

    def clear(self) -> None:
        """Evict everything."""


class Scheduler(Protocol):
    """Who computes what in the next step."""

    waiting: Any
    running: list[Sequence]
    prefill_chunk_size: int

    def longest(self) -> int:
        """How many tokens a sequence may have."""

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""

    def fork(self, sequence: Sequence, choice: int) -> Sequence:
        """A further choice of a sequence."""

    def add_forks(self, sequences: list[Sequence]) -> None:
        """Queue further choices, whose prompt is computed."""

    def count_slots(self) -> dict[str, int]:
        """Counts of slots for states."""

    def remove(self, sequence: Sequence) -> None:
        """Free what a sequence holds."""

    def remember(self, sequence: Sequence, num_tokens: int) -> None:
        """Give computed tokens to the prefix cache."""

    def schedule(self) -> Work:
        """The work of the next step."""

    def check(self) -> None:
        """Raise AssertionError if an invariant does not hold."""


class Stopper(Protocol):
    """When an answer ends, and what is held back of it."""

    max_tokens: int
    held: bytes


class Answer(Protocol):
    """The text of one choice."""

    stopper: Stopper
    sampled: Any
    excluded: Any
    pool: Any

    def draw(self, logits: Any) -> Drawn:
        """Sample the next token without appending it."""

    def extend(self, row: Any) -> Output:
        """Append the next token."""

    def score(self, scored: Iterable[Any]) -> Output:
        """Log-probabilities of the prompt."""

    def end(self, reason: FinishReason, message: str | None = None) -> Output:
        """End without another token."""


class Speculator(Protocol):
    """Proposes draft tokens."""

    needs_states: bool

    def propose(self, lengths: dict[Sequence, int]) -> None:
        """Set the draft tokens of each sequence."""

    def observe(self, work: Work, states: Any) -> None:
        """See the states of a pass."""

    def branch(self, sequence: Sequence, forks: list[Sequence]) -> None:
        """A sequence goes on as several."""

    def remove(self, sequence: Sequence) -> None:
        """Drop what is kept for a sequence that has finished."""

    def check(self) -> None:
        """Raise AssertionError if pages are lost."""


class Sample(Protocol):
    """The sampler of one row."""

    def __call__(
        self, logits: Any, sampling: SamplingParams, *, prompt_ids: tuple[int, ...], output_ids: list[int],
        position: int, choice: int, excluded: Any = (),
    ) -> Any:  # fmt: skip
        """The token at `position`; NumericsError if a logit is not finite."""


class SampleBatch(Protocol):
    """The sampler of a step."""

    def __call__(self, rows: Any, work: Work, answers: dict[Sequence, Answer]) -> Any:
        """For each row what was drawn (Drawn), or the row itself."""


class ExtendDecoding(Protocol):
    """Appends what the sampler of a step drew."""

    def __call__(self, work: Work, answers: dict[Sequence, Answer], drawn: Any) -> tuple[list[Output], list[Sequence]]:
        """The outputs of the sequences that decode one token each, and those of them that ended."""


class Executor(Protocol):
    """Computes what the loop has planned."""

    @property
    def model(self) -> Model:
        """The model, or that of rank 0."""

    def forward(self, batch: list[Chunk]) -> Any:
        """Logits float32 (wanted rows, vocab)."""

    def states(self, batch: list[Chunk]) -> Any:
        """Normed states, float32 (tokens, hidden)."""

    def score(self, states: Any) -> Any:
        """Logits of normed states."""
