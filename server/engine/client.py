"""A worker's line to the engine process: requests go in, their outputs come back as they are made.

One connection serves all requests of a worker. When it breaks, every running request ends with
`EngineUnavailableError`, and the client connects again for as long as it lives.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import astuple
from pathlib import Path

from sanic.log import logger

from verbatim.reference.receipts.receipt import EngineFacts
from verbatim.reference.records.errors import RequestError, VerbatimError
from verbatim.reference.records.grammar_text import CANNOT_GO_ON
from verbatim.reference.records.request import FinishReason, Output, Request
from verbatim.server.engine import wire
from verbatim.server.engine.heartbeat import SUFFIX, Beat, read_beat
from verbatim.server.engine.inbox import Inbox, Unread
from verbatim.server.errors import (
    EngineFailedError,
    EngineStalledError,
    EngineTimeoutError,
    EngineUnavailableError,
)
from verbatim.server.http.key_file import Key, Limits
from verbatim.server.http.metrics import Metrics, Stopwatch

RECONNECT_SECONDS = 0.2
FRAME_LIMIT_BYTES = 256 << 20
MAX_UNSENT_BYTES = 64 << 20  # to an engine that does not read
STATS_TIMEOUT_SECONDS = 20
TIMEOUT_GRACE_SECONDS = 0.5  # in which the engine itself says that time is up


FAILURES = {FinishReason.ERROR: EngineFailedError, FinishReason.TIMEOUT: EngineTimeoutError}


class EngineClient:
    """Connects to the engine at `path`, and shares the connection among requests, which `metrics` count by model.

    `take_facts` is told what an engine has loaded, whenever one has, `take_adapters` of its LoRA adapters, as
    `NamedAdapters.describe` has them.
    """

    def __init__(
        self, path: str, metrics: Metrics, model_id: str, *, load_wait: float = 0,
        take_adapters: Callable[[list[dict]], None] = lambda adapters: None,
        take_facts: Callable[[EngineFacts], None] = lambda facts: None, request_timeout: float | None = None,
        engine_timeout: float = 0,
    ):  # fmt: skip
        self.take_facts, self.take_adapters = take_facts, take_adapters
        self.request_timeout, self.engine_timeout = request_timeout, engine_timeout
        self.path, self.metrics, self.model_id, self.load_wait = path, metrics, model_id, load_wait
        self._loaded = asyncio.Event()  # also set when there is nothing to wait for any more
        self._writer: asyncio.StreamWriter | None = None
        self.unread = Unread()
        self._inboxes: dict[str, Inbox] = {}  # request id: where its outputs go
        self._waiters: dict[str, deque[asyncio.Future]] = {"stats": deque(), "debugged": deque()}  # oldest first

    @property
    def is_connected(self) -> bool:
        """Whether an engine has loaded and answers."""
        return self._writer is not None and not self._writer.is_closing()  # closing: dead, but not yet noticed

    def check_connected(self) -> None:
        """Raise EngineUnavailableError unless an engine answers, EngineStalledError if it makes no progress."""
        if not self.is_connected:
            message = f"The engine of {self.model_id!r} is not ready; it is loading or being restarted."
            raise EngineUnavailableError(message)
        if (beat := self.heartbeat()) and beat.is_late(self.engine_timeout):
            raise EngineStalledError(f"The engine of {self.model_id!r} makes no progress; it will be restarted.")

    def heartbeat(self) -> Beat | None:
        """The engine's latest; None if there never was any."""
        return read_beat(Path(self.path).with_suffix(SUFFIX))

    async def wait_loaded(self) -> None:
        """Until the engine has loaded for the first time; EngineUnavailableError if it is not there after `load_wait`.

        An engine that is restarted is not waited for: other servers may be there to answer instead.
        """
        if not self._loaded.is_set():
            seconds = min(self.load_wait, self.request_timeout or self.load_wait)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._loaded.wait(), seconds)
        self.check_connected()

    def stop_waiting(self) -> None:
        """Let requests that wait for the engine's loading end with an error: the server is stopping."""
        self._loaded.set()

    async def run(self) -> None:
        """Connect, read until the connection breaks, and begin again. Runs until cancelled."""
        while True:
            with contextlib.suppress(OSError):  # no engine there yet, or no longer
                reader, self._writer = await asyncio.open_unix_connection(self.path, limit=FRAME_LIMIT_BYTES)
                self._loaded.set()
                try:
                    while line := await reader.readline():
                        self._receive(wire.decode_answer(line), len(line))
                except (ValueError, KeyError, TypeError):  # must not end the line for good
                    logger.exception("A frame from the engine cannot be read; connecting again.")
                finally:
                    self._disconnect()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def generate(self, requests: Sequence[Request]) -> AsyncGenerator[Output]:
        """The outputs of `batches`, one by one."""
        async with aclosing(self.batches(requests)) as batches:
            async for batch in batches:
                for output in batch:
                    yield output

    async def batches(self, requests: Sequence[Request], key: Key | None = None) -> AsyncGenerator[list[Output]]:
        """The outputs of all `requests`, until each choice has finished; closing it early aborts them.

        They are held to the limits of `key`, and counted for it.

        Those that have come since the last batch was taken come together. Requests wait while the engine loads. Raises
        what the engine raised on `add` (then none of them runs), EngineUnavailableError, or EngineFailedError when a
        choice ends in error, EngineTimeoutError when time is up, whatever the engine does.
        """
        came = asyncio.get_running_loop().time()
        await self.wait_loaded()
        self._check_unsent()
        num_open = {request.request_id: request.n for request in requests}
        inbox = Inbox(self.unread, lambda: self._abort(num_open))
        limit = self._start_limit(inbox, came)
        watch = Stopwatch(self.metrics, self.model_id, requests, key.label if key else "")
        self._inboxes.update(dict.fromkeys(num_open, inbox))
        limits = {"limits": astuple(key.limits)} if key and key.limits != Limits() else {}
        self._send({"add": [wire.request_to_json(request) for request in requests]} | limits)
        try:
            while any(num_open.values()):
                batch: list[Output] = []
                failure = None
                items = await inbox.take()
                now = time.monotonic()
                for item in items:
                    if isinstance(item, VerbatimError):
                        failure = item
                        break
                    watch.take(item, now)
                    if item.finish_reason is not None:
                        if failure := _failure(item):
                            break
                        num_open[item.request_id] -= 1
                    batch.append(item)
                if batch:
                    yield batch
                if failure:
                    raise failure
        finally:
            if limit:
                limit.cancel()
            watch.stop()
            inbox.close()
            for request_id in num_open:
                self._inboxes.pop(request_id, None)
            self._abort(num_open)

    def _abort(self, num_open: Mapping[str, int]) -> None:
        """Let the engine give up the requests with open choices."""
        self._send({"abort": [request_id for request_id, count in num_open.items() if count]})

    def _check_unsent(self) -> None:
        if self._writer is not None and self._writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            raise EngineStalledError(f"The engine of {self.model_id!r} does not read its requests.")

    def _start_limit(self, inbox: Inbox, came: float) -> asyncio.TimerHandle | None:
        """The engine ends what takes too long; this is for an engine that does not come to it. `came`: by the loop."""
        if self.request_timeout is None:
            return None
        message = f"timeout: the answer took longer than the {self.request_timeout} seconds that it may"
        until = came + self.request_timeout + TIMEOUT_GRACE_SECONDS
        return asyncio.get_running_loop().call_at(until, inbox.put, EngineTimeoutError(message))

    async def stats(self) -> dict:
        """The engine's own counts. EngineUnavailableError if it is not there or does not answer in time."""
        return await self._ask("stats", {"stats": None})

    async def debug(self, command: str, **arguments: str):
        """What a command of debugging.py gives; RequestError if it is refused."""
        answer = await self._ask("debugged", {"debug": command, "with": arguments})
        if "refused" in answer:
            raise wire.error_from_json(answer["refused"])
        return answer["result"]

    async def _ask(self, name: str, message: dict):
        """Send a question and wait for its answer; answers by that name come in the order of their questions."""
        self.check_connected()
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[name].append(waiter)
        self._send(message)
        try:
            return await asyncio.wait_for(waiter, STATS_TIMEOUT_SECONDS)
        except TimeoutError:
            raise EngineUnavailableError("The engine does not answer.") from None

    def fail_all(self, message: str) -> None:
        """End everything that waits for the engine with an EngineUnavailableError."""
        error = EngineUnavailableError(message)
        for inbox in set(self._inboxes.values()):
            inbox.put(error)
        for waiters in self._waiters.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(error)

    def _send(self, message: dict) -> None:
        if self._writer is not None and self.is_connected and message.get("abort") != []:
            self._writer.write(wire.encode(message))

    def _receive(self, message: dict, size: int) -> None:
        """Pass on a frame of so many bytes."""
        outputs = message.get("outputs", ())
        size = size // len(outputs) if outputs else size
        for values in outputs:
            if inbox := self._inboxes.get(values[0]):  # by the id of its request; else aborted a moment ago
                inbox.put(wire.output_from_json(values), size)
        if "refused" in message and (inbox := self._inboxes.get(message["ids"][0])):
            inbox.put(wire.error_from_json(message["refused"]))
        if "facts" in message:
            self.take_facts(EngineFacts(**message["facts"]))
        if "adapters" in message:
            self.take_adapters(message["adapters"])
        for name in self._waiters.keys() & message.keys():
            waiter = self._waiters[name].popleft()
            if not waiter.done():  # else nobody waits any more
                waiter.set_result(message[name])

    def _disconnect(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None
        self.fail_all("The engine died; it is being restarted.")
        for waiters in self._waiters.values():
            waiters.clear()


def _failure(output: Output) -> VerbatimError | None:
    """What the end of a choice says has gone wrong; with a grammar, it is the request's fault."""
    if output.finish_reason is FinishReason.ERROR and (output.error or "").startswith(CANNOT_GO_ON):
        return RequestError(f"The answer was given up: {output.error}", code="invalid_grammar")
    if output.finish_reason in FAILURES:
        return FAILURES[output.finish_reason](output.error or "The engine failed on this request.")
    return None
