"""Processes that stand still without dying: they are noticed, killed and replaced, and nobody waits for them."""

import asyncio
import os
import signal
import time

import aiohttp
import pytest
from aiohttp import web

from live_server import Reader, running, wait_until
from verbatim.router import health
from verbatim.router.endpoint import Endpoint
from verbatim.server.engine.heartbeat import LOADING_FACTOR, Beat, Heartbeat, Stall, read_beat

ENGINE_SECONDS, REQUEST_SECONDS = 4, 1
LIMITS = ("--engine-timeout", str(ENGINE_SECONDS), "--request-timeout", str(REQUEST_SECONDS))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running("fastpath", tmp_path_factory.mktemp("liveness"), *LIMITS) as server:
        yield server.wait_ready()


def test_a_stopped_engine_is_replaced_and_requests_end_in_time(server):
    engine = server.engine_pid()
    before = server.http.get("/ready").json()["engines"]["verbatim-demo"]
    assert server.chat(max_tokens=4).status_code == 200
    wait_until(lambda: server.http.get("/ready").json()["engines"]["verbatim-demo"]["steps"] > before["steps"], 5)
    os.kill(engine, signal.SIGSTOP)
    began = time.monotonic()
    answer = server.chat(max_tokens=4)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
    assert time.monotonic() - began < REQUEST_SECONDS + 1.5
    reader = Reader(server, max_tokens=4)
    reader.finish(REQUEST_SECONDS + 2)
    wait_until(lambda: server.engine_pid() not in (engine, None), ENGINE_SECONDS + 4)
    assert "--engine-timeout" in server.log
    wait_until(server.is_ready)
    assert server.chat(max_tokens=4).status_code == 200


def test_a_stopped_worker_is_replaced(server):
    worker = server.worker_pid()
    os.kill(worker, signal.SIGSTOP)
    wait_until(lambda: server.worker_pids() not in ([], [worker]), ENGINE_SECONDS + 6)
    assert server.chat(max_tokens=4).status_code == 200


def test_ready_tells_of_an_engine_that_nobody_restarts(server):
    """The main process is stopped as well, so that only the worker is left to say so."""
    wait_until(server.is_ready)
    engine = server.engine_pid()
    for process in (server.process.pid, engine):
        os.kill(process, signal.SIGSTOP)
    try:
        refused = wait_until(lambda: (answer := server.http.get("/ready")).status_code == 503 and answer, 10)
        assert refused.json()["error"]["code"] == "engine_stalled"
        assert server.chat(max_tokens=1).json()["error"]["code"] == "engine_stalled"
    finally:
        for process in (engine, server.process.pid):
            os.kill(process, signal.SIGCONT)
    wait_until(server.is_ready)


def test_a_heartbeat_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "engine.beat"
    assert read_beat(path) is None
    heartbeat = Heartbeat(path)
    heartbeat.beat(is_loading=True)
    assert read_beat(path).is_loading and not read_beat(path).is_late(1)
    heartbeat.beat(17)
    beat = read_beat(path)
    assert (beat.number, beat.steps, beat.is_loading) == (2, 17, False) and beat.age() < 5
    heartbeat.beat(18)
    assert read_beat(path) == beat, "a process that is busy does not write all the time"
    path.write_bytes(b"x")
    assert read_beat(path) is None


def test_time_without_progress_is_counted():
    beats = [Beat(number=number, is_loading=False) for number in (1, 2)]
    stall = Stall(3)
    assert not any(stall.is_over(beats[0], now) for now in (0, 1, 2, 3))
    assert stall.is_over(beats[0], 4)
    assert not stall.is_over(beats[1], 5), "progress"
    assert not any(stall.is_over(beats[1], now) for now in (6, 1000, 1001)), "the observer itself was stopped"
    assert not any(Stall(0).is_over(beats[1], now) for now in range(100)), "0 is for ever"
    loading, stall = Beat(number=1), Stall(3)
    over = [stall.is_over(loading, now) for now in range(3 * LOADING_FACTOR + 3)]
    assert over.index(True) == 3 * LOADING_FACTOR + 1


class Stalling:
    """A server that is ready when it is first asked, and then says that its engine makes no progress."""

    def __init__(self):
        self.num_asked = 0
        self.app = web.Application()
        self.app.router.add_get("/ready", self.answer)

    async def answer(self, _request):
        self.num_asked += 1
        if self.num_asked == 1:
            return web.json_response({"models": {}})
        return web.json_response({"error": {"code": "engine_stalled"}}, status=503)


def test_a_router_takes_streams_away_from_an_engine_without_progress():
    """Also while the server itself answers: its probes say so."""

    async def run():
        runner = web.AppRunner(Stalling().app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint = Endpoint(f"http://127.0.0.1:{runner.addresses[0][1]}")
        async with aiohttp.ClientSession() as session:
            watch = asyncio.create_task(health.watch(endpoint, session))
            while not endpoint.is_ready:
                await asyncio.sleep(0.01)
            with pytest.raises(TimeoutError):
                async with endpoint.asked():
                    endpoint.woken.set()
                    await asyncio.sleep(60)
            assert not endpoint.is_ready and endpoint.running == 0
            watch.cancel()
        await runner.cleanup()

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 10
