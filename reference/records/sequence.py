"""One choice of a request while it is generated: its tokens, its pages, and how far they are computed."""

from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

import numpy as np

from verbatim.reference.records.request import Request


class Chunk(NamedTuple):
    """One sequence's share of a forward pass: consecutive tokens, and the pages that hold its keys and values.

    `num_logits` is for how many of the last tokens logits are wanted; `pages` reach over position start + tokens - 1.
    `adapter` is the key of the request's LoRA adapter. In a model with states (N14) the chunk begins from those in slot
    `state`, or from zeros (NO_STATE, -1) at position 0. `saves` say where states go: after so many of the chunk's
    tokens, in ascending order, to that slot, which nobody else uses; the slot that the chunk begins from may be one.
    Without `saves` no state is kept.
    """

    token_ids: tuple[int, ...]
    start: int
    pages: tuple[int, ...]
    num_logits: int = 1
    adapter: str = ""
    state: int = -1
    saves: tuple[tuple[int, int], ...] = ()


def wanted_rows(chunks: list[Chunk]) -> np.ndarray:
    """Which rows of a pass over these chunks are to have logits: the last ones of each."""
    ends = np.cumsum([len(chunk.token_ids) for chunk in chunks])
    if all(chunk.num_logits == 1 for chunk in chunks):
        return ends - 1
    return np.concatenate([np.arange(end - chunk.num_logits, end) for end, chunk in zip(ends, chunks, strict=True)])


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """Prompt and answer so far. Keys and values of the first `num_computed` tokens lie in `pages`.

    `draft_ids` are draft tokens that have yet to be verified; `side_draft_ids` are other lines of them, for a tree.
    In a model with states (N14), `states` are (tokens, slot) in ascending order: after so many tokens the states are in
    that slot. One is after `num_computed` tokens, if there are any; others are behind draft tokens, or will serve the
    prefix cache, and are released before the next step. `branch_at` is how many of the tokens, in whole pages, the
    prefix cache knew without a state.
    `num_forks` counts the further choices that still have to branch off once the prompt is computed, `num_scored` the
    prompt's tokens whose log-probabilities, or whose states, are out.
    """

    request: Request
    choice: int = 0
    output_ids: list[int] = field(default_factory=list)
    pages: tuple[int, ...] = ()
    states: tuple[tuple[int, int], ...] = ()
    branch_at: int = 0
    num_computed: int = 0
    num_cached: int = 0
    num_forks: int = 0
    num_scored: int = 0
    deadline: float = inf
    draft_ids: list[int] = field(default_factory=list)
    side_draft_ids: list[list[int]] = field(default_factory=list)
    num_drafted: int = 0
    num_accepted: int = 0

    def fork(self, choice: int, pages: tuple[int, ...], states: tuple[tuple[int, int], ...] = ()) -> "Sequence":
        """A further choice of the same request, computed and scored as far as this one; its pages hold the same."""
        return Sequence(
            request=self.request, choice=choice, pages=pages, states=states, num_computed=self.num_computed,
            num_scored=self.num_scored, deadline=self.deadline,
        )  # fmt: skip

    def state(self) -> tuple[tuple[int, int], ...]:
        """That of `states` which is after `num_computed` tokens; none before the first token, or without states."""
        return tuple(each for each in self.states if each[0] == self.num_computed)

    def __len__(self) -> int:
        """All tokens so far, prompt and answer."""
        return len(self.request.prompt_ids) + len(self.output_ids)

    @property
    def num_uncomputed(self) -> int:
        """Tokens that a forward pass has still to compute: 1 while decoding, more while prefilling."""
        return len(self) - self.num_computed

    def num_logits(self, start: int, stop: int) -> int:
        """For how many of the last of the tokens start to stop - 1 logits are wanted: the last, if nothing follows it.

        Where the prompt's own log-probabilities are asked for, each token but the first is scored by the one before.
        Where a mean of states is, each token adds to it; a pass gives states then in the place of logits.
        """
        if self.request.pooling == "mean":
            return max(0, stop - max(start, self.num_scored))
        if self.request.prompt_logprobs is not None and self.num_scored < len(self.request.prompt_ids) - 1:
            return max(0, stop - max(start, self.num_scored))
        return int(stop == len(self))

    def tokens(self, start: int, stop: int) -> tuple[int, ...]:
        """The ids at positions start to stop - 1."""
        num_prompt = len(self.request.prompt_ids)
        from_prompt = self.request.prompt_ids[start:stop]
        return (*from_prompt, *self.output_ids[max(0, start - num_prompt) : max(0, stop - num_prompt)])
