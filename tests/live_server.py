"""Live servers for tests: started with the command of users, on a free port, in a session of their own."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from verbatim.reference.records.errors import BackendError
from verbatim.server.engine.backends import check_backend
from verbatim.server.settings.options import Options

COMMAND = str(Path(sys.executable).with_name("sanic"))
SERVE = (COMMAND, "server.app")
READY_SECONDS = 120
STOP_SECONDS = 90


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_until(condition, seconds: float = READY_SECONDS, message: str = "it did not happen in time"):
    """Poll until `condition()` is truthy, and return that."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, message
        time.sleep(0.05)
    return value


class Server:
    """A running server. `log` is its output so far."""

    def __init__(
        self,
        backend: str,
        log_path: Path,
        *arguments: str,
        command=SERVE,
        port: int | None = None,
        cwd: Path | None = None,
        **variables: str,
    ):
        self.backend, self.log_path = backend, log_path
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.directory = tempfile.TemporaryDirectory(
            prefix="live-"
        )  # for its socket, which a killed server does not remove
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VERBATIM_")}
        self.process = subprocess.Popen(
            [*command, *self.own_arguments(), *arguments],
            stdout=log_path.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,  # signals reach its own process group only
            env=environment | {"TMPDIR": self.directory.name} | variables,
            cwd=cwd or log_path.parent,
        )
        self.http = httpx.Client(base_url=self.url, timeout=120)

    def own_arguments(self) -> list[str]:
        """The first words of the command line."""
        return ["--backend", self.backend, "--port", str(self.port)]

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            return self.http.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def wait_ready(self) -> "Server":
        wait_until(self.is_ready, message=self.log)
        return self

    def health(self) -> dict:
        return self.http.get("/health").raise_for_status().json()["engine"]

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url + "/v1", api_key="none", max_retries=0, timeout=120)

    def chat(self, **body) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json=chat_body(**body))

    def complete(self, **body) -> httpx.Response:
        return self.http.post("/v1/completions", json={"model": "verbatim-demo", "prompt": "Hello"} | body)

    def engine_pid(self) -> int | None:
        """The engine's process: the child of the main process that runs its module."""
        for pid in children(self.process.pid):
            if "verbatim.server.engine.process" in command_line(pid):
                return pid
        return None

    def worker_pids(self) -> list[int]:
        """The process ids of the HTTP workers: the children that have the port's listening socket."""
        found = []
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                with suppress(psutil.Error):
                    sockets = child.net_connections("inet")
                    found += [child.pid] * any((s.status, s.laddr.port) == ("LISTEN", self.port) for s in sockets)
        return found

    def worker_pid(self) -> int:
        """The process id of the only HTTP worker."""
        return wait_until(self.worker_pids)[0]

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(STOP_SECONDS)

    def close(self):
        self.http.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.directory.cleanup()


def chat_body(content: str = "Hello", **fields) -> dict:
    """A short greedy request that always runs to its length; fields of None are left out."""
    body = {"model": "verbatim-demo", "messages": [{"role": "user", "content": content}]}
    body |= {"temperature": 0, "max_tokens": 8, "ignore_eos": True}
    return {name: value for name, value in (body | fields).items() if value is not None}


def stream_events(response: httpx.Response):
    """Yield the data of each event when it arrives."""
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield line.removeprefix("data: ")


class Reader(threading.Thread):
    """Reads a stream in the background; `events` grows; `error` is the error that ended the stream, if any."""

    def __init__(self, server, **body):
        super().__init__(daemon=True)
        self.server, self.body = server, chat_body(stream=True, **body)
        self.events, self.error = [], None
        self.start()

    def run(self):
        try:
            with self.server.http.stream("POST", "/v1/chat/completions", json=self.body) as response:
                for event in stream_events(response):
                    self.events.append(event)
        except httpx.HTTPError as error:
            self.error = error

    def wait_for(self, count: int) -> "Reader":
        wait_until(lambda: len(self.events) >= count or not self.is_alive())
        return self

    def finish(self, seconds: float = 100) -> list[str]:
        self.join(seconds)
        assert not self.is_alive()
        return self.events


def children(pid: int) -> list[int]:
    """The process ids of its children, whichever thread started them."""
    return [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def family(leader: int) -> list[int]:
    """The running processes of the process group `leader`."""
    groups = {int(path.name): group_of(path) for path in Path("/proc").glob("[0-9]*")}
    return [pid for pid, group in groups.items() if group == leader and is_alive(pid)]


def group_of(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[2])
    except OSError:
        return None


def is_built(backend: str) -> str | None:
    """None if a backend can run here, else the reason why it cannot."""
    options = Options(backend=backend, model=Path(), device="cpu", quantization=None)
    try:
        check_backend(options)
    except BackendError as error:
        return str(error)
    return None


@contextmanager
def running(backend: str, directory: Path, *arguments: str, **options):
    if reason := is_built(backend):
        pytest.skip(reason)
    server = Server(backend, directory / f"{backend}.log", *arguments, **options)
    try:
        yield server
    finally:
        server.close()
