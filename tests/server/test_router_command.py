"""`verbatim router`: the servers that it starts, how it ends, and how it says no."""

import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from live_router import COMMAND, LIMITS, Router
from live_server import Reader, children, family, free_port, is_built, wait_until
from verbatim.cli.routing import read_command_line
from verbatim.router.settings import Settings

SERVERS = ("--", "--backend", "fastpath", *LIMITS[:2])


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and last line of a command that should end by itself."""
    command = [*COMMAND, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, start_new_session=True)
    return done.returncode, (done.stdout + done.stderr).strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--router-mode", "disagg"], ["--router-mode", "'disagg'", "round-robin", "keys and values"]),
        (["--router-mode", "banana"], ["--router-mode", "'banana'", "round-robin"]),
        (["--pd-balance-factor", "0.1"], ["--pd-balance-factor", "0.1", "disagg"]),
        (["--endpoint-num-gpus", "2"], ["--endpoint-num-gpus", "2", "0", "1"]),
        (["--endpoint-num-gpus", "1", "1"], ["--endpoint-num-gpus", "1 1", "each of the 1"]),
        (["--endpoint-ports", "1", "99999"], ["--endpoint-ports", "99999", "1 to 65535"]),
        (["--endpoint-ports", "8080", "8080"], ["127.0.0.1:8080", "different"]),
        (["--endpoint-ports", "1", "2", "3", "--endpoint-hosts", "a,b"], ["--endpoint-hosts", "a, b", "one for all"]),
        (["--endpoint-hosts", "a,,b"], ["--endpoint-hosts", "a,,b"]),
        (["--router-port", "0"], ["--router-port", "0", "1 to 65535"]),
        (["--router-port", "8080"], ["--router-port", "8080", "endpoint"]),
        (["--router-port", "x"], ["--router-port", "x"]),
        (["--start-seconds", "nan"], ["--start-seconds", "nan", "0 to"]),
        (["--endpoint-urls", "a:80"], ["--endpoint-urls", "a:80", "http://HOST:PORT"]),
        (["--endpoint-urls", "http://a:x"], ["--endpoint-urls", "http://a:x", "http://HOST:PORT"]),
        (["--endpoint-urls", "http://a/v1"], ["--endpoint-urls", "http://a/v1", "http://HOST:PORT"]),
        (["--endpoint-urls", "http://a", "--model", "m"], ["--model", "m", "--endpoint-urls"]),
        (["--endpoint-urls", "http://a", "--", "--threads", "1"], ["--server-arguments", "--threads", "run already"]),
        (["m", "--model", "m"], ["twice"]),
        (["--banana"], ["--banana"]),
        (["--", "--port", "1"], ["--port", "--endpoint-ports"]),
        (["--", "--host=0.0.0.0"], ["--host", "--endpoint-hosts"]),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        read_command_line(arguments)
    line = capsys.readouterr().err.splitlines()[-1]
    for word in words:
        assert word in line, line


def test_the_command_refuses_before_it_starts_anything():
    code, line = run("--router-mode", "disagg")
    assert code == 2 and "--router-mode 'disagg' cannot be: it must be round-robin" in line


def test_a_server_that_cannot_start_ends_the_router():
    code, line = run("no/such/model", "--router-port", str(free_port()), "--endpoint-ports", str(free_port()))
    assert code == 1 and line.startswith("verbatim router: the server for http://127.0.0.1:")
    assert "ended with code" in line


def test_a_port_that_is_taken_ends_the_router():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, line = run("--router-port", str(taken.getsockname()[1]), "--endpoint-ports", str(free_port()))
    assert code == 1 and line.startswith("verbatim router: it cannot listen at 127.0.0.1 port ")
    assert "in use" in line


def test_devices_and_places():
    made = Settings(endpoint_ports=(1, 2, 3, 4), endpoint_num_gpus=(1, 0, 1, 1), endpoint_hosts=("::1",))
    assert made.devices == ("cuda:0", "cpu", "cuda:1", "cuda:2")
    assert made.urls == ("http://[::1]:1", "http://[::1]:2", "http://[::1]:3", "http://[::1]:4")
    assert Settings().devices == ("cpu",) and Settings().urls == ("http://127.0.0.1:8080",)
    assert Settings(endpoint_urls=("https://a:1/",)).urls == ("https://a:1",)


@pytest.fixture
def start(tmp_path):
    """Start a router with servers of its own; nothing of it is left after the test."""
    if reason := is_built("fastpath"):
        pytest.skip(reason)
    routers = []

    def start_router(*arguments, command=COMMAND) -> Router:
        routers.append(Router("", tmp_path / "router.log", *arguments, command=command))
        return routers[-1]

    yield start_router
    for router in routers:
        grown = servers_of(router) if router.process.poll() is None else []
        router.close()
        for pid in grown:
            for process in family(pid):
                os.kill(process, signal.SIGKILL)


def servers_of(router) -> list[int]:
    """The process ids of the servers that it has started, each the leader of a group."""
    return children(router.process.pid)


def test_it_starts_servers_again_and_ends_them(start):
    ports = [str(free_port()), str(free_port())]
    router = start("--endpoint-ports", *ports, "--enable-prefix-cache", *SERVERS)
    wait_until(lambda: "listening" in router.log or router.process.poll() is not None)
    for port in ports:
        assert f"verbatim router: http://127.0.0.1:{port} is ready after" in router.log
    router.wait_ready()
    first, second = servers_of(router)
    reader = Reader(router, max_tokens=1900, n=4).wait_for(20)
    os.killpg(first, signal.SIGKILL)
    wait_until(lambda: first not in servers_of(router) and len(servers_of(router)) == 2)
    assert reader.finish()[-1] == "[DONE]"
    wait_until(lambda: answers(ports[0]) and answers(ports[1]), 30)
    router.wait_ready()
    assert [router.chat(max_tokens=1).status_code for _ in range(4)] == [200] * 4
    reader = Reader(router, max_tokens=1900, n=4).wait_for(20)
    started = servers_of(router)
    assert router.stop() == 0  # only after the answer has come to its end
    assert reader.finish()[-1] == "[DONE]" and reader.error is None
    assert [family(pid) for pid in (*started, second)] == [[], [], []]


def answers(port: str) -> bool:
    """Whether a server is ready there."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_a_router_that_is_killed_takes_its_servers_along(start):
    router = start("--endpoint-ports", str(free_port()), *SERVERS).wait_ready()
    (server,) = servers_of(router)
    assert len(family(server)) >= 3
    router.process.kill()
    wait_until(lambda: not family(server), 30, router.log)


