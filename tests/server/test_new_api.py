"""A fifth API, of a module and a line in the registry: served, on the OpenAPI page, and resumed by the router.

Its stream has named events and no [DONE], as those of other makers have; the registry's line is written by the scripts
that start the server and the router.
"""

import json
import os
import sys

import pytest

from live_router import Router, kill_busy, wait_idle
from live_server import Server, is_built, stream_events

TOY = '''
"""An API that continues a question."""

from verbatim.reference.records.request import Request
from verbatim.server.api import parameters
from verbatim.server.api.adapter import Adapter
from verbatim.server.api.builder import Builder, Streaming, new_id
from verbatim.server.api.fields import Field, Object, required
from verbatim.server.api.replay_buffer import ReplayBuffer
from verbatim.server.api.value_types import STRING, integer
from verbatim.server.http import sse
from verbatim.server.http.error_answers import describe


class ToyBuilder(Builder):
    def __init__(self, request, is_stream):
        self.requests, self.streaming, self.text = (request,), Streaming(is_stream=is_stream), ""

    def take(self, output):
        self.text += output.text
        events = [{"type": "piece", "text": output.text}] if output.text else []
        return events + ([{"type": "stop"}] if output.finish_reason else [])

    def whole(self):
        return {"continued": self.text}

    def fail(self, error):
        return [{"type": "failed"} | describe(error)[1]]


class ToyResumption:
    renames, created = (), None

    def __init__(self, emitted):
        self.replay = ReplayBuffer()
        for event in emitted:
            self.replay.add(("text",), sse.read_event(event).get("text"))

    def take(self, raw):
        value = sse.read_event(raw)
        if value["type"] == "piece":
            value["text"] = self.replay.cut(("text",), value["text"])
            return [sse.named_event(value)] if value["text"] else []
        self.replay.require(not self.replay.missing)
        return [raw]


class ToyAdapter(Adapter):
    name, path, prompt_field, summary = "toy", "/toy/continue", "question", "Continue a question"
    body = Object(
        parameters.MODEL,
        required("question", STRING, "The question.", "Why?"),
        Field("length", integer(1), "Tokens of the answer.", default=16),
        *parameters.SAMPLING,
        *parameters.STOPPING,
        parameters.STREAM,
    )
    answer, schemas = "Toy", {"Toy": {"type": "object", "required": ["continued"]}}
    write, end = staticmethod(sse.named_event), b""

    def read(self, body, model):
        fields = self.body.read(body)
        vocab_size = model.config.vocab_size
        request = Request(
            request_id=new_id("toy"),
            prompt_ids=tuple(model.tokenizer.encode_prompt(fields["question"])),
            sampling=parameters.take_sampling(fields, model, None),
            stopping=parameters.take_stopping(fields, vocab_size, fields["length"]),
        )
        is_stream = fields["stream"]
        fields.done()
        return ToyBuilder(request, is_stream)

    def shape_error(self, body):
        return {"type": "failed"} | body

    def resume(self, emitted):
        return ToyResumption(emitted)

    def is_last(self, event):
        return sse.read_event(event)["type"] == "stop"

    def error_event(self, error, emitted):
        return sse.named_event({"type": "failed"} | describe(error)[1])
'''
REGISTER = """
import sys

from toy import ToyAdapter
from verbatim.server.api import registry

registry.ADAPTERS += (ToyAdapter(),)
"""
SERVE = """
from verbatim.server.app import create_app

if __name__ == "__main__":
    create_app(name="toy").run(host="127.0.0.1", port=int(sys.argv[1]), single_process=True, motd=False)
"""
ROUTE = """
from verbatim.router import serve

if __name__ == "__main__":
    serve(None, None, "127.0.0.1", int(sys.argv[1]), [], [], [], False, endpoint_urls=sys.argv[2:])
"""
OPTIONS = {
    "VERBATIM_BACKEND": "fastpath",
    "VERBATIM_THREADS": "1",
    "VERBATIM_MAX_NUM_SEQUENCE": "16",
    "VERBATIM_MAX_TOTAL_SEQ_LENGTH": "32768",
}
LONG = {"model": "verbatim-demo", "question": "Why?", "length": 1500, "temperature": 1, "seed": 3, "ignore_eos": True}


class ToyServer(Server):
    """A server whose registry has one line more."""

    def own_arguments(self) -> list[str]:
        return [str(self.port)]


class ToyRouter(Router):
    """A router with the same line."""

    def own_arguments(self) -> list[str]:
        return [str(self.port)]


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    if reason := is_built("fastpath"):
        pytest.skip(reason)
    place = tmp_path_factory.mktemp("toy")
    (place / "toy.py").write_text(TOY)
    (place / "toy_server.py").write_text(REGISTER + SERVE)
    (place / "toy_router.py").write_text(REGISTER + ROUTE)
    paths = os.pathsep.join(filter(None, (str(place), os.environ.get("PYTHONPATH"))))
    command = (sys.executable, str(place / "toy_server.py"))
    servers, made = [], None
    try:
        for index in range(2):
            log = place / f"server{index}.log"
            servers.append(ToyServer("fastpath", log, command=command, **OPTIONS, PYTHONPATH=paths))
        command, urls = (sys.executable, str(place / "toy_router.py")), [server.url for server in servers]
        made = ToyRouter("", place / "router.log", *urls, command=command, PYTHONPATH=paths)
        made.servers = servers
        for server in servers:
            server.wait_ready()
        yield made.wait_ready()
    finally:
        for each in (*servers, *filter(None, [made])):
            each.close()


def read_stream(router, *, at: int = 0, act=None) -> list[dict]:
    """The events of a long answer; `act` is called when so many have come."""
    events = []
    with router.http.stream("POST", "/toy/continue", json=LONG | {"stream": True}) as response:
        assert response.status_code == 200, response.read()
        for data in stream_events(response):
            events.append(json.loads(data))
            if act and len(events) == at:
                act()
    return events


def test_it_is_served_as_it_is_declared(router):
    server = router.servers[0]
    page = server.http.get("/openapi.json").json()["paths"]["/toy/continue"]["post"]
    schema = page["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["question"] and schema["properties"]["length"]["default"] == 16
    answer = server.http.post("/toy/continue", json={"model": "verbatim-demo", "question": "Why?", "seed": 1})
    assert answer.status_code == 200 and list(answer.json()) == ["continued"]
    wrong = server.http.post("/toy/continue", json=LONG | {"length": 0, "stream": True})
    assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "length"
    assert list(wrong.json()) == ["type", "error"] == list(server.http.get("/toy/continue").json())
    assert list(server.http.post("/v1/completions", json={}).json()) == ["error"]
    long = server.http.post("/toy/continue", json=LONG | {"question": "Why? " * 30_000})
    assert (long.status_code, long.json()["error"]["param"]) == (400, "question")


def test_its_stream_is_resumed_by_the_router(router):
    whole = router.http.post("/toy/continue", json=LONG).json()["continued"]
    undisturbed = read_stream(router)
    moved = read_stream(router, at=60, act=lambda: kill_busy(router))
    assert undisturbed[-1] == moved[-1] == {"type": "stop"} and len(moved) > 60
    for events in (undisturbed, moved):
        assert "".join(event.get("text", "") for event in events) == whole
    assert router.metric("verbatim_router_failovers_total", outcome="resumed") == 1
    wait_idle(router)
