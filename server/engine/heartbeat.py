"""Whether a process makes progress: it writes a heartbeat to a small file, and others see when that stops.

An engine's heartbeat has the number of its steps, a worker's the rounds of its event loop. A process that is stopped,
or does not come out of a step, writes none: the main process kills it and starts another; `/ready` is then 503. The
file is written and read, never mapped, and its space is reserved when it is made, so that a full disk cannot end
anybody. Times are of the system-wide monotonic clock.
"""

import contextlib
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from verbatim.server.disk import reserve

FORM = struct.Struct("<QQdQ")
INTERVAL_SECONDS = 0.05  # so often a busy process writes, at most
POLL_SECONDS = 0.5
LOADING_FACTOR = 30  # an engine that loads may take so many times the limit of a step
SUFFIX = ".beat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A heartbeat: how many there were before it, how many steps were done by `time` in seconds, whether it loads."""

    number: int = 0
    steps: int = 0
    time: float = 0.0
    is_loading: bool = True

    def age(self) -> float:
        """Seconds since then."""
        return max(0.0, time.monotonic() - self.time)

    def limit(self, seconds: float) -> float:
        """How long no other may follow, where a step may take `seconds`."""
        return seconds * (LOADING_FACTOR if self.is_loading else 1)

    def is_late(self, seconds: float) -> bool:
        """Whether a next heartbeat is missing for longer than a step may take; 0 seconds: never."""
        return bool(seconds) and self.age() > self.limit(seconds) + POLL_SECONDS


class Heartbeat:
    """The writer's side: the file at `path`, made if it is absent."""

    def __init__(self, path: Path):
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        reserve(self._file, FORM.size)
        self._number, self._latest = 0, 0.0

    def beat(self, steps: int = 0, *, is_loading: bool = False) -> None:
        """Write one, unless another has been written just now; what cannot be written is left out."""
        now = time.monotonic()
        if now - self._latest < INTERVAL_SECONDS and not is_loading:
            return
        self._number, self._latest = self._number + 1, now if not is_loading else 0.0
        with contextlib.suppress(OSError):
            os.pwrite(self._file, FORM.pack(self._number, steps, now, is_loading), 0)

    def close(self) -> None:
        """Close the file, which stays."""
        os.close(self._file)


def mark_loading(path: Path) -> None:
    """Say, for a process that is about to start, that it loads. OSError if the disk is full."""
    heartbeat = Heartbeat(path)
    heartbeat.beat(is_loading=True)
    heartbeat.close()


def read_beat(path: Path) -> Beat | None:
    """The latest heartbeat in a file; None if there is no such file."""
    try:
        number, steps, when, is_loading = FORM.unpack(path.read_bytes())
    except (OSError, struct.error):
        return None
    return Beat(number=number, steps=steps, time=when, is_loading=bool(is_loading))


class Stall:
    """For how long a process has shown the same heartbeat, as somebody sees who looks every `POLL_SECONDS`.

    Time in which the observer itself was stopped does not count.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds  # that a step may take; 0: for ever
        self._beat, self._stalled = Beat(), 0.0
        self._seen: float | None = None

    def is_over(self, beat: Beat, now: float) -> bool:
        """Whether the process has made no progress for longer than it may; `now` is in seconds."""
        if beat.number != self._beat.number:
            self._stalled = 0.0
        elif self._seen is not None:
            self._stalled += min(now - self._seen, 2 * POLL_SECONDS)
        self._beat, self._seen = beat, now
        return bool(self.seconds) and self._stalled > beat.limit(self.seconds)
