"""A model that thinks, over every API: the demo with a template that opens a thought, and budgets that end it."""

import json
import random
from types import SimpleNamespace

import pytest

from live_server import running
from verbatim.conformance.catalogue import chosen
from verbatim.conformance.client import Client, Settings
from verbatim.conformance.probe import Budget, Probe
from verbatim.conformance.runner import judge
from verbatim.demo import MODEL
from verbatim.reference.text.template import ChatTemplate
from verbatim.server.api.anthropic.request import BODY, OUTPUT_CONFIG, with_effort
from verbatim.server.api.messages import read_messages
from verbatim.server.api.registry import adapter_of
from verbatim.server.api.thinking import take_wishes, with_history
from verbatim.server.http.sse import read_event

SWITCH = "{%- if enable_thinking is not defined or enable_thinking %}{{- '<think>\\n' }}{%- endif %}"
HELLO = [{"role": "user", "content": "Hello!"}]
CITY = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}
FORM = {"type": "json_schema", "json_schema": {"name": "a", "schema": CITY, "strict": True}}
BUDGET = 6
NUM_MARK = 8  # tokens of the closing mark in the demo's vocabulary, at most


@pytest.fixture(scope="module", params=["reference", "fastpath"])
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("thinking")
    template = (MODEL / "chat_template.jinja").read_text()
    opening = "{{- '<|im_start|>assistant\\n' }}"
    assert template.count(opening) == 1
    (folder / "thinks.jinja").write_text(template.replace(opening, opening + SWITCH))
    with running(request.param, folder, "--chat-template", str(folder / "thinks.jinja")) as server:
        yield server.wait_ready()


def chat(server, **fields):
    body = {"messages": HELLO, "temperature": 1, "seed": 4, "max_tokens": 60, "thinking_token_budget": BUDGET} | fields
    answer = server.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer


def message(server, **fields):
    return chat(server, **fields).json()["choices"][0]["message"]


def joined(events, key):
    deltas = (event["choices"][0]["delta"] for event in events if event.get("choices"))
    return "".join(delta.get(key) or "" for delta in deltas)


def streamed(server, path, body):
    return [read_event(event) for event in emitted(server, path, body) if b"[DONE]" not in event]


def emitted(server, path, body):
    answer = server.http.post(path, json=body | {"stream": True})
    assert answer.status_code == 200, answer.text
    return [event + b"\n\n" for event in answer.content.split(b"\n\n")[:-1]]


def test_a_chat_whole_and_streamed(server):
    whole = chat(server).json()
    said = whole["choices"][0]["message"]
    assert said["reasoning"] == said["reasoning_content"] != "" and "think>" not in said["content"] + said["reasoning"]
    details = whole["usage"]["completion_tokens_details"]
    assert BUDGET < details["reasoning_tokens"] <= BUDGET + NUM_MARK <= whole["usage"]["completion_tokens"]
    body = {"messages": HELLO, "temperature": 1, "seed": 4, "max_tokens": 60, "thinking_token_budget": BUDGET}
    events = streamed(server, "/v1/chat/completions", body | {"stream_options": {"include_usage": True}})
    assert joined(events, "content") == said["content"] and joined(events, "reasoning") == said["reasoning"]
    assert joined(events, "reasoning_content") == said["reasoning"]
    assert events[-1]["usage"]["completion_tokens_details"] == details


def test_what_is_shown(server):
    said = message(server)
    hidden, raw = message(server, include_reasoning=False), message(server, separate_reasoning=False)
    assert hidden["content"] == said["content"] and "reasoning" not in hidden and "reasoning_content" not in hidden
    thought, mark, answer = raw["content"].partition("</think>")
    assert mark and thought.strip() == said["reasoning"] and answer.strip() == said["content"].strip()
    assert "reasoning" not in raw


