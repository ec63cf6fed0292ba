"""Keeps processes alive: the engine under a watching thread, and HTTP workers that Sanic itself would leave dead.

The engine is an ordinary child of the main process (with `--single-process`, of the only process). It is started again
whenever it ends by itself, waiting longer after each quick death. Every process watches its parent (`parent.py`), so
that even SIGKILL of the main process leaves nothing running. Sanic is corrected in four places by `patch_manager`;
the names are private, which is why its version is pinned and tests run the real command.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import fields
from functools import partialmethod
from multiprocessing.managers import SyncManager

from sanic.exceptions import ServerKilled
from sanic.log import logger
from sanic.worker.constants import ProcessState
from sanic.worker.manager import WorkerManager

from verbatim.server.engine.parent import end_with_parent
from verbatim.server.engine.process import CANNOT_START
from verbatim.server.settings.options import PREFIX, SOCKET, Options

ENGINE = "verbatim.server.engine.process"  # the module that runs as the engine
FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 30
QUICK_DEATH_SECONDS = 30
WATCH_SECONDS = 0.5
LISTENING_SECONDS = 0.05
TERMINATION_SECONDS = 1.5
WORKER_RESTARTS, WORKER_SECONDS = 5, 300  # so many within so long; more deaths end the server


class EngineSupervisor(threading.Thread):
    """Starts the engine process and starts it again; ends the whole server if it can never start."""

    def __init__(self, options: Options, path: str):
        super().__init__(name=f"engine-supervisor {options.model_id}", daemon=True)
        self.process: subprocess.Popen | None = None
        self.has_failed = False
        self.is_loaded = threading.Event()  # an engine has listened, if only once
        self.path, self.model_id = path, options.model_id
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
            command = [sys.executable, "-P", "-m", ENGINE]  # -P: nothing in this folder is imported
            self.process = subprocess.Popen(command, env=self._environment, stdin=subprocess.PIPE)
        except OSError as error:
            return str(error)
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


class RestartBudget:
    """How often each process may be started again: `most` times within `seconds`."""

    def __init__(self, most: int = WORKER_RESTARTS, seconds: float = WORKER_SECONDS):
        self.most, self.seconds = most, seconds
        self._deaths: dict[str, list[float]] = {}

    def allows(self, name: str, now: float) -> bool:
        """Whether the process, which has died at `now` by a clock in seconds, may be started again."""
        recent = [death for death in self._deaths.get(name, ()) if death > now - self.seconds]
        self._deaths[name] = [*recent, now]
        return len(recent) < self.most


def watch_workers(manager: WorkerManager, give_up: Callable[[], None]) -> None:
    """Restart HTTP workers that died (out of memory, SIGKILL); if they die too often, `give_up` and end the server."""
    threading.Thread(target=_watch_workers, args=(manager, give_up), name="worker-watch", daemon=True).start()


def _watch_workers(manager: WorkerManager, give_up: Callable[[], None]) -> None:
    budget = RestartBudget()
    while not manager._shutting_down:
        time.sleep(WATCH_SECONDS)
        for process in list(manager.transient_processes):
            if manager._shutting_down or not _has_died(process):
                continue
            logger.error("Worker %s died with code %s.", process.name, process.exitcode)
            if not budget.allows(process.name, time.monotonic()):
                logger.error("Workers die too often: more than %d times in %d s.", budget.most, budget.seconds)
                give_up()
                os.kill(os.getpid(), signal.SIGTERM)
                return
            manager.monitor_publisher.send(f"{process.name}:")  # the restart itself runs in the monitor's loop
            time.sleep(3)
    _repeat_termination(manager)


def _repeat_termination(manager: WorkerManager) -> None:
    """A worker that is just starting ignores the signal; one that is already stopping ignores the others."""
    while living := [process for process in manager.processes if process.is_alive()]:
        time.sleep(TERMINATION_SECONDS)
        for process in living:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)


def _has_died(process) -> bool:
    ran = (ProcessState.STARTED, ProcessState.ACKED, ProcessState.FAILED)
    return bool(process.pid) and not process.is_alive() and process.state in ran


def patch_manager() -> None:
    """Four corrections: of the reaction to SIGTERM, in start-up and later, of what is killed, and of the helper's end.

    As it stands, the wait for workers puts the request to stop back into its own queue for ever; the handler of the
    signal asks the helper process that holds the workers' states something, though it may have interrupted such a
    question and then takes the other's answer; `kill` ends the whole process group, with the shell or the test runner
    that started the server; and the helper outlives a main process that was killed.
    """
    all_acked = WorkerManager._all_workers_ack

    def all_workers_ack_or_stopping(manager):
        return manager._shutting_down or all_acked(manager)

    def ask_the_loop_to_stop(manager, number, _frame):
        if manager._shutting_down:
            logger.info("Shutdown interrupted. Killing.")
            with contextlib.suppress(ServerKilled):
                manager.kill()
            return
        logger.info("Received signal %s. Shutting down.", signal.Signals(number).name)
        manager._shutting_down = True
        manager.monitor_publisher.send("__TERMINATE__")

    def kill_own_processes(manager):
        for process in manager.processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        raise ServerKilled

    if all_acked.__name__ != all_workers_ack_or_stopping.__name__:
        for owner, name, method in (
            (WorkerManager, "_all_workers_ack", all_workers_ack_or_stopping),
            (WorkerManager, "shutdown_signal", ask_the_loop_to_stop),
            (WorkerManager, "kill", kill_own_processes),
            (SyncManager, "start", partialmethod(SyncManager.start, end_with_parent)),
        ):
            setattr(owner, name, method)
