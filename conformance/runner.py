"""Runs cases: a few at once, then those that measure time, then the harsh ones; stops when the server has died."""

import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

from conformance.case import Case, OutcomeError
from conformance.client import Client, Settings
from conformance.exchange import Exchange
from conformance.probe import CHAT, Budget, Probe, RecordedProbe

TROUBLES_BEFORE_A_LOOK = 3


@dataclass
class Result:
    """The verdict on one case, and all that it rests on."""

    case: Case
    verdict: str
    expected: str = ""
    actual: str = ""
    seconds: float = 0.0
    exchanges: list[Exchange] = field(default_factory=list)


def judge(case: Case, probe: Probe) -> Result:
    """Run one case to its verdict."""
    start = time.monotonic()
    try:
        case.judge(probe)
        outcome = ("pass", "", "")
    except OutcomeError as end:
        outcome = (end.verdict, end.expected, end.actual)
    except Exception:
        outcome = ("broken", "the suite judges the case", traceback.format_exc(limit=-4))
    return Result(case, *outcome, time.monotonic() - start, probe.exchanges)


class Run:
    """One run over some cases against one server."""

    def __init__(self, settings: Settings, *, concurrency: int = 4, budget: int | None = None):
        self.settings, self.concurrency = settings, concurrency
        self.client, self.budget = Client(settings), Budget(budget)
        self._lock = threading.Lock()
        self._troubles, self._dead_since = 0, ""

    def results(self, cases: Iterable[Case], on_start: Callable[[Case], None] = lambda case: None) -> Iterator[Result]:
        """Results as they come."""
        cases = list(cases)
        harsh = [case for case in cases if case.section == "limits"]  # last: not every server outlives them
        alone = [case for case in cases if case.is_alone]
        for together in ([case for case in cases if case not in harsh and case not in alone], alone, harsh):
            with ThreadPoolExecutor(1 if together is alone else self.concurrency) as pool:
                for future in as_completed([pool.submit(self._one, case, on_start) for case in together]):
                    yield future.result()

    def _one(self, case: Case, on_start: Callable[[Case], None]) -> Result:
        if self._dead_since:
            return Result(case, "skipped", "a server that answers", self._dead_since)
        on_start(case)
        result = judge(case, Probe(case, self.client, self.budget))
        silent = [exchange for exchange in result.exchanges if exchange.status is None]
        with self._lock:
            if not silent:
                self._troubles = 0
            else:
                self._troubles += 1
                if self._troubles >= TROUBLES_BEFORE_A_LOOK and not self._dead_since and not self.is_alive():
                    self._dead_since = f"it gave no answer any more by the end of {case.id}: {silent[-1].trouble}"
        return result

    def is_alive(self) -> bool:
        """Whether the server still answers anything at all to a plain request."""
        body = {"model": self.settings.model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        return self.client.send("POST", CHAT, body).status is not None


def rejudge(cases: Iterable[tuple[Case, list[Exchange]]], settings: Settings) -> Iterator[Result]:
    """Judge saved evidence again, without a server."""
    for case, exchanges in cases:
        yield judge(case, RecordedProbe(case, settings, exchanges))
