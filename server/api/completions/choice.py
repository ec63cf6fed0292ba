"""Completions as they are built from outputs: the text of each choice, whole and as streamed chunks."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import inf
from typing import Any, ClassVar

from verbatim.reference.records.request import Output, TokenLogprob
from verbatim.server.api.builder import ChunkBuilder
from verbatim.server.api.logprobs import CompletionLogprobs, entries_of, finite, prompt_entries


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as text, as ids and as their bytes; `scores` fills with its log-probabilities from the second id on."""

    text: str
    ids: tuple[int, ...]
    tokens: list[bytes]
    scores: list[TokenLogprob] = field(default_factory=list)

    def echoed(self, num_top: int) -> list[TokenLogprob]:
        """The scores with at most so many alternatives."""
        return [replace(score, top=score.top[:num_top]) for score in self.scores]

    def logprobs(self, num_top: int) -> list[dict | None]:
        """The same as vLLM writes them: by token id; nothing comes before the first token, so that one has none."""
        return [None, *(_by_id(score) for score in self.echoed(num_top))]


class CompletionBuilder(ChunkBuilder["CompletionChoice"]):
    """Answers to every prompt, or of more candidates the `num_shown` best ones."""

    is_prompt_in_choices: ClassVar[bool] = True

    def __init__(self, num_shown: int, **settings: Any):
        super().__init__(**settings)
        self._num_shown = num_shown

    def chosen(self) -> Sequence["CompletionChoice"]:
        """Prompt by prompt the best, best first where there were more; all in their order where there were not."""
        shown: list[CompletionChoice] = []
        for _, group in groupby(self.choices.items(), key=lambda item: item[0][0]):
            candidates = [choice for _, choice in group]
            if len(candidates) > self._num_shown:
                candidates.sort(key=lambda choice: -choice.mean_logprob)  # stable: of equals the first
            shown += candidates[: self._num_shown]
        for index, choice in enumerate(shown):
            choice.index = index
        return shown


class CompletionChoice:
    """One continuation, built from outputs; gives each part as a streamed `choices` item.

    The prompt, a record that all its choices have, goes in front of it if `is_echoed`. `num_top` are the alternatives
    of its tokens, and `num_prompt_top` those of the prompt's in a list of its own; None for no log-probabilities.
    """

    def __init__(
        self, index: int, prompt: Prompt, *, is_echoed: bool, num_top: int | None, num_prompt_top: int | None = None
    ):
        self.index = index
        self.prompt, self.is_echoed = prompt, is_echoed
        self.texts: list[str] = []
        self.logprobs = None if num_top is None else CompletionLogprobs()
        self.num_top, self.num_prompt_top = num_top, num_prompt_top
        self.finish_reason: str | None = None
        self._scores: list[float] = []

    @property
    def mean_logprob(self) -> float:
        """The mean log-probability of the text's tokens, where they were scored; a text of none comes last."""
        return sum(self._scores) / len(self._scores) if self._scores else -inf

    def take(self, output: Output) -> list[dict]:
        """One item with the new text, or none if there is nothing to say."""
        self.prompt.scores.extend(output.prompt_logprobs)
        self._scores += [entry.chosen.logprob for entry in output.logprobs]
        if not (output.text or output.logprobs or output.finish_reason):
            return []
        text, entries = output.text, entries_of(output.logprobs)
        if self.is_echoed and not self.texts:
            text = self.prompt.text + text
            entries = prompt_entries(self.prompt.tokens, self.prompt.echoed(self.num_top or 0)) + entries
        self.texts.append(text)
        self.finish_reason = output.finish_reason and str(output.finish_reason)
        return [self._item(text, self.logprobs.add(entries) if self.logprobs and entries else None)]

    def whole(self) -> dict:
        """The finished choice."""
        item = self._item("".join(self.texts), self.logprobs.arrays if self.logprobs else None)
        if self.num_prompt_top is None:
            return item
        return item | {"prompt_logprobs": self.prompt.logprobs(self.num_prompt_top)}

    def empty(self) -> dict:
        """An item that adds nothing."""
        return self._item("", None)

    def _item(self, text: str, logprobs: dict | None) -> dict:
        return {"index": self.index, "text": text, "logprobs": logprobs, "finish_reason": self.finish_reason}


def _by_id(score: TokenLogprob) -> dict[str, dict]:
    """The alternatives by token id, and the prompt's own token, whose rank is known only among them."""
    ranked = {str(each.token_id): (rank, each) for rank, each in enumerate(score.top, start=1)}
    chosen = score.chosen
    found = {str(chosen.token_id): (None, chosen)} | ranked
    return {
        token_id: {"logprob": finite(each.logprob), "rank": rank, "decoded_token": each.token.decode(errors="replace")}
        for token_id, (rank, each) in found.items()
    }
