"""The line between workers and engine: records cross it exactly, faults are seen. A scripted engine stands in."""

import asyncio
import math
import socket
import struct
import threading
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verbatim.reference.records.errors import ContextLengthError, QueueFullError, RequestError, UnsupportedError
from verbatim.reference.records.grammar_text import Grammar, GrammarSyntax
from verbatim.reference.records.request import (
    Candidate,
    FinishReason,
    Output,
    Request,
    SamplingParams,
    StoppingParams,
    TokenLogprob,
)
from verbatim.server.engine import wire
from verbatim.server.engine.client import EngineClient
from verbatim.server.engine.process import EngineLoop
from verbatim.server.errors import EngineFailedError, EngineTimeoutError, EngineUnavailableError
from verbatim.server.http.metrics import Metrics

FLOAT32 = st.floats(width=32, allow_nan=False)


def through(message: dict) -> dict:
    return wire.decode(wire.encode(message))


@settings(deadline=None)
@given(st.binary(), FLOAT32, st.text(), st.sampled_from([None, *FinishReason]))
def test_outputs_survive_exactly(token, logprob, text, finish_reason):
    candidate = Candidate(token_id=7, token=token, logprob=logprob)
    output = Output(
        request_id="a", choice=1, text=text, token_ids=(7, 8), finish_reason=finish_reason, num_prompt_tokens=3,
        logprobs=(TokenLogprob(chosen=candidate, top=(candidate, candidate)), TokenLogprob(chosen=candidate)),
        prompt_logprobs=(TokenLogprob(chosen=candidate, top=(candidate,)),),
    )  # fmt: skip
    back = wire.output_from_json(wire.decode_answer(wire.encode(wire.output_to_json(output))))
    assert back == output
    assert struct.pack("<f", back.logprobs[0].chosen.logprob) == struct.pack("<f", logprob)


def test_requests_survive_exactly():
    sampling = SamplingParams(temperature=0.1, top_k=5, logit_bias={5: -1.5, 6: 100}, seed=2**64 - 1, logprobs=0)
    stopping = StoppingParams(max_tokens=9, strings=("\n", "🙂"), token_ids=(1, 2), ignore_eos=True)
    request = Request(
        request_id="a", prompt_ids=(1, 2, 3), sampling=sampling, stopping=stopping, n=4, visible_ids=(5, 6),
        prompt_logprobs=3, timeout=1.5,
    )  # fmt: skip
    assert wire.request_from_json(through(wire.request_to_json(request))) == request
    plain = Request(request_id="a", prompt_ids=(1,))
    assert wire.request_from_json(through(wire.request_to_json(plain))) == plain


@pytest.mark.parametrize("error_type", [RequestError, ContextLengthError, UnsupportedError, QueueFullError])
def test_errors_survive(error_type):
    error = error_type("no", field="prompt") if issubclass(error_type, RequestError) else error_type("no")
    back = wire.error_from_json(through(wire.error_to_json(error)))
    assert type(back) is error_type and str(back) == "no"
    assert getattr(back, "field", None) == getattr(error, "field", None)


class ScriptedEngine:
    """Says the tokens of its script one a step; an exception in the script is raised by the step.

    A grammar takes until `is_prepared` is set; `not ( a grammar` is refused.
    """

    def __init__(self, *script):
        self.script = script
        self.at: dict[str, int] = {}
        self.aborted = []
        self.is_prepared = threading.Event()

    def prepare(self, request):
        if request.grammar:
            assert self.is_prepared.wait(30)
            if request.grammar.source == "not ( a grammar":
                raise RequestError("unbalanced", field="response_format")

    def add(self, request, now):
        if request.stopping.max_tokens == 1:
            raise QueueFullError("full")
        self.at[request.request_id] = 0

    def has_work(self):
        return bool(self.at)

    def step(self, now):
        outputs = []
        for name in list(self.at):
            item = self.script[self.at[name] % len(self.script)]
            if isinstance(item, Exception):
                raise item
            self.at[name] += 1
            outputs.append(Output(request_id=name, choice=0, **item))
            if outputs[-1].finish_reason:
                del self.at[name]
        return outputs

    def abort(self, name):
        self.aborted.append(name)
        self.at.pop(name, None)

    def stats(self):
        return {"running": len(self.at)}

    def check(self):
        pass


def converse(tmp_path, engine, conversation):
    """Run `conversation(client)` against an engine loop in a thread; what ended the loop, if it was an error."""
    path, errors = str(tmp_path / "engine.sock"), []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        loop = EngineLoop(engine, listener)

        def serve():
            try:
                loop.run()
            except Exception as error:
                errors.append(error)
                for connection in loop.connections:
                    connection.socket.close()  # as the end of the process would
                listener.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        asyncio.run(asyncio.wait_for(_with_client(path, conversation), 60))
        loop.drain()
        thread.join(30)
        assert not thread.is_alive()
    return errors


async def _with_client(path, conversation):
    client = EngineClient(path, Metrics(), "a model")
    reader = asyncio.create_task(client.run())
    while not client.is_connected:
        await asyncio.sleep(0.01)
    try:
        await conversation(client)
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


def request(name, **stopping) -> Request:
    return Request(request_id=name, prompt_ids=(1,), stopping=StoppingParams(**stopping))


async def collect(client, *requests) -> str:
    async with aclosing(client.generate(requests)) as outputs:
        return "".join([output.text async for output in outputs])


