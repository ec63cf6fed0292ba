"""Receipts over HTTP: every API gives them, signed; the server verifies them, the other engine replays them."""

import json
import random
import re
from itertools import pairwise

import pytest

from live_server import chat_body, running, stream_events
from lora_adapters import ATTENTION, shapes_in, write_adapter
from receipt_maker import changed, read
from verbatim.cli.main import main
from verbatim.demo import MODEL
from verbatim.reference import backend as reference
from verbatim.reference.commands.replay import read_receipt, recompute
from verbatim.reference.receipts.canonical import digest_of
from verbatim.reference.receipts.comparison import compare
from verbatim.reference.receipts.signing import check_signature
from verbatim.reference.records.limits import EngineLimits

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    """A private key as OpenSSL makes it."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = tmp_path_factory.mktemp("key") / "key.pem"
    form = serialization.PrivateFormat.PKCS8
    pem = Ed25519PrivateKey.generate().private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    path.write_bytes(pem)
    return path


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An adapter of the demo model."""
    directory = tmp_path_factory.mktemp("sql")
    write_adapter(directory, shapes_in(MODEL), rank=4, scale=0.2, modules=ATTENTION)
    return directory


@pytest.fixture(scope="module")
def signed(key, adapter, tmp_path_factory):
    """A server of the fast path with a key, draft tokens and an adapter."""
    arguments = ("--receipt-key", str(key), "--speculative-mode", "small_draft", "--lora", f"sql={adapter}")
    with running("fastpath", tmp_path_factory.mktemp("signed"), *arguments) as server:
        yield server.wait_ready()


def chat(server, **fields):
    own = {"temperature": 1, "seed": 5, "ignore_eos": None, "max_tokens": 24, "receipt": True}
    body = chat_body(**own | fields)
    response = server.http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()["receipt"]


def verify(server, receipt, **fields):
    response = server.http.post("/v1/verify", json={"receipt": receipt} | fields)
    assert response.status_code == 200, response.text
    return response.json()


def replayed(receipt, path, *words):
    """The exit code of `verbatim replay` on a file of the receipt."""
    path.write_text(json.dumps(receipt))
    return main(["replay", str(path), *words])


CHATS = {
    "plain": {},
    "choices": {"n": 3, "frequency_penalty": 0.5, "logit_bias": {"310": 3}},
    "tool": {"tools": [WEATHER], "content": "What is the weather in Paris?"},
    "forced": {"tools": [WEATHER], "tool_choice": "required", "content": "Weather in Oslo?"},
    "schema": {"response_format": FORMAT, "logprobs": True, "top_logprobs": 2},
    "stops": {"stop": ["e"], "min_tokens": 3, "top_p": 0.9, "seed": None},
}


@pytest.mark.parametrize("name", CHATS)
def test_a_chat_has_a_receipt_that_the_server_verifies(signed, name):
    receipt = chat(signed, **CHATS[name])
    outcome = verify(signed, receipt)
    assert outcome["equal"], outcome
    assert outcome["tokens"] == sum(len(answer["token_ids"]) for answer in receipt["answers"]) > 0
    assert outcome["signed_by"] == check_signature(receipt["signature"], receipt["digest"])


def test_a_receipt_of_the_fast_path_replays_on_the_reference(signed, tmp_path, capsys):
    receipt = chat(signed, **CHATS["choices"])
    assert receipt["engine"]["backend"] == "fastpath" and receipt["engine"]["fingerprint"].startswith("verbatim-")
    assert replayed(receipt, tmp_path / "a.json", "--backend", "reference") == 0
    assert re.search(r"equal: \d+ tokens of 3 answers, to the last bit", capsys.readouterr().out)
    other = changed(receipt, "answers", 1, "token_ids", 4, value=lambda token: token ^ 1)
    assert replayed(other, tmp_path / "b.json", "--backend", "reference") == 1
    assert "request 0, choice 1, token 4: token: " in capsys.readouterr().out
    outcome = verify(signed, other)
    assert not outcome["equal"] and outcome["difference"]["position"] == 4 and outcome["signed_by"] is None


def test_what_a_stream_says_is_on_its_receipt(signed, tmp_path):
    for options in ({}, {"stream_options": {"include_usage": True}}):
        body = chat_body(stream=True, receipt="full", n=2, **options)
        with signed.http.stream("POST", "/v1/chat/completions", json=body) as response:
            *events, done = list(stream_events(response))
        *others, last = map(json.loads, events)
        assert done == "[DONE]" and not any("receipt" in event for event in others)
        assert last["receipt"]["body"] == {"request": body}
        assert verify(signed, last["receipt"])["equal"]


