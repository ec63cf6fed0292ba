"""The line about load: every few seconds while the engine computes, what it has done since; none when idle."""

import time
from collections.abc import Callable, Iterable

from sanic.log import logger

from verbatim.reference.records.request import Output

LINE = "%(model)s: %(running)d running, %(waiting)d waiting, %(tokens_per_second).1f tokens/s, cache %(cache).0f%% used"
DRAFTS = ", %(accepted).0f%% of %(drafted)d draft tokens accepted"


class LoadReport:
    """Counts the tokens of answers, and writes a line once `interval` seconds have passed with any; 0: never.

    `stats` gives the engine's counts. Times are seconds of `time.monotonic`.
    """

    def __init__(self, model_id: str, interval: float, stats: Callable[[], dict[str, int]]):
        self.model_id, self.interval, self._stats = model_id, interval, stats
        self._started: float | None = None  # of this interval; None while there is nothing to tell
        self._num_tokens = 0
        self._drafts = (0, 0)  # drafted and accepted tokens at that time

    def take(self, outputs: Iterable[Output]) -> None:
        """Count what a step has made."""
        if not self.interval:
            return
        if self._started is None:
            self._started = time.monotonic()
        self._num_tokens += sum([len(output.token_ids) for output in outputs])
        self.write_if_due()

    def write_if_due(self) -> None:
        """Write the line if it is time, and begin a new interval; the engine calls this while it is idle, too."""
        if self._started is None or (passed := time.monotonic() - self._started) < self.interval:
            return
        stats = self._stats()
        drafts = stats["drafted_tokens"], stats["accepted_tokens"]
        drafted, accepted = (now - before for now, before in zip(drafts, self._drafts, strict=True))
        facts = {
            "model": self.model_id,
            "running": stats["running"],
            "waiting": stats["waiting"],
            "tokens_per_second": self._num_tokens / passed,
            "cache": 100 * stats["used_pages"] / stats["total_pages"],
        }
        if drafted:
            facts |= {"drafted": drafted, "accepted": 100 * accepted / drafted}
        logger.info(LINE + DRAFTS if drafted else LINE, facts, extra={"facts": facts})
        is_busy = stats["running"] + stats["waiting"] > 0
        self._started, self._num_tokens, self._drafts = time.monotonic() if is_busy else None, 0, drafts
