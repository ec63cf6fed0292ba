"""Sanic's manager of processes, as corrected: a signal may come at any moment."""

import contextlib
import multiprocessing
import random
import signal

import pytest
from sanic.worker.constants import ProcessState
from sanic.worker.manager import MonitorCycle, WorkerManager

from verbatim.server.engine.manager import RestartBudget, patch_manager

SIGNALS = 300


def wait_for_ever(**_):
    """A worker that no request to stop ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        signal.pause()


@pytest.fixture
def manager():
    """A manager with one worker that runs; this process's handlers of signals come back afterwards."""
    patch_manager()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    context = multiprocessing.get_context("spawn")
    with context.Manager() as helper:
        manager = WorkerManager(1, wait_for_ever, {}, context, context.Pipe(), helper.dict())
        manager.start()
        yield manager
        for process in manager.processes:
            with contextlib.suppress(ProcessLookupError):
                process._current_process.kill()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_restarts_are_counted_over_a_time():
    budget = RestartBudget(most=2, seconds=10)
    assert [budget.allows("a", now) for now in (0, 1, 2)] == [True, True, False]
    assert budget.allows("b", 3), "each process has its own"
    assert budget.allows("a", 12.5), "the oldest deaths no longer count"


def test_a_signal_between_question_and_answer_mixes_up_none(manager):
    """The manager asks a helper process for the workers' states all the time, and its handler must not do so, too."""
    signal.signal(signal.SIGALRM, lambda *_: manager.shutdown_signal(signal.SIGTERM, None))
    states = manager.worker_state
    for _ in range(SIGNALS):
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 1e-3))
        while not manager._shutting_down:
            assert len(states) == 2
            assert isinstance(states[manager.MAIN_NAME], dict)
        assert manager.monitor_subscriber.poll()
        manager.monitor_subscriber.recv()
        for process in manager.processes:
            process.state = ProcessState.ACKED
        manager._shutting_down = False


def test_a_signal_ends_the_monitors_loop(manager):
    manager.shutdown_signal(signal.SIGTERM, None)
    cycle = None
    while cycle is not MonitorCycle.BREAK:
        cycle = manager._poll_monitor()
    assert manager._shutting_down
    assert [process.state.name for process in manager.processes] == ["TERMINATED"]
