"""An engine that computes nothing: it speaks the protocol of server/engine/wire.py with almost no cost a token.

Each step sends every running request a token, in one frame a worker, like a real engine's step. Frames are sent as fast
as the worker reads them, or every `STEP_SECONDS`; then each token's text is the time at which its frame was written, so
that the client can measure its age.
"""

import os
import selectors
import socket
import sys
import time
from pathlib import Path

from verbatim.server.engine import wire
from verbatim.server.engine.parent import end_with_parent
from verbatim.server.settings.options import SOCKET

STEP_SECONDS = "BENCHMARK_STEP_SECONDS"
WORDS = (" the", " river", " is", " wide", ",", " cold", " and", " grün", ".", "\n")
POLL_SECONDS = 0.5
COUNTS = dict.fromkeys(
    ("running", "waiting", "used_pages", "cached_pages", "total_pages", "steps", "drafted_tokens", "accepted_tokens"), 0
)


class Answer:
    """A running request; the constant part of its outputs is written once."""

    def __init__(self, value: dict):
        self.num_tokens, self.at = value["stopping"]["max_tokens"], 0
        self.name, self.num_prompt = value["request_id"], len(value["prompt_ids"])

    def step(self, text: str) -> str:
        """Its next output, as JSON; `text` is a JSON string."""
        self.at += 1
        end = ',0,0,"length"' if self.at == self.num_tokens else ""
        return f'["{self.name}",0,{text},[7],{self.num_prompt},0,{self.at}{end}]'


class Worker:
    """The worker at the other end of the line, and its running requests."""

    def __init__(self, sock: socket.socket):
        self.socket, self.received = sock, b""
        self.running: dict[str, Answer] = {}

    def obey(self, data: bytes) -> None:
        """Begin and end requests, and answer questions."""
        *lines, self.received = (self.received + data).split(b"\n")
        for message in map(wire.decode, lines):
            for value in message.get("add", ()):
                self.running[value["request_id"]] = Answer(value)
            for request_id in message.get("abort", ()):
                self.running.pop(request_id, None)
            if "stats" in message:
                self.socket.sendall(wire.encode({"stats": COUNTS | {"running": len(self.running)}}))

    def step(self, text: str) -> None:
        """One token for each running request; waits for the worker if it reads too slowly."""
        outputs = [answer.step(text) for answer in self.running.values()]
        self.running = {name: answer for name, answer in self.running.items() if answer.at < answer.num_tokens}
        self.socket.sendall(f'{{"outputs":[{",".join(outputs)}]}}\n'.encode())


def serve(listener: socket.socket, step_seconds: float) -> None:
    """Serve until the process is told to end."""
    words = [wire.encode(word).decode().rstrip("\n") for word in WORDS]
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    workers: list[Worker] = []
    num_steps, due = 0, time.monotonic()
    while True:
        is_busy = any(worker.running for worker in workers)
        wait = max(0.0, due - time.monotonic()) if is_busy else POLL_SECONDS
        for key, _ in selector.select(wait):
            if key.fileobj is listener:
                workers.append(Worker(listener.accept()[0]))
                selector.register(workers[-1].socket, selectors.EVENT_READ, workers[-1])
            elif data := key.data.socket.recv(1 << 20):
                key.data.obey(data)
            else:
                selector.unregister(key.data.socket)
                workers.remove(key.data)
        if time.monotonic() < due:
            continue
        due = time.monotonic() + step_seconds
        num_steps += 1
        for worker in workers:
            if worker.running:
                worker.step(f'" {time.monotonic_ns()}"' if step_seconds else words[num_steps % len(words)])


def main() -> None:
    """Listen where the server expects its engine."""
    end_with_parent(sys.stdin.fileno())
    path = Path(os.environ[SOCKET])
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        serve(listener, float(os.environ.get(STEP_SECONDS, 0)))


if __name__ == "__main__":
    main()