@pytest.mark.parametrize(
    "wish",
    [
        {"enable_thinking": False}, {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}},
        {"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning": {"enabled": False}},
        {"reasoning": {"effort": "none"}},
    ],
)  # fmt: skip
def test_it_can_be_switched_off(server, wish):
    answer = chat(server, thinking_token_budget=None, **wish)
    plain = answer.json()
    assert "reasoning" not in plain["choices"][0]["message"] and "x-verbatim-ignored" not in answer.headers
    assert plain["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


@pytest.mark.parametrize("budget", [0, 1, 9])
@pytest.mark.parametrize("field", ["thinking_token_budget", "thinking_budget", "reasoning", "thinking"])
def test_a_budget_has_many_names(server, field, budget):
    value = {"reasoning": {"max_tokens": budget}, "thinking": {"type": "enabled", "budget_tokens": budget}}
    body = {"thinking_token_budget": None, field: value.get(field, budget)}
    assert message(server, **body) == message(server, thinking_token_budget=budget)


def test_structured_output_behind_a_thought(server):
    said = message(server, response_format=FORM)
    assert json.loads(said["content"]) in ({"city": "Paris"}, {"city": "Rome"}) and said["reasoning"]


@pytest.mark.parametrize("choice", ["required", "auto"])
def test_a_call_behind_a_thought(server, choice):
    said = message(
        server, tools=[TOOL], tool_choice=choice, messages=[{"role": "user", "content": "Weather in Paris?"}]
    )
    assert said["reasoning"]
    if choice == "required":
        call = said["tool_calls"][0]["function"]
        assert call["name"] == "get_weather" and json.loads(call["arguments"])["city"] in ("Paris", "Rome")


def test_responses(server):
    body = {"input": "Hello!", "temperature": 1, "seed": 4, "max_output_tokens": 60, "thinking_token_budget": BUDGET}
    whole = server.http.post("/v1/responses", json=body).json()
    thought, said = whole["output"]
    expected = message(server)
    assert thought["type"] == "reasoning" and thought["summary"] == [] and thought["id"].startswith("rs_")
    assert thought["content"] == [{"type": "reasoning_text", "text": expected["reasoning"]}]
    assert said["content"][0]["text"] == expected["content"]
    assert whole["usage"]["output_tokens_details"]["reasoning_tokens"] > BUDGET
    events = streamed(server, "/v1/responses", body)
    assert [event["type"].removeprefix("response.") for event in events if ".delta" not in event["type"]] == [
        "created", "in_progress", "output_item.added", "content_part.added", "reasoning_text.done", "content_part.done",
        "output_item.done", "output_item.added", "content_part.added", "output_text.done", "content_part.done",
        "output_item.done", "completed",
    ]  # fmt: skip
    deltas = [event["delta"] for event in events if event["type"] == "response.reasoning_text.delta"]
    assert "".join(deltas) == expected["reasoning"]
    again = body | {
        "input": [{"role": "user", "content": "Hello!"}, *whole["output"], {"role": "user", "content": "?"}]
    }
    assert server.http.post("/v1/responses", json=again).status_code == 200


def test_messages(server):
    thinking = {"type": "enabled", "budget_tokens": BUDGET}
    body = {"messages": HELLO, "temperature": 1, "seed": 4, "max_tokens": 60, "thinking": thinking}
    whole = server.http.post("/v1/messages", json=body).json()
    thought, said = whole["content"]
    expected = message(server)
    assert (thought["type"], thought["thinking"]) == ("thinking", expected["reasoning"]) and thought["signature"]
    assert said == {"type": "text", "text": expected["content"]}
    events = streamed(server, "/v1/messages", body)
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(delta.get("thinking", "") for delta in deltas) == expected["reasoning"]
    assert [delta["signature"] for delta in deltas if delta["type"] == "signature_delta"] == [thought["signature"]]
    again = body | {"messages": [*HELLO, {"role": "assistant", "content": whole["content"]}, *HELLO]}
    assert server.http.post("/v1/messages", json=again).status_code == 200
    off = server.http.post("/v1/messages", json=body | {"thinking": {"type": "disabled"}}).json()
    assert [block["type"] for block in off["content"]] == ["text"]


def test_ollama(server):
    options = {"temperature": 1, "seed": 4, "num_predict": 60}
    body = {"messages": HELLO, "options": options, "stream": False, "think": True}
    said = server.http.post("/api/chat", json=body).json()["message"]
    assert said["thinking"] and "think>" not in said["content"]
    off = server.http.post("/api/chat", json=body | {"think": False}).json()["message"]
    assert "thinking" not in off and off["content"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
def test_streams_resume_within_a_thought(server, path):
    """Cut anywhere, the rest of another server's stream completes what the client has."""
    body = {"temperature": 1, "seed": 4, "thinking_token_budget": BUDGET}
    body |= {"input": "Hello!", "max_output_tokens": 30} if path == "/v1/responses" else {"messages": HELLO}
    body |= {"max_tokens": 30} if path != "/v1/responses" else {}
    first, other = emitted(server, path, body), emitted(server, path, body)
    dice = random.Random(7)
    for at in dice.sample(range(1, len(first)), min(8, len(first) - 1)):
        resumption = adapter_of(path).resume(first[:at])
        rest = [event for raw in other for event in resumption.take(raw)]
        assert thoughts_in([*first[:at], *rest]) == thoughts_in(first) != ""


def thoughts_in(events):
    found = ""
    for event in events:
        if b"[DONE]" in event:
            continue
        value = read_event(event)
        if value.get("type") == "response.reasoning_text.delta":
            found += value["delta"]
        elif "choices" in value:
            found += "".join(choice["delta"].get("reasoning", "") for choice in value["choices"])
        elif value.get("type") == "content_block_delta":
            found += value["delta"].get("thinking", "")
    return found


def test_a_thought_that_was_begun_is_continued(server):
    """The last message ends within a thought: the answer continues it, up to its budget."""
    history = [*HELLO, {"role": "assistant", "content": "<think>I could say hello"}]
    found = message(
        server, messages=history, continue_final_message=True, enable_thinking=False, thinking_token_budget=4
    )
    assert found["reasoning"] and "think>" not in found["content"] + found["reasoning"]
    closed = [*HELLO, {"role": "assistant", "content": "<think>I could.</think>Hello"}]
    assert "reasoning" not in message(server, messages=closed, continue_final_message=True)


THOUGHT_PARTS = [
    {"type": "thinking", "thinking": "Hm."},
    {"type": "thinking", "thinking": [{"type": "text", "text": "H"}, {"type": "text", "text": "m."}]},
    {"type": "reasoning", "text": "Hm."},
]


@pytest.mark.parametrize(
    "answer",
    [{"content": "Hi.", "reasoning": "Hm."}, {"content": "Hi.", "reasoning_content": "Hm."}]
    + [{"content": [part, {"type": "text", "text": "Hi."}]} for part in THOUGHT_PARTS],
)
def test_an_earlier_thought_reaches_the_template(answer):
    """Under the name that the template reads, whatever the field or part that it came in."""
    [message] = read_messages([{"role": "assistant"} | answer], "messages")
    assert (message["content"], message["reasoning_content"]) == ("Hi.", "Hm.")
    for name in ("thinking", "reasoning", "reasoning_content"):
        template = ChatTemplate("{{ messages[0]." + name + " }}", {})
        assert template.render(with_history([message], template)) == ["Hm."]


@pytest.mark.parametrize(("effort", "told"), [("low", "low"), ("high", "high"), ("xhigh", "high"), ("max", "high")])
def test_the_effort_of_a_message_reaches_a_template_that_reads_it_and_turns_nothing_on(effort, told):
    model = SimpleNamespace(template=ChatTemplate("{{ reasoning_effort }}{{ enable_thinking }}", {}), thoughts=None)
    for thinking, switch in (({}, {}), ({"thinking": {"type": "enabled"}}, {"enable_thinking": True})):
        fields = BODY.read({"model": "m", "messages": HELLO, "max_tokens": 9, **thinking}, "")
        wishes = with_effort(take_wishes(fields), OUTPUT_CONFIG.read({"effort": effort}, "output_config"))
        assert wishes.variables(model, {}) == {"reasoning_effort": told, **switch}


def test_an_effort_that_there_is_not_is_refused(server):
    body = {"model": "verbatim-demo", "messages": HELLO, "max_tokens": 4, "output_config": {"effort": "very"}}
    answer = server.http.post("/v1/messages", json=body)
    assert answer.status_code == 400 and "output_config.effort" in answer.text and "xhigh" in answer.text


def test_an_earlier_thought_may_come_back(server):
    history = [*HELLO, {"role": "assistant", "content": "Hi.", "reasoning": "Hm."}, *HELLO]
    answer = chat(server, messages=history)
    assert "x-verbatim-ignored" not in answer.headers


def test_a_wish_that_nothing_fulfils_is_named(server):
    answer = chat(server, reasoning_effort="high", thinking_token_budget=None, max_tokens=4)
    assert "x-verbatim-ignored" not in answer.headers  # the template has a switch
    assert (
        server.http.post("/v1/chat/completions", json={"messages": HELLO, "reasoning_effort": "very"}).status_code
        == 400
    )
    wrong = server.http.post("/v1/chat/completions", json={"messages": HELLO, "thinking_token_budget": "x"})
    assert wrong.status_code == 400 and "thinking_token_budget" in wrong.text


def test_the_conformance_suite_finds_thoughts(server):
    client = Client(Settings(f"{server.url}/v1", "verbatim-demo", timeout=60))
    cases = chosen(sections=["thinking"])
    verdicts = {case.id: judge(case, Probe(case, client, Budget(None))).verdict for case in cases}
    assert verdicts.pop("thinking.structured") == "skipped"  # this model's thought only ends by a budget
    assert set(verdicts.values()) == {"pass"} and len(verdicts) == 6, verdicts
