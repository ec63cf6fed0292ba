"""A server of one's own for a conversation with a local model: on this machine only, with a random key.

It is `verbatim serve`, so that a local model can do what every client of the API can ask for. It ends with the
conversation, also with a killed one.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

import httpx

from verbatim.cli.chat.client import ServerError

HOST = "127.0.0.1"
POLL_SECONDS, STOP_SECONDS = 0.05, 10
LOG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateServer:
    """A server that is ready; `engine` and `warnings` are what it says of itself at its start."""

    base_url: str
    api_key: str
    engine: str
    warnings: list[str]


@contextmanager
def private_server(words: list[str]) -> Iterator[PrivateServer]:
    """A server with these options, ready. ServerError with its own last line if it cannot start."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port = sock.getsockname()[1]
    key = secrets.token_urlsafe(24)
    command = [sys.executable, "-P", "-m", "verbatim.router.child", "--host", HOST, "--port", str(port), *words]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C stops an answer, not the server
            env=os.environ | {"VERBATIM_API_KEY": key, "VERBATIM_LOG_FORMAT": "json"},
        )  # fmt: skip
        try:
            _wait_ready(process, f"http://{HOST}:{port}/ready", key, log)
            facts = _start_facts(_lines(log))
            engine, warnings = facts.get("start", {}).get("engine", "this machine"), facts.get("warnings", [])
            yield PrivateServer(base_url=f"http://{HOST}:{port}/v1", api_key=key, engine=engine, warnings=warnings)
        finally:
            _stop(process)


def _wait_ready(process: subprocess.Popen, url: str, key: str, log: IO[bytes]) -> None:
    with httpx.Client(headers={"Authorization": f"Bearer {key}"}, trust_env=False) as http:
        while process.poll() is None:
            with suppress(httpx.TransportError):
                if http.get(url).is_success:
                    return
            time.sleep(POLL_SECONDS)
    raise ServerError(f"the model cannot be served: {(_lines(log) or ['it wrote nothing'])[-1]}")


def _lines(log: IO[bytes]) -> list[str]:
    """What the server has written; the place at which it writes stays."""
    text = os.pread(log.fileno(), LOG_BYTES, 0).decode(errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _start_facts(lines: list[str]) -> dict:
    """The line of the log in which the server describes itself."""
    for line in lines:
        with suppress(ValueError):
            facts = json.loads(line)
            if isinstance(facts, dict) and "start" in facts:
                return facts
    return {}


def _stop(process: subprocess.Popen) -> None:
    """End the server and all its processes."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finally:
        if process.stdin:
            process.stdin.close()
