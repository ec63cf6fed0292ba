"""What the engine did and when, as Chrome's trace viewer and Perfetto read it.

Spans of a step (propose, schedule, forward, sample) lie in the row "engine", sample once for each token: of tokens that
are drawn together the first has their time. Each request has a row of its own: its prefill, its decoding, how it
ended. Only the latest events are kept, so that a server can trace for days. Times are microseconds of the wall clock.
(The format is Google's "Trace Event Format".)
"""

import time
from collections import deque

from verbatim.reference.records.observer import Observer, Token
from verbatim.reference.records.request import Output, Request

MAX_EVENTS = 100_000
ENGINE = "engine"


class Tracer(Observer):
    """Collects the events of the engine that it is subscribed to; `dump` gives them in order of time."""

    def __init__(self):
        self._events: deque[dict] = deque(maxlen=MAX_EVENTS)
        self._since: dict[tuple[str, int], tuple[str, float]] = {}  # choice: the phase that it is in, and since when
        self._step_start = self._mark = 0.0  # when the step, and the part of it that is under way, began

    def dump(self) -> list[dict]:
        """The events so far."""
        return sorted(self._events, key=lambda event: event["ts"])

    def clear(self) -> None:
        """Drop them."""
        self._events.clear()

    def on_add(self, request: Request) -> None:
        """What comes until the first token of a request is prefill."""
        self._instant("added", request.request_id, prompt_tokens=len(request.prompt_ids), n=request.n)
        self._since |= {(request.request_id, choice): ("prefill", time.time()) for choice in range(request.n)}

    def on_abort(self, request_id: str) -> None:
        """A request was given up from outside."""
        for key in [key for key in self._since if key[0] == request_id]:
            self._end_phase(key)
            self._instant("abort", request_id, choice=key[1])

    def on_step(self) -> None:
        """The span of a step begins."""
        self._step_start = self._mark = time.time()

    def on_propose(self) -> None:
        """What draft tokens took."""
        self._end_part("propose")

    def on_schedule(self, work) -> None:
        """What scheduling took."""
        self._end_part("schedule")

    def on_forward(self, work) -> None:
        """What the forward pass took."""
        self._end_part("forward")

    def on_token(self, token: Token) -> None:
        """What sampling took; the first token of a choice ends its prefill."""
        self._end_part("sample")
        key = token.output.request_id, token.output.choice
        if self._since[key][0] == "prefill":
            self._end_phase(key)
            self._since[key] = "decode", time.time()

    def on_finish(self, output: Output) -> None:
        """How a choice ended."""
        self._end_phase((output.request_id, output.choice))
        self._instant(str(output.finish_reason), output.request_id, choice=output.choice)

    def on_step_end(self, outputs) -> None:
        """The span of a step ends."""
        self._span("step", ENGINE, self._step_start)

    def _end_part(self, name: str) -> None:
        """A span from the last event of the step to now."""
        self._span(name, ENGINE, self._mark)
        self._mark = time.time()

    def _end_phase(self, key: tuple[str, int]) -> None:
        name, start = self._since.pop(key)
        self._span(name, key[0], start, choice=key[1])

    def _span(self, name: str, row: str, start: float, **facts) -> None:
        duration = round((time.time() - start) * 1e6)
        self._events.append(_event(name, row, start, ph="X", dur=duration, args=facts))

    def _instant(self, name: str, row: str, **facts) -> None:
        self._events.append(_event(name, row, time.time(), ph="i", s="t", args=facts))


def _event(name: str, row: str, start: float, **rest) -> dict:
    return {"name": name, "pid": 1, "tid": row, "ts": round(start * 1e6)} | rest
