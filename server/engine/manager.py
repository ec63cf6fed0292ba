"""Keeps HTTP workers alive, which Sanic itself would leave dead, and corrects its manager of processes.

A worker that has died, or whose event loop makes no progress, is replaced. Sanic is corrected in four places by
`patch_manager`; the names are private, which is why its version is pinned and tests run the real command.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partialmethod
from multiprocessing.managers import SyncManager
from pathlib import Path

from sanic.exceptions import ServerKilled
from sanic.log import logger
from sanic.worker.constants import ProcessState
from sanic.worker.manager import WorkerManager

from verbatim.server.engine.heartbeat import POLL_SECONDS, Stall, read_beat
from verbatim.server.engine.parent import end_with_parent
from verbatim.server.engine.worker_beat import beat_path
from verbatim.server.settings.options import PLACE

TERMINATION_SECONDS = 1.5
RESTART_SECONDS = 3  # in which a new worker is not looked at again
WORKER_RESTARTS, WORKER_SECONDS = 5, 300  # so many within so long; more deaths end the server


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


def watch_workers(manager: WorkerManager, give_up: Callable[[], None], timeout: float) -> None:
    """Restart HTTP workers that died (out of memory, SIGKILL), or whose loop has stood still for `timeout` seconds.

    If they die too often, `give_up` and end the server.
    """
    watch = WorkerWatch(manager, give_up, timeout)
    threading.Thread(target=watch.run, name="worker-watch", daemon=True).start()


class WorkerWatch:
    """The watch over the workers of one server."""

    def __init__(self, manager: WorkerManager, give_up: Callable[[], None], timeout: float):
        self.manager, self.give_up, self.timeout = manager, give_up, timeout
        self.budget, self.place = RestartBudget(), Path(os.environ[PLACE])
        self._stalls: dict[int, Stall] = {}  # by process id

    def run(self) -> None:
        """Until the server stops."""
        while not self.manager._shutting_down:
            time.sleep(POLL_SECONDS)
            if not all(map(self._see_to, list(self.manager.transient_processes))):
                return
        _repeat_termination(self.manager)

    def _see_to(self, process) -> bool:
        """Keep one worker alive; False once the server ends as they die too often."""
        if self.manager._shutting_down:
            return True
        self._kill_if_stalled(process)
        return not _has_died(process) or self._restart(process)

    def _kill_if_stalled(self, process) -> None:
        beat = read_beat(beat_path(self.place, process.pid)) if process.pid and process.is_alive() else None
        if beat is None:
            return
        if self._stalls.setdefault(process.pid, Stall(self.timeout)).is_over(beat, time.monotonic()):
            message = "Worker %s makes no progress for more than %g s (--engine-timeout); it is killed."
            logger.error(message, process.name, self.timeout)
            os.kill(process.pid, signal.SIGKILL)

    def _restart(self, process) -> bool:
        """Start a worker again; False if it has died too often, and the server ends."""
        logger.error("Worker %s died with code %s.", process.name, process.exitcode)
        self._stalls.pop(process.pid, None)
        beat_path(self.place, process.pid).unlink(missing_ok=True)
        if not self.budget.allows(process.name, time.monotonic()):
            logger.error("Workers die too often: more than %d times in %d s.", self.budget.most, self.budget.seconds)
            self.give_up()
            os.kill(os.getpid(), signal.SIGTERM)
            return False
        self.manager.monitor_publisher.send(f"{process.name}:")  # the restart itself runs in the monitor's loop
        time.sleep(RESTART_SECONDS)
        return True


def pass_on_hangup(manager: WorkerManager) -> None:
    """Let the workers that run have each SIGHUP of the main process, too."""

    def pass_on(_number, _frame):
        for process in list(manager.transient_processes):
            if process.pid and process.is_alive() and process.state == ProcessState.ACKED:
                os.kill(process.pid, signal.SIGHUP)

    signal.signal(signal.SIGHUP, pass_on)


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
