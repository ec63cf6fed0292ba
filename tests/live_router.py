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
    """A running router; `servers` are its endpoints if the test started them."""

    servers: list[Server] = []  # noqa: RUF012

    def own_arguments(self) -> list[str]:
        return ["--router-port", str(self.port)]

    def is_ready(self) -> bool:
        """Whether all its endpoints are ready."""
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
        """The server with a running request."""
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
    """Kill all processes of a server."""
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
    """Stop all servers, wait `seconds`, then kill the server with a running request; returns it."""
    with frozen(router) as busy:
        time.sleep(seconds)
        kill(busy)
    return busy


@contextmanager
def frozen(router: Router):
    """Stop all servers, since answers of the demo model are short; yields the server with a running request."""
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
    """Start a server with the options and port of a killed server."""
    return Server("fastpath", server.log_path, *LIMITS, *row, port=server.port)


def plain(body: bytes) -> bytes:
    """An answer without the ids and times that differ in each answer."""
    return FRESH.sub(b"fresh", body)


def wait_idle(router: Router) -> None:
    """Wait until neither the router nor its servers have a running request."""
    wait_until(lambda: router.num_running() == 0, 30)
    for server in router.servers:
        if server.process.poll() is None:
            wait_until(lambda server=server: server.health()["running"] + server.health()["waiting"] == 0, 30)


class Miniature(ThreadingHTTPServer):
    """A server of another project: it has `pages` and answers every POST with `events`, then ends or breaks off."""

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
        """Ignore clients that disconnect."""

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

    def answer(self, status: int, media_type: str, body: bytes, *, is_cut: bool = False):
        self.send_response(status)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body) + is_cut))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = is_cut
