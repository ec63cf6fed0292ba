"""Grammars compiled beside the engine's loop, in a thread, so that a costly one holds up nobody's answer."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from verbatim.reference.records.request import Request


class Preparer:
    """Calls `prepare` on requests in a thread of its own; `socket` becomes readable when some are done."""

    def __init__(self, prepare: Callable[[Request], None]):
        self.socket, self._bell = socket.socketpair()
        self._prepare = prepare
        self._thread = ThreadPoolExecutor(1, "prepare")
        self._done: SimpleQueue[tuple[list[Request], Exception | None]] = SimpleQueue()

    def submit(self, requests: list[Request]) -> None:
        """Prepare the requests of one HTTP request."""
        self._thread.submit(self._run, requests)

    def take(self) -> Iterator[tuple[list[Request], Exception | None]]:
        """What is done, with the error that came of it."""
        for _ in self.socket.recv(1 << 16):
            yield self._done.get()

    def _run(self, requests: list[Request]) -> None:
        failure = None
        try:
            for request in requests:
                self._prepare(request)
        except Exception as error:  # raised again where the result is taken
            failure = error
        self._done.put((requests, failure))
        self._bell.send(b"\0")