def test_several_prompts_and_candidates(signed):
    body = {"prompt": ["Hello", "One two"], "n": 2, "max_tokens": 9, "seed": 3, "receipt": True}
    whole = signed.complete(**body).json()
    receipt = whole["receipt"]
    assert receipt["body"] == {"request_sha256": digest_of({"model": "verbatim-demo"} | body)}
    assert [(each["request"], each["choice"]) for each in receipt["answers"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert verify(signed, receipt)["equal"]
    assert verify(signed, signed.complete(prompt="A", best_of=4, receipt=True).json()["receipt"])["equal"]


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_header_gets_one_of_every_api(signed, is_stream):
    messages = [{"role": "user", "content": "Hello"}]
    bodies = {
        "/v1/messages": {"messages": messages, "max_tokens": 12, "temperature": 0.5},
        "/v1/responses": {"input": "Hello", "max_output_tokens": 16},
        "/api/chat": {"messages": messages, "options": {"num_predict": 6, "seed": 1}},
    }
    for path, body in bodies.items():
        body |= {"model": "verbatim-demo", "stream": is_stream}
        response = signed.http.post(path, json=body, headers={"x-verbatim-receipt": "true"})
        assert response.status_code == 200, response.text
        lines = [line.removeprefix("data: ") for line in response.text.splitlines()] if is_stream else [response.text]
        values = [json.loads(line) for line in lines if line.startswith("{")]
        assert [("receipt" in value) for value in values] == [False] * (len(values) - 1) + [True], path
        assert verify(signed, values[-1]["receipt"])["equal"]


def test_an_adapter_is_on_the_receipt(signed, adapter, tmp_path):
    receipt = chat(signed, model="sql")
    assert verify(signed, receipt, model="sql")["equal"]
    assert verify(signed, receipt)["difference"]["what"] == "the LoRA adapter"
    words = ("--backend", "reference", "--model", str(MODEL), "--lora", str(adapter))
    assert replayed(receipt, tmp_path / "a.json", *words) == 0


def test_a_signature_holds_and_a_forged_one_is_named(signed, tmp_path, capsys):
    receipt = chat(signed)
    path = tmp_path / "answer.json"
    path.write_text(json.dumps({"choices": [], "receipt": receipt}))
    owner = read_receipt(str(path))[1]
    assert main(["verify-answer", str(path), "--public-key", owner]) == 0
    assert f"signed by {owner}" in capsys.readouterr().out
    assert main(["verify-answer", str(path), "--public-key", "00" * 32]) == 1
    forged = changed(receipt, "created", value=1) | {"signature": receipt["signature"]}
    response = signed.http.post("/v1/verify", json={"receipt": forged})
    assert response.status_code == 400 and "receipt.signature" in response.json()["error"]["message"]
    response = signed.http.post("/v1/verify", json={"receipt": receipt | {"created": 1}})
    assert response.status_code == 400 and "changed after it was made" in response.json()["error"]["message"]


def test_other_files_and_other_settings_are_named(signed, tmp_path):
    receipt = chat(signed)
    other = changed(receipt, "engine", "files", value="0" * 64)
    assert verify(signed, other)["difference"]["what"] == "the model's files"
    assert replayed(other, tmp_path / "a.json") == 1
    narrow = changed(receipt, "engine", "kv_cache_dtype", value="float16")
    assert verify(signed, narrow)["difference"] == {
        "what": "kv_cache_dtype", "receipt": "float16", "computed": "float32", "request": None, "choice": None,
        "position": None,
    }  # fmt: skip
    assert replayed(narrow, tmp_path / "b.json") == 1, "other bits come of narrower keys"


def test_wishes_that_cannot_be_are_refused(signed):
    for body, code in (({"receipt": "yes"}, "invalid_value"), ({"receipt": 1}, "invalid_type")):
        response = signed.http.post("/v1/chat/completions", json=chat_body(**body))
        assert response.status_code == 400 and response.json()["error"]["code"] == code, response.text
    response = signed.complete(max_tokens=0, echo=True, receipt=True)
    assert response.status_code == 400 and response.json()["error"]["param"] == "receipt"
    response = signed.http.post("/v1/chat/completions", json=chat_body(), headers={"x-verbatim-receipt": "maybe"})
    assert response.status_code == 400


def test_a_server_whose_key_cannot_be_read_does_not_start(start, tmp_path):
    (tmp_path / "key.pem").write_text("no key")
    server = start("fastpath", "--receipt-key", str(tmp_path / "key.pem"))
    assert server.process.wait(60) == 1
    assert server.log.strip().splitlines()[-1].startswith("verbatim: --receipt-key ")


FORMATS = (
    (), ("--quantization", "w8a8"), ("--quantization", "w4a8"), ("--kv-cache-dtype", "float16"),
    ("--kv-cache-dtype", "bfloat16", "--speculative-mode", "ngram"),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("options", FORMATS, ids=lambda options: " ".join(options) or "float")
def test_forty_served_answers_of_a_format_replay_on_the_reference(start, options):
    server, chances = start("fastpath", *options).wait_ready(), random.Random(" ".join(options))
    values = dict(pairwise(options))
    limits = EngineLimits(kv_cache_dtype=values.get("--kv-cache-dtype", "float32"))
    engine = reference.load_engine(MODEL, quantization=values.get("--quantization"), limits=limits)
    for number in range(40):
        name = chances.choice(list(CHATS))
        words = " ".join(chances.choices(["one", "tea", "Paris", "17", "why", "red"], k=6))
        fields = {"content": words} | CHATS[name] | {"seed": chances.getrandbits(60), "n": chances.choice([1, 1, 2, 4])}
        receipt = chat(server, **fields)
        outcome = verify(server, receipt)
        assert outcome["equal"], (number, name, outcome)
        found = recompute(engine, read(receipt), verifies=number % 2 == 1)
        assert compare(read(receipt), found) is None, (number, name)
