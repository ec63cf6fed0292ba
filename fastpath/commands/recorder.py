"""An engine's steps as a list of events that can be compared: plans, intermediate results, tokens, outputs."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from verbatim.reference.engine.loop import Engine
from verbatim.reference.records.observer import Observer, Token
from verbatim.reference.records.request import Output
from verbatim.reference.records.sequence import Chunk, Sequence


@dataclass(frozen=True, slots=True)
class Place:
    """A token of a request; what is computed from it is a row."""

    request: int
    position: int
    token_id: int


@dataclass(frozen=True, slots=True)
class Event:
    """One result on the way: an array (rows, elements), and the place of each row."""

    layer: int | None
    operation: str
    rows: np.ndarray
    places: list[Place]


class Recorder(Observer):
    """Steps an engine, and keeps what the step shows as events, in order."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self.work: list[tuple[Sequence, Chunk]] = []
        self.events: list[Event] = []
        self._num_seen: Counter[tuple] = Counter()
        engine.model.watch = self._see
        engine.subscribe(self)

    def step(self) -> list[Event]:
        """All events of the next step."""
        self.events, self._num_seen, self.work = [], Counter(), []
        outputs = self.engine.step()
        return self.events + [event for output in outputs for event in self._emitted(output)]

    def on_schedule(self, work: list[tuple[Sequence, Chunk]]) -> None:
        """What each sequence computes in the step."""
        self.work = work
        for sequence, chunk in work:
            row = _row(chunk.start, len(chunk.token_ids), chunk.num_logits)
            self.events.append(Event(None, "schedule", row, [_place(sequence, chunk.start)]))

    def _see(self, layer: int | None, operation: str, rows: np.ndarray) -> None:
        count = self._num_seen[layer, operation]
        self._num_seen[layer, operation] += 1
        self.events.append(Event(layer, operation, rows.copy(), self._places(operation, count)))

    def _places(self, operation: str, count: int) -> list[Place]:
        """Which tokens the rows belong to; cached keys, values and states are shown one sequence after the other."""
        if operation == "state":
            saved = [(sequence, chunk.start + at - 1) for sequence, chunk in self.work for at, _ in chunk.saves]
            return [_place(*saved[count])]
        if operation.startswith("cached"):
            sequence, chunk = self.work[count]
            return [_place(sequence, position) for position in range(chunk.start + len(chunk.token_ids))]
        places = []
        for sequence, chunk in self.work:
            stop = chunk.start + len(chunk.token_ids)
            start = stop - chunk.num_logits if operation in ("norm", "logits") else chunk.start
            places.extend(_place(sequence, position) for position in range(start, stop))
        return places

    def on_token(self, token: Token) -> None:
        """Its id, its log-probability and the alternatives."""
        place, sampled = [_place(token.sequence, len(token.sequence) - 1)], token.sampled
        ids, logprobs = zip(*sampled.top, strict=True)
        self.events += [
            Event(None, "sampled token", _row(sampled.token_id), place),
            Event(None, "log-probability", np.array([[sampled.logprob]], np.float32), place),
            Event(None, "likeliest tokens", _row(*ids), place),
            Event(None, "their log-probabilities", np.array([logprobs], np.float32), place),
        ]

    def _emitted(self, output: Output):
        place = [Place(int(output.request_id), output.num_prompt_tokens + output.num_completion_tokens - 1,
                       output.token_ids[-1] if output.token_ids else -1)]  # fmt: skip
        for name in ("text", "finish_reason", "error"):
            yield Event(None, name, _row(getattr(output, name)), place)


def _row(*values) -> np.ndarray:
    """A row of what is no float, compared by ==."""
    row = np.empty((1, len(values)), object)
    row[0] = values
    return row


def _place(sequence: Sequence, position: int) -> Place:
    (token_id,) = sequence.tokens(position, position + 1)
    return Place(int(sequence.request.request_id), position, token_id)
