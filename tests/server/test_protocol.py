"""Bodies in and out without a server: tool calls as they stream, log-probabilities, messages for templates."""

import json
from argparse import ArgumentTypeError
from dataclasses import replace

import pytest

from small_models import write_byte_tokenizer, write_model
from verbatim.demo import MODEL
from verbatim.reference.backend import load_engine
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.request import Candidate, FinishReason, Output, TokenLogprob
from verbatim.reference.text.template import ChatTemplate
from verbatim.server.api.chat.request import read_chat
from verbatim.server.api.logprobs import IMPOSSIBLE, CompletionLogprobs, chat_entry, entries_of
from verbatim.server.api.messages import read_messages
from verbatim.server.http.error_answers import describe
from verbatim.server.http.json_body import parse_json
from verbatim.server.models.served import load_served_model
from verbatim.server.settings.options import Options
from verbatim.server.settings.value_types import JSON_OBJECT

TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


@pytest.fixture(scope="module")
def model():
    return load_served_model(Options(backend="reference", model=MODEL, device="cpu", quantization=None))


def answer_to(model, *pieces, finish_reason=FinishReason.STOP, **fields):
    """The answer, and its chunks, of a chat whose engine says `pieces`."""
    body = {"model": model.model_id, "messages": [{"role": "user", "content": "Hi"}]} | fields
    answer = read_chat(body, model)
    [request] = answer.requests
    outputs = [Output(request_id=request.request_id, choice=0, text=piece) for piece in pieces[:-1]]
    outputs.append(Output(request_id=request.request_id, choice=0, text=pieces[-1], finish_reason=finish_reason))
    return answer, [chunk for output in outputs for chunk in answer.take(output)]


