"""Runs cases: most in parallel, then those that measure time, then the harsh cases; stops when the server is down.

A case that got no answer while others ran is run again alone, and that verdict counts: the server may have been busy
with another request. When a server does not answer any more, the remaining cases are skipped and name the last case.
"""

import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

from verbatim.conformance.case import Case, OutcomeError
from verbatim.conformance.client import LEFT, Client, Reading, Settings
from verbatim.conformance.exchange import Exchange
from verbatim.conformance.probe import CHAT, Budget, Probe, RecordedProbe

TROUBLES_BEFORE_HEALTH_CHECK = 3
DOWN_TIMEOUTS = 3  # a server that answers nothing for so many timeouts counts as down


@dataclass
class Result:
    """The verdict on a case, with its evidence."""

    case: Case
    verdict: str
    expected: str = ""
    actual: str = ""
    seconds: float = 0.0
    exchanges: list[Exchange] = field(default_factory=list)


def judge(case: Case, probe: Probe) -> Result:
    """Run a case to its verdict."""
    start = time.monotonic()
    try:
        case.judge(probe)
        outcome = ("pass", "", "")
    except OutcomeError as end:
        outcome = (end.verdict, end.expected, end.actual)
    except Exception:
        outcome = ("broken", "the suite judges the case", traceback.format_exc(limit=-4))
    return Result(case, *outcome, time.monotonic() - start, probe.exchanges)


def has_no_answer(result: Result) -> bool:
    """Whether a case failed because the server sent no answer or only a part of it."""
    return result.verdict == "fail" and any(exchange.trouble not in (None, LEFT) for exchange in result.exchanges)


class Run:
    """A run of some cases against a server."""

    def __init__(self, settings: Settings, *, concurrency: int = 4, budget: int | None = None):
        self.settings, self.concurrency = settings, concurrency
        self.client, self.budget = Client(settings), Budget(budget)
        self._lock = threading.Lock()
        self._troubles, self._dead_since = 0, ""

    def results(self, cases: Iterable[Case], on_start: Callable[[Case], None] = lambda case: None) -> Iterator[Result]:
        """Results as they come."""
        cases = list(cases)
        harsh = [case for case in cases if case.is_harsh]  # last: some servers crash or hang on them
        alone = [case for case in cases if case.is_alone]
        unanswered = []
        together = [case for case in cases if case not in harsh and case not in alone]
        for result in self._phase(together, on_start, self.concurrency):
            if has_no_answer(result):
                unanswered.append(result)
            else:
                yield result
        if self._dead_since:
            yield from unanswered
        else:
            yield from self._phase([result.case for result in unanswered], on_start)
        yield from self._phase(alone, on_start)
        yield from self._phase(harsh, on_start)

    def _phase(self, cases: list[Case], on_start: Callable[[Case], None], concurrency: int = 1) -> Iterator[Result]:
        """Run some cases, a number of them in parallel. Serially, the case that brought the server down is known."""
        allowed = 1 if concurrency == 1 else TROUBLES_BEFORE_HEALTH_CHECK
        with ThreadPoolExecutor(concurrency) as pool:
            for future in as_completed([pool.submit(self._run_case, case, on_start, allowed) for case in cases]):
                yield future.result()

    def _run_case(self, case: Case, on_start: Callable[[Case], None], allowed: int) -> Result:
        if self._dead_since:
            return Result(case, "skipped", "a server that answers", self._dead_since)
        on_start(case)
        result = judge(case, Probe(case, self.client, self.budget))
        with self._lock:
            self._troubles = self._troubles + 1 if has_no_answer(result) else 0
            if self._troubles >= allowed and not self._dead_since and not self.is_alive():
                self._dead_since = f"it gave no answer after {case.id}: {result.actual}"
        return result

    def is_alive(self) -> bool:
        """Whether a plain request is answered completely. A crashed server has the time of a request to restart."""
        body = {"model": self.settings.model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        limit, restart_by = self.settings.timeout * DOWN_TIMEOUTS, time.monotonic() + self.settings.timeout
        while True:
            exchange = self.client.send("POST", CHAT, body, reading=Reading(timeout=limit))
            if exchange.status is not None or exchange.seconds >= limit:
                return exchange.seconds < limit
            if time.monotonic() > restart_by:
                return False
            time.sleep(self.settings.timeout / 20)


def rejudge(cases: Iterable[tuple[Case, list[Exchange]]], settings: Settings) -> Iterator[Result]:
    """Judge saved evidence again, without a server."""
    for case, exchanges in cases:
        yield judge(case, RecordedProbe(case, settings, exchanges))