SCRIPT = """
import sys
from verbatim.router import Router, serve

class Last(Router):
    def choose(self, ask, endpoints):
        assert ask.model == "verbatim-demo" and ask.path == "/v1/chat/completions"
        return endpoints[-1]

port, *ports = map(int, sys.argv[2:])
serve(
    model=None, model_lib=None, router_host="127.0.0.1", router_port=port, endpoint_hosts=["127.0.0.1"] * 2,
    endpoint_ports=ports, endpoint_num_gpus=[0, 0], enable_prefix_cache=False, router_mode="round-robin",
    router_type=Last, server_arguments=["--threads", "1"],
)
"""


def test_programs_choose_for_themselves(start, tmp_path):
    script = tmp_path / "last.py"
    script.write_text(SCRIPT)
    ports = [str(free_port()), str(free_port())]
    router = start(*ports, command=(sys.executable, str(script))).wait_ready()
    for _ in range(3):
        assert router.chat(max_tokens=1).status_code == 200
    counts = [router.metric("verbatim_router_requests_total", endpoint=f"http://127.0.0.1:{port}") for port in ports]
    assert counts == [0, 3]
    assert router.stop() == 0


def test_programs_are_told_what_cannot_be():
    from verbatim.router import serve

    with pytest.raises(ValueError, match="--router-mode 'disagg' cannot be"):
        serve("m", None, "127.0.0.1", 8000, ["127.0.0.1"], [8080], [1], False, "disagg")