WRITTEN = {
    "hermes": CALL,
    "llama3": '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}',
    "mistral": '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}]',
    "pythonic": '[get_weather(city="Paris")]',
    "functionary": '<function=get_weather>{"city": "Paris"}</function>',
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_tool_call_in_the_dialect_that_was_chosen(name):
    options = Options(backend="reference", model=MODEL, device="cpu", quantization=None, tool_parser=name)
    answer, _ = answer_to(load_served_model(options), *WRITTEN[name], tools=TOOLS)
    [choice] = answer.whole()["choices"]
    [call] = choice["message"]["tool_calls"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "tool_calls")
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Paris"}'}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_call_that_max_tokens_cuts_shows_no_mark(name):
    """Neither whole nor streamed, wherever it is cut; arguments that have begun stay."""
    model = load_served_model(Options(backend="reference", model=MODEL, device="cpu", tool_parser=name))
    for length in range(1, len(WRITTEN[name])):
        text = WRITTEN[name][:length]
        answer, chunks = answer_to(model, text[: length // 2], text[length // 2 :], tools=TOOLS,
                                   finish_reason=FinishReason.LENGTH)  # fmt: skip
        [choice] = answer.whole()["choices"]
        content = choice["message"]["content"] or ""
        assert content in ("", "<", "[", "{", '{"') and choice["finish_reason"] == "length"
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert "".join(delta.get("content") or "" for delta in deltas) == content


def test_marks_that_are_control_tokens_reach_the_parser(tmp_path):
    """A model whose template and tokenizer are Mistral's, from the body to the call."""
    write_model(tmp_path, vocab_size=259, eos_token_id=256, bos_token_id=None)
    write_byte_tokenizer(tmp_path, ["<eos>", "[TOOL_CALLS]", "[ARGS]"])
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}{# [TOOL_CALLS] #}")
    model = load_served_model(Options(backend="reference", model=tmp_path, device="cpu", quantization=None))
    parameters = {"type": "object", "additionalProperties": False}
    tool = {"type": "function", "function": {"name": "go", "parameters": parameters}}
    body = {"model": model.model_id, "messages": [{"role": "user", "content": "Hi"}], "tools": [tool], "seed": 1}
    answer = read_chat(body | {"tool_choice": "required"}, model)
    assert answer.requests[0].visible_ids == (257, 258)
    assert read_chat(body | {"tool_choice": "none"}, model).requests[0].visible_ids == ()
    engine = load_engine(tmp_path)
    engine.add(answer.requests[0])
    while engine.has_work():
        for output in engine.step():
            answer.take(output)
    [choice] = answer.whole()["choices"]
    assert choice["message"]["content"] is None
    call = choice["message"]["tool_calls"][0]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("go", {})


def test_a_tool_call_whole(model):
    answer, _ = answer_to(model, CALL, tools=TOOLS)
    [choice] = answer.whole()["choices"]
    [call] = choice["message"]["tool_calls"]
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"
    assert call["type"] == "function" and call["id"].startswith("call_") and len(call["id"]) <= 40
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Paris"}'}


@pytest.mark.parametrize("pieces", [[CALL + CALL], list("Well.\n" + CALL + "\n" + CALL)])
def test_tool_calls_streamed(model, pieces):
    answer, chunks = answer_to(model, *pieces, tools=TOOLS)
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    fragments = [fragment for delta in deltas for fragment in delta.get("tool_calls", [])]
    whole = answer.whole()["choices"][0]["message"]
    for index, call in enumerate(whole["tool_calls"]):
        first, *others = [fragment for fragment in fragments if fragment["index"] == index]
        assert first == {"index": index} | call | {"function": {"name": "get_weather", "arguments": ""}}
        assert all(set(other) == {"index", "function"} and set(other["function"]) == {"arguments"} for other in others)
        joined = "".join(other["function"]["arguments"] for other in others)
        assert json.loads(joined) == {"city": "Paris"} and joined == call["function"]["arguments"]
    assert len({call["id"] for call in whole["tool_calls"]}) == 2
    assert "".join(delta.get("content") or "" for delta in deltas) == (whole["content"] or "")
    assert deltas[-1] == {}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("fields", [{}, {"tools": TOOLS, "tool_choice": "none"}, {"tools": []}])
def test_calls_are_text_where_none_may_be_made(model, fields):
    answer, _ = answer_to(model, CALL, **fields)
    [choice] = answer.whole()["choices"]
    assert choice["message"]["content"] == CALL
    assert choice["finish_reason"] == "stop"
    assert "tool_calls" not in choice["message"]


def test_a_call_cut_short_by_length(model):
    answer, _ = answer_to(model, CALL[:-30], tools=TOOLS, finish_reason=FinishReason.LENGTH)
    assert answer.whole()["choices"][0]["finish_reason"] == "length"


def test_tools_enter_the_prompt_unless_forbidden(model):
    def prompt(**fields):
        return answer_to(model, "", **fields)[0].requests[0].prompt_ids

    assert len(prompt(tools=TOOLS)) > len(prompt())
    assert prompt(tools=TOOLS, tool_choice="none") == prompt() == prompt(tools=[])


def test_messages_for_templates():
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    sent = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": None},
        {"role": "assistant", "content": None, "refusal": None, "audio": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ]
    parsed = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    assert read_messages(sent, "messages") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": None, "tool_calls": [parsed]},
        {"role": "tool", "content": "42", "tool_call_id": "call_1"},
        {"role": "assistant", "content": "No."},
    ]


def entry(token: bytes, logprob: float = -1.0) -> TokenLogprob:
    return TokenLogprob(chosen=Candidate(token_id=1, token=token, logprob=logprob))


def test_text_offsets_count_characters():
    arrays = CompletionLogprobs()
    arrays.add(entries_of((entry("é".encode()), entry(b"\xf0\x9f"))))
    arrays.add(entries_of((entry(b"\x99\x82"), entry(b"\xdc"), entry(b"-"), entry(b"ab"), entry(b"c"))))
    assert arrays.arrays["tokens"] == ["é", "bytes:\\xf0\\x9f", "bytes:\\x99\\x82", "bytes:\\xdc", "-", "ab", "c"]
    assert arrays.arrays["text_offset"] == [0, 1, 1, 2, 3, 4, 6]  # of "é🙂\ufffd-abc"


def test_of_two_tokens_with_one_text_the_chosen_one_counts_else_the_likelier():
    likely, unlikely, other = (
        Candidate(token_id=i, token=token, logprob=logprob)
        for i, token, logprob in ((1, b"a", -0.5), (2, b"a", -3.0), (3, b"b", -1.0))
    )
    found = [
        CompletionLogprobs().add([(chosen.token, TokenLogprob(chosen=chosen, top=(likely, other, unlikely)))])
        for chosen in (unlikely, other)
    ]
    assert [arrays["top_logprobs"] for arrays in found] == [[{"a": -3.0, "b": -1.0}], [{"a": -0.5, "b": -1.0}]]


def test_impossible_tokens_are_finite_in_json():
    assert chat_entry(entry(b"a", float("-inf")))["logprob"] == IMPOSSIBLE


def test_numbers_are_read_exactly():
    assert parse_json(b'{"a": 1, "b": 1.0, "c": 0.1}') == {"a": 1, "b": 1.0, "c": 0.1}
    assert type(parse_json(b"[1.0]")[0]) is float


def test_unforeseen_errors_show_nothing():
    status, body, _ = describe(ValueError("a secret"))
    assert status == 500
    assert "secret" not in str(body) and body["error"]["code"] == "internal_error"


def test_requests_get_the_sampling_that_a_models_authors_recommend(tmp_path):
    """What generation_config.json sets holds where a request sets nothing, unless the server is told otherwise."""
    for path in MODEL.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "generation_config.json").unlink()
    wanted = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0, "do_sample": True, "eos_token_id": [4, 2]}
    (tmp_path / "generation_config.json").write_text(json.dumps(wanted | {"repetition_penalty": 1.1}))
    options = Options(backend="reference", model=tmp_path, device="cpu")
    body = {"messages": [{"role": "user", "content": "Hello!"}]}
    model = load_served_model(options)
    sampling = read_chat(body, model).requests[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.repetition_penalty) == (0.6, 0.95, 20, 1.1)
    assert read_chat(body | {"temperature": 1, "top_k": 0}, model).requests[0].sampling.temperature == 1
    assert read_chat(body | {"temperature": 1, "top_k": 0}, model).requests[0].sampling.top_k is None
    known = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "repetition_penalty": 1.1}
    assert model.describe()["default_sampling_params"] == known
    plain = load_served_model(replace(options, generation_config="none"))
    assert read_chat(body, plain).requests[0].sampling.temperature == 1 and plain.sampling_defaults == {}
    assert plain.fingerprint != model.fingerprint
    (tmp_path / "generation_config.json").write_text('{"top_p": 7}')
    with pytest.raises(ModelError, match=r"generation_config\.json: top_p must be at most 1, not 7"):
        load_served_model(options)


def test_the_server_has_defaults_for_the_variables_of_a_template():
    template = MODEL / "chat_template.jinja"
    options = Options(backend="reference", model=MODEL, device="cpu", chat_template=template)
    model = load_served_model(replace(options, chat_template_kwargs='{"mood": "glad"}'))
    assert model.template.defaults == {"mood": "glad"}
    source = ChatTemplate("{{ mood }} {{ name }}", {})
    source.defaults = {"mood": "glad", "name": "a"}
    assert source.render([{"role": "user", "content": ""}], name="b") == ["glad b"]
    with pytest.raises(ArgumentTypeError, match="a JSON object"):
        JSON_OBJECT.read("[1]")
