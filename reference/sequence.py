"""One choice of one request while it is being written: its tokens, its pages, and how far they are computed."""

from dataclasses import dataclass, field

from reference.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One sequence's share of a forward pass: consecutive tokens, and the pages that hold its keys and values.

    `num_logits` is for how many of the last tokens logits are wanted; `pages` reach over position start + tokens - 1.
    """

    token_ids: tuple[int, ...]
    start: int
    pages: tuple[int, ...]
    num_logits: int = 1


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """Prompt and answer so far. Keys and values of the first `num_computed` tokens lie in `pages`.

    `draft_ids` are guesses of what comes next, not yet said. `num_forks` counts the further choices that still have
    to branch off once the prompt is computed.
    """

    request: Request
    choice: int = 0
    output_ids: list[int] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    num_computed: int = 0
    num_cached: int = 0
    num_forks: int = 0
    draft_ids: list[int] = field(default_factory=list)
    num_drafted: int = 0
    num_accepted: int = 0

    def __len__(self) -> int:
        """All tokens so far, prompt and answer."""
        return len(self.request.prompt_ids) + len(self.output_ids)

    @property
    def num_uncomputed(self) -> int:
        """Tokens that a forward pass has still to take in: 1 while decoding, more while prefilling."""
        return len(self) - self.num_computed

    def tokens(self, start: int, stop: int) -> tuple[int, ...]:
        """The ids at positions start to stop - 1."""
        num_prompt = len(self.request.prompt_ids)
        from_prompt = self.request.prompt_ids[start:stop]
        return (*from_prompt, *self.output_ids[max(0, start - num_prompt) : max(0, stop - num_prompt)])
