"""Receipts, on every engine: answers are recomputed to the bit, one by one or all at once, and changes are named."""

import dataclasses
import json
import re

import pytest

from family_models import write_family
from receipt_maker import changed, make_receipt, read
from small_models import Letters, write_chat_model
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.commands.replay import recompute
from verbatim.reference.engine.loop import Engine
from verbatim.reference.receipts.comparison import compare
from verbatim.reference.receipts.receipt import bits_of, logprobs_of
from verbatim.reference.receipts.recomputing import limits_for
from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.grammar_text import Grammar, GrammarSyntax
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams
from verbatim.reference.records.thinking import Ending, Thinking

PROMPT = tuple(range(300, 340))
CALL = Grammar(syntax=GrammarSyntax.REGEX, source='\\{"city": "[a-z]{2,9}"\\}')
THOUGHT = Thinking(opening="<t>", endings=(Ending("</t>"),), forced="</t>", is_open=True, budget=5)
SAMPLING = {
    "plain": {},
    "greedy": {"temperature": 0},
    "penalties": {"frequency_penalty": 0.4, "presence_penalty": -0.3, "repetition_penalty": 1.2, "top_p": 0.9},
    "bias": {"logit_bias": {310: 4.5, 311: -100}, "top_k": 40, "min_p": 0.02, "temperature": 0.7},
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_chat_model(tmp_path_factory.mktemp("model"), seed=3)


@pytest.fixture(scope="module")
def requests():
    """Requests of every sort: choices, penalties, grammars, thoughts, every way to end."""
    sampling = {
        name: SamplingParams(seed=index, logprobs=0, **settings)
        for index, (name, settings) in enumerate(SAMPLING.items())
    }
    found = [
        Request(
            request_id=name, prompt_ids=PROMPT, sampling=params, n=1 + index, stopping=StoppingParams(max_tokens=20)
        )
        for index, (name, params) in enumerate(sampling.items())
    ]
    likely = dataclasses.replace(sampling["plain"], logit_bias={2: 8.0, 97: 9.0, 400: 9.0}, seed=1 << 63)
    stops = StoppingParams(max_tokens=40, min_tokens=6, token_ids=(400,), strings=("ab", "the"))
    found.append(Request(request_id="stops", prompt_ids=PROMPT, sampling=likely, stopping=stops, n=3))
    words = StoppingParams(max_tokens=40, min_tokens=3, strings=("okLoo", "zz"), ignore_eos=True)
    found.append(Request(request_id="words", prompt_ids=PROMPT, sampling=likely, stopping=words, n=2))
    found.append(Request(request_id="open", prompt_ids=PROMPT[:3], sampling=likely, stopping=StoppingParams()))
    found.append(Request(request_id="grammar", prompt_ids=PROMPT, sampling=sampling["bias"], grammar=CALL, n=2))
    found.append(Request(request_id="thought", prompt_ids=PROMPT[:9], sampling=sampling["plain"], thinking=THOUGHT,
                         stopping=StoppingParams(max_tokens=24)))  # fmt: skip
    return tuple(found)


@pytest.fixture(scope="module")
def receipt(backend, directory, requests):
    return make_receipt(backend.load_engine(directory), requests)


def difference(backend, directory, receipt, *, verifies=True):
    """The first difference as a line, "" for none, and how many steps it took to find."""
    parsed = read(receipt)
    engine = backend.load_engine(directory, limits=limits_for(parsed))
    found = compare(parsed, recompute(engine, parsed, verifies=verifies))
    return str(found or ""), engine.stats()["steps"]


def test_an_answer_is_recomputed_and_verified_to_the_bit(backend, directory, receipt):
    assert {answer["finish_reason"] for answer in receipt["answers"]} == {"stop", "length"}
    assert {type(answer["stop_reason"]) for answer in receipt["answers"]} == {str, int, type(None)}
    assert min(len(answer["token_ids"]) for answer in receipt["answers"]) < 20
    line, num_steps = difference(backend, directory, receipt, verifies=False)
    assert line == ""
    line, num_fewer = difference(backend, directory, receipt)
    assert line == ""
    assert num_fewer < num_steps / 2, "draft tokens were not verified together"


def test_engines_write_the_same_receipt(directory, requests, receipt):
    from verbatim.reference import backend as reference

    assert make_receipt(reference.load_engine(directory), requests)["answers"] == receipt["answers"]


def test_speculation_and_drafts_go_together(backend, directory, receipt):
    parsed = read(receipt)
    limits = dataclasses.replace(limits_for(parsed), speculative_mode="ngram", max_num_sequence=3)
    engine = backend.load_engine(directory, limits=limits)
    assert compare(parsed, recompute(engine, parsed, verifies=True)) is None
    scarce = dataclasses.replace(limits_for(parsed), max_num_sequence=5, prefill_chunk_size=7)
    assert compare(parsed, recompute(backend.load_engine(directory, limits=scarce), parsed, verifies=True)) is None


CHANGES = {
    "token": (("answers", 0, "token_ids", 7), lambda token: token ^ 1, r"request 0, choice 0, token 7: token: \d+ in"),
    "unknown token": (("answers", 2, "token_ids", 3), 5000, r"request 1, choice 1, token 3: token: 5000 in the"),
    "bit": (("answers", 1, "logprob_bits"), lambda bits: bits[:39] + f"{int(bits[39], 16) ^ 1:x}" + bits[40:],
            r"request 1, choice 0, token 4: log-probability: -?\d.*0x[0-9a-f]{8}\) in"),
    "end": (("answers", 0, "finish_reason"), "stop", "request 0, choice 0: finish reason: stop in"),
    "seed": (("requests", 0, "sampling", "seed"), "17", "request 0, choice 0, token 0: token"),
    "temperature": (("requests", 0, "sampling", "temperature"), 0.5, "request 0, choice 0, token"),
    "penalty": (("requests", 2, "sampling", "presence_penalty"), 2.0, "request 2, choice 0, token"),
    "prompt": (("requests", 0, "prompt_ids", 0), 301, "request 0, choice 0, token 0: "),
    "bound": (("requests", 0, "stopping", "max_tokens"), 19, "request 0, choice 0, token 19: length"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_named(backend, directory, receipt, change):
    path, value, expected = CHANGES[change]
    line, _ = difference(backend, directory, changed(receipt, *path, value=value))
    assert line
    assert re.search(expected, line), line


def test_a_cut_or_longer_answer_is_named(backend, directory, receipt):
    def cut(answer):
        return answer | {"token_ids": answer["token_ids"][:-1], "logprob_bits": answer["logprob_bits"][:-8]}

    def longer(answer):
        return answer | {"token_ids": [*answer["token_ids"], 5], "logprob_bits": answer["logprob_bits"] + "0" * 8}

    assert "token 19: length: the end" in difference(backend, directory, changed(receipt, "answers", 0, value=cut))[0]
    assert (
        "token 20: length: token 5" in difference(backend, directory, changed(receipt, "answers", 0, value=longer))[0]
    )


def test_another_weight_is_seen(backend, tmp_path, receipt):
    other = write_chat_model(tmp_path / "other", seed=3, rms_norm_eps=1.1e-5)
    assert "log-probability" in difference(backend, other, receipt)[0]


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("answers",), [], "one for each choice"), (("answers", 0, "token_ids"), ["5"], r"token_ids\[0\] must be"),
        (("answers", 0, "logprob_bits"), "zz", "8 hexadecimal digits"), (("requests",), [], "1 to 128 requests"),
        (("requests", 0, "sampling", "seed"), "1e9", "an integer as text"), (("engine", "files"), 3, "a string"),
        (("requests", 0, "sampling", "temperature"), -1, "temperature must be at least 0"),
        (("requests", 0, "n"), 10**6, "n must be at most 128"), (("format",), "other", "format must be"),
        (("requests", 0, "grammar"), {"syntax": "abnf", "source": ""}, "one of json_schema, regex, lark"),
        (("created",), True, "an integer"), (("engine", "more"), 1, "not a field"), (("answers", 0), None, "an object"),
    ],
)  # fmt: skip
def test_what_is_no_receipt_is_refused_by_name(receipt, path, value, expected):
    with pytest.raises(RequestError, match=expected):
        read(changed(receipt, *path, value=value))


