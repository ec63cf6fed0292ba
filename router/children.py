"""The servers that the router has started for itself: begun together, begun again when they end, ended with it.

Each is `verbatim serve` in a session of its own, so that Ctrl-C reaches the router alone, which lets answers end
first. A router that is killed takes them along: they hold the other end of a pipe (child.py).
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from sanic.log import logger

from verbatim.router.settings import Settings, url_of

POLL_SECONDS = 0.1
REPORT_SECONDS = 10
TIMEOUT_SECONDS = 5
FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 30.0
QUICK_END_SECONDS = 30
STOP_SECONDS = 5
KILL_SECONDS = 20


class CannotStartError(Exception):
    """A server has ended before it was ready, or the router's own port is taken."""


class Child:
    """One server: how to start it, and its process."""

    def __init__(self, url: str, arguments: list[str]):
        self.url = url
        self.command = [sys.executable, "-P", "-m", "verbatim.router.child", *arguments]
        self.process: subprocess.Popen | None = None
        self.started = 0.0
        self._environment = dict(os.environ)  # as it is now: Sanic's variables make workers of all our children

    @property
    def started_process(self) -> subprocess.Popen:
        """The process, which must have been started."""
        assert self.process is not None
        return self.process

    def start(self) -> None:
        """Begin, or begin again."""
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, start_new_session=True, env=self._environment
        )

    def is_ready(self) -> bool:
        """Whether it would take a request; CannotStartError if it never will."""
        if (code := self.started_process.poll()) is not None:
            raise CannotStartError(f"the server for {self.url} ended with code {code} before it was ready")
        try:
            with urllib.request.urlopen(f"{self.url}/ready", timeout=TIMEOUT_SECONDS) as answer:
                return answer.status == 200
        except (OSError, urllib.error.HTTPError):
            return False


class Children:
    """All of them; none for a router in front of servers that run already."""

    def __init__(self, settings: Settings):
        places = () if settings.endpoint_urls else zip(settings.places, settings.devices, strict=True)
        self._all = [Child(url_of(*place), arguments_of(settings, place, device)) for place, device in places]

    def start(self, seconds: float, report: Callable[[str], None]) -> None:
        """Start all and wait until they are ready, but no longer than that if any is.

        `report` gets the progress. CannotStartError if a server ends, or none is ready in time.
        """
        for child in self._all:
            child.start()
        began = reported = time.monotonic()
        late = list(self._all)
        while late:
            for child in [child for child in late if child.is_ready()]:
                late.remove(child)
                report(
                    f"{child.url} is ready after {time.monotonic() - began:.1f} s, process {child.started_process.pid}"
                )
            now, names = time.monotonic(), ", ".join(child.url for child in late)
            if late and now - reported >= REPORT_SECONDS:
                reported = now
                report(f"still waiting for {names} after {now - began:.0f} s")
            if late and now - began >= seconds:
                if len(late) == len(self._all):
                    raise CannotStartError(f"none of {names} was ready within {seconds:g} s")
                report(f"going on without {names}, not ready within {seconds:g} s")
                return
            time.sleep(POLL_SECONDS)

    async def revive(self) -> None:
        """Start those again that end by themselves, later after each quick death. Runs until cancelled."""
        await asyncio.gather(*map(revive, self._all))

    def stop(self) -> None:
        """End all, at the same time. The router has no requests any more, so they have none of it either."""
        processes = [child.process for child in self._all if child.process]
        for process in processes:
            process.terminate()
        _wait(processes, STOP_SECONDS)
        for process in processes:
            if process.stdin:
                process.stdin.close()  # a server that was just starting may have missed the signal: now it repeats it
        _wait(processes, KILL_SECONDS)
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait(processes: list[subprocess.Popen], seconds: float) -> None:
    """Until all have ended, but no longer than that."""
    deadline = time.monotonic() + seconds
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0, deadline - time.monotonic()))


def arguments_of(settings: Settings, place: tuple[str, int], device: str) -> list[str]:
    """The command line of one server; what the user hands on comes last and so counts most."""
    model = ["--model", settings.model] if settings.model else []
    model += ["--model-lib", settings.model_lib] if settings.model_lib else []
    model += ["--api-key-file", str(settings.api_key_file)] if settings.api_key_file else []
    cache = "radix" if settings.enable_prefix_cache else "disable"
    where = ["--host", place[0], "--port", str(place[1]), "--device", device]
    return [*model, *where, "--prefix-cache-mode", cache, *settings.server_arguments]


async def revive(child: Child) -> None:
    """Watch a child."""
    delay = FIRST_DELAY_SECONDS
    while True:
        await asyncio.sleep(POLL_SECONDS)
        if (code := child.started_process.poll()) is None:
            continue
        if time.monotonic() - child.started > QUICK_END_SECONDS:
            delay = FIRST_DELAY_SECONDS
        logger.error("The server for %s ended with code %s; starting it again in %.1f s.", child.url, code, delay)
        await asyncio.sleep(delay)
        delay = min(2 * delay, LONGEST_DELAY_SECONDS)
        try:
            child.start()
        except OSError as error:
            logger.error("The server for %s cannot be started now: %s", child.url, error)