def test_many_requests_share_a_line(tmp_path):
    async def conversation(client):
        texts = await asyncio.gather(*(collect(client, request(f"r{i}")) for i in range(20)))
        assert texts == ["ab"] * 20
        assert await client.stats() == {"running": 0}

    script = {"text": "a"}, {"text": "b", "finish_reason": FinishReason.STOP}
    assert converse(tmp_path, ScriptedEngine(*script), conversation) == []


def test_leaving_early_aborts(tmp_path):
    engine = ScriptedEngine({"text": "a"})

    async def conversation(client):
        async with aclosing(client.generate([request("r"), request("s")])) as outputs:
            await anext(outputs)
        while (await client.stats())["running"]:
            await asyncio.sleep(0.01)

    assert converse(tmp_path, engine, conversation) == []
    assert engine.aborted == ["r", "s"]


def test_a_refusal_reaches_only_its_request_and_runs_none_of_it(tmp_path):
    engine = ScriptedEngine({"text": "a", "finish_reason": FinishReason.STOP})

    async def conversation(client):
        with pytest.raises(QueueFullError, match="full"):
            await collect(client, request("good"), request("bad", max_tokens=1))
        assert await collect(client, request("next")) == "a"

    assert converse(tmp_path, engine, conversation) == []
    assert engine.aborted == ["good", "bad"]


def with_grammar(name, source):
    grammar = Grammar(syntax=GrammarSyntax.REGEX, source=source)
    return Request(request_id=name, prompt_ids=(1,), grammar=grammar)


def test_a_grammar_that_takes_long_holds_up_nobody_else(tmp_path):
    engine = ScriptedEngine({"text": "a"}, {"text": "b", "finish_reason": FinishReason.STOP})

    async def conversation(client):
        slow = asyncio.create_task(collect(client, with_grammar("slow", "a*")))
        bad = asyncio.create_task(collect(client, with_grammar("bad", "not ( a grammar")))
        left = asyncio.create_task(collect(client, with_grammar("left", "b*")))
        assert await collect(client, request("quick")) == "ab"
        left.cancel()
        await client.stats()  # the engine has seen that it left
        assert not slow.done()
        engine.is_prepared.set()
        assert await slow == "ab"
        with pytest.raises(RequestError, match="unbalanced"):
            await bad
        assert await client.stats() == {"running": 0}

    assert converse(tmp_path, engine, conversation) == []
    assert "left" in engine.aborted


def test_time_that_is_up_is_an_error_of_its_own(tmp_path):
    async def conversation(client):
        with pytest.raises(EngineTimeoutError, match="too long"):
            await collect(client, request("r"))

    script = {"text": "a"}, {"finish_reason": FinishReason.TIMEOUT, "error": "too long"}
    assert converse(tmp_path, ScriptedEngine(*script), conversation) == []


def test_an_error_output_fails_one_request(tmp_path):
    async def conversation(client):
        with pytest.raises(EngineFailedError, match="NaN"):
            await collect(client, request("r"))

    script = {"text": "a"}, {"finish_reason": FinishReason.ERROR, "error": "a logit is NaN"}
    assert converse(tmp_path, ScriptedEngine(*script), conversation) == []


def test_an_exception_in_a_step_ends_the_loop_and_every_request(tmp_path):
    async def conversation(client):
        results = await asyncio.gather(*(collect(client, request(f"r{i}")) for i in range(3)), return_exceptions=True)
        assert all(isinstance(result, EngineUnavailableError) for result in results)
        with pytest.raises(EngineUnavailableError):
            await collect(client, request("later"))

    [error] = converse(tmp_path, ScriptedEngine({"text": "a"}, ValueError("broken")), conversation)
    assert str(error) == "broken"


def test_large_frames_cross(tmp_path):
    async def conversation(client):
        big = Request(request_id="r", prompt_ids=tuple(range(200_000)))
        assert len(await collect(client, big)) == 3_000_000

    engine = ScriptedEngine({"text": "x" * 3_000_000, "finish_reason": FinishReason.STOP})
    assert converse(tmp_path, engine, conversation) == []


def test_minus_infinity_crosses():
    candidate = Candidate(token_id=1, token=b"", logprob=-math.inf)
    output = Output(request_id="a", choice=0, logprobs=(TokenLogprob(chosen=candidate),))
    assert wire.output_from_json(wire.decode_answer(wire.encode(wire.output_to_json(output)))) == output


def test_integers_beyond_64_bits_cross_exactly():
    sampling, stopping = SamplingParams(top_k=10**25), StoppingParams(max_tokens=10**30)
    request = Request(request_id="a", prompt_ids=(1, 2), sampling=sampling, stopping=stopping)
    assert wire.request_from_json(through(wire.request_to_json(request))) == request


def test_a_request_waits_for_the_first_engine_within_bounds(tmp_path):
    async def wait(seconds, is_stopping=False):
        client = EngineClient(str(tmp_path / "nobody.sock"), Metrics(), "a model", load_wait=seconds)
        if is_stopping:
            asyncio.get_running_loop().call_later(0.05, client.stop_waiting)
        started = asyncio.get_running_loop().time()
        with pytest.raises(EngineUnavailableError, match="loading"):
            [output async for output in client.generate([request("x")])]
        return asyncio.get_running_loop().time() - started

    assert asyncio.run(wait(0)) < 5
    assert 0.3 <= asyncio.run(wait(0.3)) < 5
    assert asyncio.run(wait(300, is_stopping=True)) < 5