def test_a_digest_finds_a_change_and_survives_other_programs(receipt):
    broken = {**receipt, "created": 2}
    with pytest.raises(RequestError, match="changed after it was made"):
        read(broken)
    assert receipt["requests"][0]["sampling"]["temperature"] == 1.0
    rewritten = json.loads(json.dumps(receipt).replace('"temperature": 1.0', '"temperature": 1'))  # as JavaScript does
    assert read(dict(reversed(rewritten.items()))).requests[0].sampling.temperature == 1


def test_bits_are_those_of_the_numbers():
    numbers = [0.0, -0.0, -1.5, -104.25, float("-inf")]
    assert bits_of(numbers) == "0000000080000000bfc00000c2d08000ff800000"
    assert logprobs_of(bits_of(numbers)).tolist() == numbers


def test_draft_answers_must_be_in_the_vocabulary(backend, directory):
    engine = backend.load_engine(directory, limits=EngineLimits(max_num_sequence=1))
    with pytest.raises(RequestError, match="draft_answers"):
        engine.add(Request(request_id="a", prompt_ids=PROMPT, draft_answers=((5000,),)))


@pytest.mark.parametrize("family", ["lfm2", "qwen3_next"])
def test_layers_with_a_state_are_verified_together_too(backend, tmp_path, family):
    """Several tokens in a step, as many as a state can be taken back."""
    directory = write_family(tmp_path / "model", family)
    request = Request(
        request_id="a", prompt_ids=tuple(range(5, 40)), n=2, sampling=SamplingParams(seed=3, logprobs=0),
        stopping=StoppingParams(max_tokens=30, ignore_eos=True),
    )  # fmt: skip

    def new_engine(**limits):
        limits = EngineLimits(**limits) if limits else limits_for(read(receipt))
        config, model = open_source(directory).config(), backend.load_model(directory)
        return Engine(backend.PARTS, config, model, Letters(), limits=limits)

    receipt = make_receipt(new_engine(max_num_sequence=2), [request])
    other = read(changed(receipt, "answers", 1, "token_ids", 20, value=lambda token: token ^ 1))
    engine = new_engine()
    assert compare(read(receipt), recompute(engine, read(receipt), verifies=True)) is None
    assert engine.stats()["steps"] <= 5
    assert "choice 1, token 20: token" in str(compare(other, recompute(new_engine(), other, verifies=True)))
