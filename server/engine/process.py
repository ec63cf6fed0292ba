"""The engine's own process: one loop that takes every waiting command, then steps once.

`python -m verbatim.server.engine.process` listens on the unix socket named in the environment. It knows no HTTP, no
text and no templates. Between two steps all commands that have arrived are taken, so a client that goes away frees its
pages within one step; a worker whose connection closes aborts all its requests. Whatever goes wrong inside a
step ends the process, loudly: the supervisor sees it, clients get an error, and a new process starts.
"""

import os
import selectors
import signal
import socket
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from verbatim.reference.receipts.receipt import EngineFacts
from verbatim.reference.records.errors import QueueFullError, RequestError, VerbatimError
from verbatim.reference.records.request import Request
from verbatim.server.engine import wire
from verbatim.server.engine.adapters import NamedAdapters
from verbatim.server.engine.backends import load_engine
from verbatim.server.engine.compiling import Preparer
from verbatim.server.engine.connection import Connection
from verbatim.server.engine.debugging import Debugger
from verbatim.server.engine.facts import FilesChangedError, load_with_facts
from verbatim.server.engine.heartbeat import SUFFIX, Heartbeat
from verbatim.server.engine.parent import end_with_parent
from verbatim.server.engine.quotas import Quotas
from verbatim.server.engine.report import LoadReport
from verbatim.server.engine.tracing import Tracer
from verbatim.server.engine.weight_watch import WeightWatch, sealed_weights
from verbatim.server.http import journal
from verbatim.server.settings.options import SOCKET, Options

CANNOT_START = 78  # EX_CONFIG of sysexits.h: starting again would fail again
POLL_SECONDS = 0.5
UNREAD_LIMIT_BYTES = 64 << 20  # a worker that reads this slowly is taken for dead


@dataclass(slots=True)
class Open:
    """A request that has not ended: the worker that it came from, the owner of its key, and its open choices."""

    connection: Connection
    owner: str
    num_open: int


