"""Keeps an engine alive: its process under a thread, which starts it again whenever it ends or makes no progress.

The engine is an ordinary child of the main process (with `--single-process`, of the only process). After each quick
death the thread waits longer. Every process watches its parent (`parent.py`), so that even SIGKILL of the main process
leaves nothing running.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import fields
from pathlib import Path

from sanic.log import logger

from verbatim.server.engine.heartbeat import POLL_SECONDS, SUFFIX, Stall, mark_loading, read_beat
from verbatim.server.engine.process import CANNOT_START
from verbatim.server.settings.options import PREFIX, SOCKET, Options

ENGINE = "verbatim.server.engine.process"  # the module that runs as the engine
FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 30
QUICK_DEATH_SECONDS = 30
LISTENING_SECONDS = 0.05


class EngineSupervisor(threading.Thread):
    """Starts the engine process and starts it again; ends the whole server if it can never start."""

    def __init__(self, options: Options, path: str):
        super().__init__(name=f"engine-supervisor {options.model_id}", daemon=True)
        self.process: subprocess.Popen | None = None
        self.has_failed = False
        self.is_loaded = threading.Event()  # an engine has listened, if only once
        self.path, self.model_id = path, options.model_id
        self.beat_path, self.timeout = Path(path).with_suffix(SUFFIX), options.engine_timeout
        # A copy made now: Sanic changes its own in another thread, and a process started just then may get garbage.
        taken = {PREFIX + row.name.upper() for row in fields(Options)}  # each model has its own
        others = {name: value for name, value in os.environ.items() if name not in taken}
        self._environment = others | options.to_environment() | {SOCKET: path}
        self._stopping = threading.Event()

    def run(self) -> None:
        """Start, wait, report, wait a little, start again."""
        delay = FIRST_DELAY_SECONDS
        while not self._stopping.is_set():
            started = time.monotonic()
            code = self._run_engine()
            if self._stopping.is_set():
                return
            if code == CANNOT_START:
                self.has_failed = True
                os.kill(os.getpid(), signal.SIGTERM)
                return
            if time.monotonic() - started > QUICK_DEATH_SECONDS:
                delay = FIRST_DELAY_SECONDS
            logger.error("The engine ended with code %s; starting it again in %.1f s.", code, delay)
            self._stopping.wait(delay)
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)

    def _run_engine(self) -> int | str:
        """Its exit code, or why it could not be started this time."""
        try:
            mark_loading(self.beat_path)
            command = [sys.executable, "-P", "-m", ENGINE]  # -P: nothing in this folder is imported
            self.process = subprocess.Popen(command, env=self._environment, stdin=subprocess.PIPE)
        except OSError as error:
            return str(error)
        threading.Thread(target=self._kill_if_stalled, args=(self.process,), daemon=True).start()
        self._watch_loading(self.process)
        return self.process.wait()

    def _watch_loading(self, process: subprocess.Popen) -> None:
        """Wait until the engine listens or has ended; say so if it is not the first."""
        started = time.monotonic()
        while not listens(self.path):
            if process.poll() is not None:
                return
            time.sleep(LISTENING_SECONDS)
        if self.is_loaded.is_set():
            logger.info("The engine of %s is ready again after %.1f s.", self.model_id, time.monotonic() - started)
        self.is_loaded.set()

    def _kill_if_stalled(self, process: subprocess.Popen) -> None:
        """Watch the heartbeat for as long as the process lives; kill it if that stops for longer than it may."""
        stall = Stall(self.timeout)
        while process.returncode is None:
            time.sleep(POLL_SECONDS)
            beat = read_beat(self.beat_path)
            if beat and process.returncode is None and stall.is_over(beat, time.monotonic()):
                seconds = beat.limit(self.timeout)
                message = "The engine of %s makes no progress for more than %g s (--engine-timeout); it is killed."
                logger.error(message, self.model_id, seconds)
                process.kill()
                return

    def ask_to_stop(self) -> None:
        """Let the engine end once its connections have closed."""
        self._stopping.set()
        if self.process and self.process.poll() is None:
            self.process.terminate()

    def stop(self, timeout: float) -> None:
        """The same, and insist after `timeout` seconds."""
        self.ask_to_stop()
        if self.process:
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.join(timeout)


def listens(path: str) -> bool:
    """Whether an engine accepts connections at the socket `path`."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(path)
        except OSError:
            return False
    return True
