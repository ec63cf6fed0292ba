"""What the engine did and when, as Chrome's trace viewer and Perfetto read it.

Spans of a step (schedule, forward, sample) lie in the row "engine"; each request has a row of its own, with its
prefill, its decoding and how it ended. Only the latest events are kept, so that a server can trace for days. Times
are microseconds of the wall clock. (The format is Google's "Trace Event Format".)
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from verbatim.reference.records.request import Output, Request

MAX_EVENTS = 100_000
ENGINE = "engine"


class Tracer:
    """Collects events; `dump` gives them in order of time."""

    def __init__(self):
        self._events: deque[dict] = deque(maxlen=MAX_EVENTS)
        self._since: dict[tuple[str, int], tuple[str, float]] = {}  # choice: the phase that it is in, and since when

    def dump(self) -> list[dict]:
        """The events so far."""
        return sorted(self._events, key=lambda event: event["ts"])

    def clear(self) -> None:
        """Forget them."""
        self._events.clear()

    def timed(self, name: str, function: Callable) -> Callable:
        """The same function, each call of it a span."""

        def call(*arguments, **named):
            start = time.time()
            try:
                return function(*arguments, **named)
            finally:
                self._span(name, ENGINE, start)

        return call

    def added(self, request: Request) -> None:
        """A request has been queued: what comes until its first token is prefill."""
        self._instant("added", request.request_id, prompt_tokens=len(request.prompt_ids), n=request.n)
        self._since |= {(request.request_id, choice): ("prefill", time.time()) for choice in range(request.n)}

    def took(self, output: Output) -> None:
        """A step has added something to a choice."""
        key = output.request_id, output.choice
        if output.token_ids and self._since[key][0] == "prefill":
            self._end_phase(key)
            self._since[key] = "decode", time.time()
        if output.finish_reason:
            self._end_phase(key)
            self._instant(str(output.finish_reason), output.request_id, choice=output.choice)

    def aborted(self, request_id: str) -> None:
        """A request was given up from outside."""
        for key in [key for key in self._since if key[0] == request_id]:
            self._end_phase(key)
            self._instant("abort", request_id, choice=key[1])

    def _end_phase(self, key: tuple[str, int]) -> None:
        name, start = self._since.pop(key)
        self._span(name, key[0], start, choice=key[1])

    def _span(self, name: str, row: str, start: float, **facts) -> None:
        duration = round((time.time() - start) * 1e6)
        self._events.append(_event(name, row, start, ph="X", dur=duration, args=facts))

    def _instant(self, name: str, row: str, **facts) -> None:
        self._events.append(_event(name, row, time.time(), ph="i", s="t", args=facts))


class Timed:
    """An object whose calls of some methods are spans; everything else passes through."""

    def __init__(self, target, tracer: Tracer, *names: str):
        self._target = target
        self._spans = {name: tracer.timed(name, getattr(target, name)) for name in names}

    def __getattr__(self, name: str):
        return self._spans.get(name) or getattr(self._target, name)


def trace_engine(engine, tracer: Tracer) -> None:
    """Have the parts of an engine's step write spans."""
    engine.step = tracer.timed("step", engine.step)
    engine.scheduler = Timed(engine.scheduler, tracer, "schedule")
    engine.model = Timed(engine.model, tracer, "forward")
    engine.parts = replace(engine.parts, sample=tracer.timed("sample", engine.parts.sample))


def _event(name: str, row: str, start: float, **rest) -> dict:
    return {"name": name, "pid": 1, "tid": row, "ts": round(start * 1e6)} | rest
