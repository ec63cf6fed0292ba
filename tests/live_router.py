"""Live routers for tests, in front of live servers: the demo model on the fast path, one thread each."""

import os
import re
import signal
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from live_server import Server, is_built, wait_until

COMMAND = (sys.executable, "-m", "verbatim.router")
LIMITS = (
    "--threads",
    "1",
    "--prefix-cache-mode",
    "disable",
    "--max-num-sequence",
    "16",
    "--max-total-seq-length",
    "32768",
)
FRESH = re.compile(rb'(chatcmpl|cmpl|resp|msg|fc|call)[-_][0-9a-f]{20,32}|"created(_at)?":\d+')


class Router(Server):
    """One running router; `servers` are its endpoints where the test has started them itself."""

    servers: list[Server] = []  # noqa: RUF012

    def own_arguments(self) -> list[str]:
        return ["--router-port", str(self.port)]

    def is_ready(self) -> bool:
        """Whether all its endpoints are."""
        assert self.process.poll() is None, self.log
        try:
            return all(endpoint["ready"] for endpoint in self.endpoints())
        except httpx.TransportError:
            return False

    def endpoints(self) -> list[dict]:
        return self.http.get("/health").raise_for_status().json()["endpoints"]

    def num_running(self) -> int:
        return sum(endpoint["running"] for endpoint in self.endpoints())

    def busy(self) -> Server:
        """The server that has something to do."""
        (url,) = [endpoint["url"] for endpoint in self.endpoints() if endpoint["running"]]
        return next(server for server in self.servers if server.url == url)

    def metric(self, name: str, **labels: str) -> float:
        """The sum over all samples of that name with those labels."""
        text = self.http.get("/metrics").text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(
            sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items()
        )


def kill(server: Server) -> None:
    """End a server with all its processes, at once."""
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


@contextmanager
def routed(directory: Path, *rows: tuple[str, ...], router: tuple[str, ...] = (), **variables: str):
    """A router in front of a server for each row of options."""
    if reason := is_built("fastpath"):
        pytest.skip(reason)
    with ExitStack() as stack:
        servers = []
        for index, row in enumerate(rows):
            servers.append(Server("fastpath", directory / f"server{index}.log", *LIMITS, *row, **variables))
            stack.callback(servers[-1].close)
        urls = ",".join(server.url for server in servers)
        made = Router("", directory / "router.log", "--endpoint-urls", urls, *router, command=COMMAND)
        stack.callback(made.close)
        made.servers = servers
        for server in servers:
            server.wait_ready()
        yield made.wait_ready()


def kill_busy(router: Router, *, seconds: float = 0) -> Server:
    """End the server that has something to do, and return it; nobody does anything for so long."""
    with frozen(router) as busy:
        time.sleep(seconds)
        kill(busy)
    return busy


@contextmanager
def frozen(router: Router):
    """The server that has something to do, which does nothing more meanwhile: an answer of the demo model is short."""
    leaders = [server.process.pid for server in router.servers if server.process.poll() is None]
    for leader in leaders:
        os.killpg(leader, signal.SIGSTOP)
    try:
        yield router.busy()
    finally:
        for leader in leaders:
            with suppress(ProcessLookupError):
                os.killpg(leader, signal.SIGCONT)


def start_again(server: Server, *row: str) -> Server:
    """A server like one that was killed, on the same port."""
    return Server("fastpath", server.log_path, *LIMITS, *row, port=server.port)


def plain(body: bytes) -> bytes:
    """An answer without what is new in each."""
    return FRESH.sub(b"fresh", body)


def wait_idle(router: Router) -> None:
    """Nothing is under way any more, as the router and its servers see it."""
    wait_until(lambda: router.num_running() == 0, 30)
    for server in router.servers:
        if server.process.poll() is None:
            wait_until(lambda server=server: server.health()["running"] + server.health()["waiting"] == 0, 30)


class Miniature(ThreadingHTTPServer):
    """A server that is not ours: it shows `pages` and answers every POST with `events`, cut off behind them or not."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), MiniatureHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.pages: dict[str, bytes] = {}
        self.events: list[bytes] = []
        self.bodies: list[bytes] = []
        self.is_cut = False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """Who hangs up is no concern of ours."""

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class MiniatureHandler(BaseHTTPRequestHandler):
    """The answers of a Miniature."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        page = self.server.pages.get(self.path)
        self.answer(200 if page else 404, "application/json", page or b"{}")

    def do_POST(self):
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        body = b"".join(b"data: " + event + b"\n\n" for event in self.server.events)
        self.answer(200, "text/event-stream", body, is_cut=self.server.is_cut)

    def answer(self, status: int, kind: str, body: bytes, *, is_cut: bool = False):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body) + is_cut))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = is_cut
