"""Completions as they are built from outputs: the text of each choice, whole and as streamed chunks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from math import inf
from typing import Any

from verbatim.reference.records.request import Output, TokenLogprob
from verbatim.server.api.builder import ChunkBuilder
from verbatim.server.api.logprobs import CompletionLogprobs, entries_of, prompt_entries


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as text, as ids and as their bytes; `scores` fills with its log-probabilities from the second id on."""

    text: str
    ids: tuple[int, ...]
    tokens: list[bytes]
    scores: list[TokenLogprob] = field(default_factory=list)


class CompletionBuilder(ChunkBuilder["CompletionChoice"]):
    """Answers to every prompt, or of more candidates the `num_shown` best ones."""

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

    `echo` is the prompt that goes in front of it, the same record for all choices of that prompt.
    """

    def __init__(self, index: int, echo: Prompt | None, wants_logprobs: bool):
        self.index = index
        self.echo = echo
        self.texts: list[str] = []
        self.logprobs = CompletionLogprobs() if wants_logprobs else None
        self.finish_reason: str | None = None
        self._scores: list[float] = []

    @property
    def mean_logprob(self) -> float:
        """The mean log-probability of the text's tokens, where they were scored; a text of none comes last."""
        return sum(self._scores) / len(self._scores) if self._scores else -inf

    def take(self, output: Output) -> list[dict]:
        """One item with the new text, or none if there is nothing to say."""
        if self.echo is not None:
            self.echo.scores.extend(output.prompt_logprobs)
        self._scores += [entry.chosen.logprob for entry in output.logprobs]
        if not (output.text or output.logprobs or output.finish_reason):
            return []
        text, entries = output.text, entries_of(output.logprobs)
        if self.echo is not None and not self.texts:
            text, entries = self.echo.text + text, prompt_entries(self.echo.tokens, self.echo.scores) + entries
        self.texts.append(text)
        self.finish_reason = output.finish_reason and str(output.finish_reason)
        return [self._item(text, self.logprobs.add(entries) if self.logprobs and entries else None)]

    def whole(self) -> dict:
        """The finished choice."""
        return self._item("".join(self.texts), self.logprobs.arrays if self.logprobs else None)

    def _item(self, text: str, logprobs: dict | None) -> dict:
        return {"index": self.index, "text": text, "logprobs": logprobs, "finish_reason": self.finish_reason}