class EngineLoop:
    """Serves one engine to any number of connections, in one thread."""

    def __init__(
        self, engine, listener: socket.socket, timeout: float | None = None, tracer: Tracer | None = None,
        report: LoadReport | None = None, adapters: NamedAdapters | None = None, heartbeat: Heartbeat | None = None,
        facts: EngineFacts | None = None,
    ):  # fmt: skip
        self.engine, self.adapters, self.heartbeat = engine, adapters or NamedAdapters(engine), heartbeat
        self.facts = {"facts": asdict(facts)} if facts else {}
        self.num_steps = 0
        self.report = report or LoadReport("", 0, engine.stats)
        self.debugger = Debugger(self, tracer)
        if tracer:
            engine.subscribe(tracer)
        self.timeout = timeout  # seconds that a request may take
        self.selector = selectors.DefaultSelector()
        self.listener = listener
        self.selector.register(listener, selectors.EVENT_READ)
        self.preparer = Preparer(engine.prepare)
        self.selector.register(self.preparer.socket, selectors.EVENT_READ)
        self.connections: set[Connection] = set()
        self.requests: dict[str, Open] = {}  # by their ids
        self.quotas = Quotas()
        self.is_draining = False

    def run(self) -> None:
        """Until told to stop, and then until the last worker has hung up."""
        while self.connections or not self.is_draining:
            if self.heartbeat:
                self.heartbeat.beat(self.num_steps)
            self.take_commands(0 if self.engine.has_work() else POLL_SECONDS)
            if self.engine.has_work():
                outputs = self.engine.step(now=time.monotonic())
                self.num_steps += 1
                self.deliver(outputs)
                self.report.take(outputs)
                if not self.engine.has_work():
                    self.engine.check()
            else:
                self.report.write_if_due()

    def drain(self, *_signal) -> None:
        """The handler of SIGTERM."""
        self.is_draining = True

    def take_commands(self, timeout: float) -> None:
        """Accept, read and write whatever is ready; wait at most `timeout` seconds for the first of it."""
        for key, events in self.selector.select(timeout):
            if key.fileobj is self.listener:
                self.accept()
                continue
            if key.fileobj is self.preparer.socket:
                for requests, error in self.preparer.take():
                    self.start(requests, error)
                continue
            if events & selectors.EVENT_WRITE:
                key.data.flush()
                self.watch(key.data)
            if events & selectors.EVENT_READ:
                self.read(key.data)

    def accept(self) -> None:
        """A new worker."""
        connection = Connection(self.listener.accept()[0])
        connection.socket.setblocking(False)
        self.connections.add(connection)
        self.selector.register(connection.socket, selectors.EVENT_READ, connection)
        self.send(connection, self.facts | {"adapters": self.adapters.describe()})

    def read(self, connection: Connection) -> None:
        """Obey the commands that a worker has sent."""
        lines = connection.receive()
        if lines is None:
            self.drop(connection)
            return
        for line in lines:
            message = wire.decode(line)
            if "add" in message:
                self.add(connection, message["add"], message.get("limits"))
            elif "abort" in message:
                self.abort(message["abort"])
            elif "debug" in message:
                self.send(connection, self.debugger.run(message["debug"], message.get("with", {})))
            else:
                self.send(connection, {"stats": self.engine.stats()})

    def add(self, connection: Connection, values: list[dict], limits: list[int | None] | None = None) -> None:
        """Add the requests of one HTTP request; those that need a guide have it made first, beside the loop.

        `limits` are those of the owner's key, as quotas.py has them.
        """
        try:
            requests = [replace(wire.request_from_json(value), timeout=self.timeout) for value in values]
            if limits:
                self.check_limits(requests, limits)
        except (RequestError, QueueFullError) as error:
            self.refuse(connection, [value["request_id"] for value in values], error)
            return
        self.requests |= {request.request_id: Open(connection, request.owner, request.n) for request in requests}
        if any(request.needs_guide for request in requests):
            self.preparer.submit(requests)
        else:
            self.start(requests)

    def check_limits(self, requests: list[Request], limits: list[int | None]) -> None:
        """Count the requests for their owner; QueueFullError if that is more than the key may."""
        owner, num_prompt = requests[0].owner, sum(len(request.prompt_ids) for request in requests)
        open_now = sum(each.num_open for each in self.requests.values() if each.owner == owner)
        num = sum(request.n for request in requests)
        self.quotas.admit(owner, limits, num_prompt, open_now, num, time.monotonic())

    def start(self, requests: list[Request], error: Exception | None = None) -> None:
        """Hand them to the engine: all, or none and a refusal. A client may have gone in between."""
        known = self.requests.get(requests[0].request_id)
        if known is None:
            return
        try:
            if error:
                raise error
            for request in requests:
                self.engine.add(request, now=time.monotonic())
        except (RequestError, QueueFullError) as refusal:
            self.refuse(known.connection, [request.request_id for request in requests], refusal)

    def refuse(self, connection: Connection, ids: list[str], error: VerbatimError) -> None:
        """Say why these requests cannot be done; none of them runs."""
        self.abort(ids)
        self.send(connection, {"refused": wire.error_to_json(error), "ids": ids})

    def abort(self, ids: list[str]) -> None:
        """Forget these requests; those that have ended already are no matter."""
        for request_id in ids:
            if self.requests.pop(request_id, None):
                self.engine.abort(request_id)

    def deliver(self, outputs) -> None:
        """Send each worker its part of one step's outputs, as one frame."""
        frames = defaultdict(list)
        for output in outputs:
            if (known := self.requests.get(output.request_id)) is None:
                continue
            frames[known.connection].append(wire.output_to_json(output))
            if known.owner:
                self.quotas.count_tokens(known.owner, len(output.token_ids), time.monotonic())
            if output.finish_reason:
                known.num_open -= 1
                if not known.num_open:
                    del self.requests[output.request_id]
        for connection, values in frames.items():
            self.send(connection, {"outputs": values})

    def send(self, connection: Connection, message: dict) -> None:
        """Send without ever waiting: what does not fit now goes when the worker has read."""
        connection.unsent += wire.encode(message)
        connection.flush()
        if len(connection.unsent) > UNREAD_LIMIT_BYTES:
            self.drop(connection)
        else:
            self.watch(connection)

    def watch(self, connection: Connection) -> None:
        """Ask for writability only while there is something to write."""
        if connection in self.connections:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
            self.selector.modify(connection.socket, events, connection)

    def drop(self, connection: Connection) -> None:
        """A worker is gone: so are its requests."""
        if connection in self.connections:
            self.connections.remove(connection)
            self.selector.unregister(connection.socket)
            connection.socket.close()
            self.abort([name for name, known in self.requests.items() if known.connection is connection])


def main() -> None:
    """Load the engine, listen, and serve until told to stop. Exits with 78 if it can never start."""
    end_with_parent(sys.stdin.fileno())
    path = Path(os.environ[SOCKET])
    heartbeat = Heartbeat(path.with_suffix(SUFFIX))
    heartbeat.beat(is_loading=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us too, but our parent says when to stop
    try:
        options = Options.from_environment()
        journal.set_up_engine(options.log_format)
        engine, facts = load_with_facts(options, load_engine)
        path = Path(os.environ[SOCKET])
        names = (*options.names, Path(options.model).name)
        adapters = NamedAdapters(engine, options.adapters, kept=path.with_suffix(".adapters"), model_names=names)
    except (VerbatimError, ValueError) as error:
        sys.stderr.write(f"verbatim: {error}\n")
        sys.exit(1 if isinstance(error, FilesChangedError) else CANNOT_START)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        tracer = Tracer() if options.enable_tracing else None
        report = LoadReport(options.model_id, options.stats_interval, engine.stats)
        loop = EngineLoop(engine, listener, options.request_timeout, tracer, report, adapters, heartbeat, facts)
        WeightWatch(sealed_weights(engine)).start()
        signal.signal(signal.SIGTERM, loop.drain)
        loop.run()


if __name__ == "__main__":
    main()
