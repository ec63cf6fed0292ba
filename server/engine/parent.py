"""No process outlives the one that started it, even if that was killed: the kernel closes a pipe between them."""

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing import connection

REPEAT_SECONDS = 1.5  # a process that is just starting or just stopping may ignore one SIGTERM


def end_with_parent(line: int | None = None) -> None:
    """Send this process SIGTERM once nobody can write to `line`: a file descriptor, else multiprocessing's own."""
    if line is None:
        parent = multiprocessing.parent_process()
        assert parent is not None, "a process that multiprocessing has not started needs a line"
        line = parent.sentinel
    threading.Thread(target=_follow, args=(line,), name="parent-watch", daemon=True).start()


def _follow(line: int) -> None:
    connection.wait([line])
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(REPEAT_SECONDS)
