"""A worker's line to the engine process: requests go in, their outputs come back as they are made.

One connection serves all requests of a worker. When it breaks, every running request ends with
`EngineUnavailableError`, and the client connects again for as long as it lives.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from sanic.log import logger

from verbatim.reference.receipts.receipt import EngineFacts
from verbatim.reference.records.errors import VerbatimError
from verbatim.reference.records.request import FinishReason, Output, Request
from verbatim.server.engine import wire
from verbatim.server.errors import EngineFailedError, EngineTimeoutError, EngineUnavailableError
from verbatim.server.http.metrics import Metrics, Stopwatch

RECONNECT_SECONDS = 0.2
FRAME_LIMIT_BYTES = 256 << 20
STATS_TIMEOUT_SECONDS = 20


FAILURES = {FinishReason.ERROR: EngineFailedError, FinishReason.TIMEOUT: EngineTimeoutError}


class Inbox:
    """What has come for one HTTP request and has not been taken yet: outputs, or what ends them."""

    def __init__(self):
        self._items: list[Output | VerbatimError] = []
        self._waiter: asyncio.Future | None = None

    def put(self, item: Output | VerbatimError) -> None:
        """One more."""
        self._items.append(item)
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> list[Any]:
        """All outputs that are there, as soon as there is something; a VerbatimError ends them."""
        if not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        items, self._items = self._items, []
        return items


class EngineClient:
    """Connects to the engine at `path`, and shares the connection among requests, which `metrics` count by model.

    `take_facts` is told what an engine has loaded, whenever one has, `take_adapters` of its LoRA adapters, as
    `NamedAdapters.describe` has them.
    """

    def __init__(
        self, path: str, metrics: Metrics, model_id: str, *, load_wait: float = 0,
        take_adapters: Callable[[list[dict]], None] = lambda adapters: None,
        take_facts: Callable[[EngineFacts], None] = lambda facts: None,
    ):  # fmt: skip
        self.take_facts, self.take_adapters = take_facts, take_adapters
        self.path, self.metrics, self.model_id, self.load_wait = path, metrics, model_id, load_wait
        self._loaded = asyncio.Event()  # also set when there is nothing to wait for any more
        self._writer: asyncio.StreamWriter | None = None
        self._inboxes: dict[str, Inbox] = {}  # request id: where its outputs go
        self._waiters: dict[str, deque[asyncio.Future]] = {"stats": deque(), "debugged": deque()}  # oldest first

    @property
    def is_connected(self) -> bool:
        """Whether an engine has loaded and answers."""
        return self._writer is not None and not self._writer.is_closing()  # closing: dead, but not yet noticed

    def check_connected(self) -> None:
        """Raise EngineUnavailableError unless an engine answers."""
        if not self.is_connected:
            message = f"The engine of {self.model_id!r} is not ready; it is loading or being restarted."
            raise EngineUnavailableError(message)

    async def wait_loaded(self) -> None:
        """Until the engine has loaded for the first time; EngineUnavailableError if it is not there after `load_wait`.

        An engine that is restarted is not waited for: other servers may be there to answer instead.
        """
        if not self._loaded.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._loaded.wait(), self.load_wait)
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
                        self._receive(wire.decode_answer(line))
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

    async def batches(self, requests: Sequence[Request]) -> AsyncGenerator[list[Output]]:
        """The outputs of all `requests`, until each choice has finished; closing it early aborts them.

        Those that have come since the last batch was taken come together. Requests wait while the engine loads. Raises
        what the engine raised on `add` (then none of them runs), EngineUnavailableError, or EngineFailedError when a
        choice ends in error, EngineTimeoutError when time is up.
        """
        await self.wait_loaded()
        inbox = Inbox()
        watch = Stopwatch(self.metrics, self.model_id, requests)
        num_open = {request.request_id: request.n for request in requests}
        self._inboxes.update(dict.fromkeys(num_open, inbox))
        self._send({"add": [wire.request_to_json(request) for request in requests]})
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
            watch.stop()
            for request_id in num_open:
                self._inboxes.pop(request_id, None)
            self._send({"abort": [request_id for request_id, count in num_open.items() if count]})

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

    def _receive(self, message: dict) -> None:
        for values in message.get("outputs", ()):
            if inbox := self._inboxes.get(values[0]):  # by the id of its request; else aborted a moment ago
                inbox.put(wire.output_from_json(values))
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
    """What the end of a choice says has gone wrong."""
    if output.finish_reason in FAILURES:
        return FAILURES[output.finish_reason](output.error or "The engine failed on this request.")
    return None
