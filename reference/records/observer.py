"""Events of an engine: what `--explain`, tracing and comparison see of each step, without changing it.

A subscriber derives from `Observer`, overrides what it needs, and is given to `Engine.subscribe`. The engine takes the
same code path with and without subscribers.
"""

from dataclasses import dataclass
from typing import Any

from verbatim.reference.records.request import Output, Request
from verbatim.reference.records.sequence import Chunk, Sequence


@dataclass(frozen=True, slots=True)
class Token:
    """One sampled token: the logits (vocab,) that it was drawn from, what could not be drawn, and its output.

    `held` are the bytes that stopping holds back after it. `drafts` are the draft tokens from its position on: it
    accepts the first of them, or rejects them all.
    """

    sequence: Sequence
    logits: Any
    sampled: Any
    excluded: Any
    output: Output
    held: bytes
    drafts: tuple[int, ...] = ()


class Observer:
    """Receives the events of an engine. Within a step they come in the order of the methods from `on_step` on."""

    def on_add(self, request: Request) -> None:
        """A request was queued."""

    def on_abort(self, request_id: str) -> None:
        """A request that had not finished was removed."""

    def on_step(self) -> None:
        """A step begins."""

    def on_propose(self) -> None:
        """The speculator has set the draft tokens of the step; not called without one."""

    def on_schedule(self, work: list[tuple[Sequence, Chunk]]) -> None:
        """The scheduler has chosen what the step computes."""

    def on_forward(self, work: list[tuple[Sequence, Chunk]]) -> None:
        """The forward pass over this work is done."""

    def on_token(self, token: Token) -> None:
        """A token was sampled and appended. Its logits are valid until the next forward pass."""

    def on_finish(self, output: Output) -> None:
        """A choice has finished, with this output."""

    def on_step_end(self, outputs: list[Output]) -> None:
        """The step is over; these are its outputs."""
