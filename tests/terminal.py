"""Programs in a terminal of their own: what is typed, and the screen as a user would see it."""

import re
import sys
import time
from contextlib import suppress

import pexpect
import pyte

WAIT_SECONDS = 60


class Terminal:
    """A program behind a pseudo-terminal. `screen()` is the visible text, without colours and cursor movements."""

    def __init__(self, *words, columns: int = 200, lines: int = 200, **variables):
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.Stream(self._screen)
        self.raw = self._shown = ""
        self.process = pexpect.spawn(
            sys.executable,
            ["-m", "verbatim", *map(str, words)],
            env=variables,
            encoding="utf-8",
            dimensions=(lines, columns),
            timeout=WAIT_SECONDS,
        )
        self.process.delaybeforesend = None

    def screen(self) -> str:
        """All lines so far."""
        before = len(self.raw)
        deadline = time.monotonic() + 0.2  # a program may write without a pause
        with suppress(pexpect.TIMEOUT, pexpect.EOF, OSError):
            while time.monotonic() < deadline:
                self.raw += self.process.read_nonblocking(65536, timeout=0.05)
        if len(self.raw) > before:
            self._stream.feed(self.raw[before:])
            self._shown = "\n".join(line.rstrip() for line in self._screen.display).rstrip()
        return self._shown

    def wait(self, pattern: str, *, after: int = 0) -> str:
        """Wait for a pattern on the screen, behind the first `after` characters; returns the text behind them."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not re.search(pattern, (shown := self.screen()[after:])):
            assert time.monotonic() < deadline, f"{pattern!r} does not appear in:\n{self.screen()}"
        return shown

    def enter(self, text: str, pattern: str = r"(?m)^>>>$\s*\Z") -> str:
        """Type a line and Enter; what is shown from there on until the pattern appears (default: the next prompt)."""
        before = len(self.screen())
        self.process.send(text + "\r")
        self.wait(r"\n", after=before)
        return self.wait(pattern, after=before)

    def leave(self) -> int:
        """Ctrl-D, and the exit code."""
        self.process.sendeof()
        deadline = time.monotonic() + WAIT_SECONDS
        while self.process.isalive():
            assert time.monotonic() < deadline, self.screen()
            self.screen()
        return self.process.exitstatus
