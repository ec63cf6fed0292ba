"""Servers as processes: started on a free port, pinned to a core, their processor time read from Linux."""

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

READY_SECONDS = 60
ENGINE = "benchmarks.http.engine"
COMMANDS = {
    "verbatim": ("-m", "benchmarks.http.ours", "--backend", "reference", "--max-queue", "4096"),
    "bare Sanic": ("-m", "sanic", "benchmarks.http.bare_sanic:app"),
    "FastAPI": ("-m", "uvicorn", "--factory", "benchmarks.http.bare_fastapi:make_app", "--no-access-log"),
}


class Server:
    """One running server, by its name in `COMMANDS` or by its own command."""

    def __init__(
        self, name: str, directory: Path, cores: set[int], command: tuple[str, ...] = (),
        port_option: str = "--port", **variables: str,
    ):  # fmt: skip
        self.name, self.port = name, _free_port()
        self.log_path = directory / f"{name.replace(' ', '-')}.log"
        self.process = subprocess.Popen(
            [sys.executable, *(command or COMMANDS[name]), port_option, str(self.port)],
            env=os.environ | {"TMPDIR": str(directory)} | variables,
            stdout=self.log_path.open("wb"),
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )

    def wait_ready(self) -> "Server":
        """Raise RuntimeError with its log if it ends, or is not there in time."""
        deadline = time.monotonic() + READY_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                if self.ask("GET", "/ready")[0] == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} did not start:\n{self.log_path.read_text(errors='replace')}")

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=READY_SECONDS)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def pin_engine(self, cores: set[int]) -> None:
        """Move the engine's process to other cores than the server's."""
        for pid in _family(self.process.pid):
            if ENGINE in _command_line(pid):
                os.sched_setaffinity(pid, cores)

    def cpu_seconds(self) -> float:
        """Processor seconds of the server's processes so far, without the engine."""
        return sum(_cpu_seconds(pid) for pid in _family(self.process.pid) if ENGINE not in _command_line(pid))

    def stop(self) -> None:
        """Terminate the server; kill it if it does not end."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def started(name: str, cores: set[int], engine_cores: set[int], command: tuple[str, ...] = (), **more: str):
    """A server that is ready, ended with the block; `more` are variables of its environment, or `port_option`."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        server = Server(name, Path(directory), cores, command, **more)
        try:
            server.wait_ready().pin_engine(engine_cores)
            yield server
        finally:
            server.stop()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    paths = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(word) for path in paths for word in path.read_text().split()]
    return [pid, *(name for child in children for name in _family(child))]


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def _cpu_seconds(pid: int) -> float:
    """Processor seconds of all threads, to the nanosecond."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
