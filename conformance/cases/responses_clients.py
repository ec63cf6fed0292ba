"""What known clients send to Responses, in our own words, each with the version that was seen to send it."""

from verbatim.conformance.case import SHOULD, case, dig, equal, expect
from verbatim.conformance.cases.responses import OPEN, PATH, TOOL, events, items, respond
from verbatim.conformance.probe import Probe

CODEX, LANGCHAIN, OPENAI = "Codex CLI 0.171.0", "langchain-openai 1.7.4", "openai-python 2.54.0"
USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Run it."}]}
CODEX_FIELDS = {
    "temperature": ..., "tool_choice": "auto", "parallel_tool_calls": True, "reasoning": {"summary": "auto"},
    "store": False, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "thread-1",
    "client_metadata": {"turn_id": "turn-1", "x-codex-turn-metadata": "{}"},
    "tools": [
        TOOL | {"strict": False},
        {"type": "namespace", "name": "agents", "description": "More.", "tools": [TOOL | {"name": "spawn"}]},
        {"type": "web_search", "external_web_access": True},
    ],
}  # fmt: skip
CODEX_INPUT = [
    {"type": "message", "id": "msg_1", "role": "developer", "content": [{"type": "input_text", "text": "Be good."}]},
    {"type": "message", "id": "msg_2", "role": "user", "content": [{"type": "input_text", "text": "Here: /tmp"}]},
    USER,
]
OPEN_KEYS = (
    "id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id",
    "instructions", "output", "error", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p",
    "presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "reasoning", "usage", "max_output_tokens",
    "max_tool_calls", "store", "background", "service_tier", "metadata", "safety_identifier", "prompt_cache_key",
)  # fmt: skip


def ends(probe: Probe, **fields) -> None:
    """Codex's stream ends as it should."""
    _, data = events(probe, CODEX_INPUT, **fields)
    expect(data[-1]["type"] in ("response.completed", "response.incomplete"), "the last event", data[-1]["type"])


def adds_input(probe: Probe, *history: dict, **fields) -> None:
    """These items are answered, and read: there are more input tokens with them than without."""
    with_them = respond(probe, [USER, *history], **fields).usage("input_tokens")
    without = respond(probe, [USER], **fields).usage("input_tokens")
    expect(with_them > without, f"more than {without} input tokens", with_them)


@case(
    "responses.asks.codex",
    "The first request of Codex is answered by a stream.",
    source=CODEX,
    level=SHOULD,
    fault="refuse client_metadata",
)
def codex(probe: Probe) -> None:
    ends(probe, **CODEX_FIELDS)


@case(
    "responses.asks.codex_effort",
    "Codex's settings of reasoning and verbosity are answered.",
    source=f"{CODEX}: model_reasoning_effort, model_verbosity",
    level=SHOULD,
    fault="without@-1",
    optional=True,
)
def codex_effort(probe: Probe) -> None:
    fields = CODEX_FIELDS | {"reasoning": {"effort": "high", "summary": "auto"}, "text": {"verbosity": "low"}}
    ends(probe, **fields)


@case(
    "responses.asks.codex_history",
    "A call and its output come back without ids of their own, beside a message with a phase.",
    source=CODEX,
    level=SHOULD,
    fault="no items without ids",
)
def codex_history(probe: Probe) -> None:
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I do."}]}
    call = {"type": "function_call", "name": "probe", "arguments": '{"word": "x"}', "call_id": "call_1"}
    output = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
    adds_input(probe, said | {"phase": "commentary"}, call, output, **CODEX_FIELDS)


@case(
    "responses.asks.codex_patch",
    "Calls of custom tools and shells, and their outputs, are read as a part of the history.",
    source=f"{CODEX}, after another model",
    level=SHOULD,
    fault="no custom calls",
)
def codex_patch(probe: Probe) -> None:
    patch = {"type": "custom_tool_call", "call_id": "call_1", "name": "apply_patch", "input": "*** Begin Patch"}
    adds_input(probe, patch, {"type": "custom_tool_call_output", "call_id": "call_1", "output": "Done."})
    action = {"type": "exec", "command": ["ls"], "env": {}}
    shell = {"type": "local_shell_call", "call_id": "call_2", "status": "completed", "action": action}
    adds_input(probe, shell, {"type": "local_shell_call_output", "id": "o", "call_id": "call_2", "output": "a.txt"})


@case(
    "responses.asks.late_output",
    "A call's output may come after a message that stands behind the call.",
    source="a response that calls and then speaks, and its output appended",
    level=SHOULD,
    fault="no late outputs",
)
def late_output(probe: Probe) -> None:
    call = {"type": "function_call", "name": "probe", "arguments": "{}", "call_id": "call_1"}
    said = {"role": "assistant", "content": "One moment."}
    adds_input(probe, call, said, {"type": "function_call_output", "call_id": "call_1", "output": "42"})


@case(
    "responses.asks.reasoning_item",
    "An item of reasoning in the history is no obstacle.",
    source=f"{CODEX}, {LANGCHAIN}, after another model",
    level=SHOULD,
    fault="body -output",
    optional=True,
)
def reasoning_item(probe: Probe) -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "eA=="}
    answer = respond(probe, [USER, thought, {"role": "assistant", "content": "Yes."}, USER])
    expect(items(answer.body, "message"), "a message", answer.body)


@case(
    "responses.asks.langchain",
    "LangChain's settings of reasoning are answered, and its messages come back.",
    source=f"{LANGCHAIN}: reasoning, use_responses_api",
    level=SHOULD,
    fault='body output.0.type="reasoning"',
    optional=True,
)
def langchain(probe: Probe) -> None:
    fields = {"reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}
    first = respond(probe, [{"role": "user", "content": "Hello", "type": "message"}], **fields)
    said = dig(items(first.body, "message"), "0", dict)
    said = {name: dig(said, name) for name in ("type", "role", "id", "content")}
    respond(probe, [{"role": "user", "content": "Hello", "type": "message"}, said, USER], **fields)


@case(
    "responses.asks.parsed",
    "What responses.parse() gave comes back with its parsed content and arguments.",
    source=OPENAI,
    level=SHOULD,
    fault="no parsed items",
)
def parsed(probe: Probe) -> None:
    part = {"type": "output_text", "text": "{}", "annotations": [], "logprobs": [], "parsed": {}}
    said = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    names = {"id": "fc_1", "call_id": "call_1", "name": "probe"}
    call = names | {"type": "function_call", "status": "completed", "arguments": "{}", "parsed_arguments": {}}
    adds_input(probe, said, call, {"type": "function_call_output", "call_id": "call_1", "output": "42"})


@case(
    "responses.open_keys",
    "A response has every key that Open Responses requires, null where it says nothing.",
    source=f"{OPEN}: ResponseResource",
    level=SHOULD,
    fault="body -completed_at",
    optional=True,
)
def open_keys(probe: Probe) -> None:
    answer = respond(probe).body
    equal([key for key in OPEN_KEYS if key not in answer], [], "the list of keys that are missing")


@case(
    "responses.input_tokens",
    "POST /responses/input_tokens counts what a response then reports.",
    source="OpenAI's documentation; openai-python 2.54.0",
    level=SHOULD,
    fault="counts one less",
    optional=True,
)
def input_tokens(probe: Probe) -> None:
    asked = {"model": probe.settings.model, "input": "Hello", "instructions": "Be brief."}
    counted = probe.post(f"{PATH}/input_tokens", asked).json()
    equal(dig(counted, "object"), "response.input_tokens", "object")
    equal(
        dig(counted, "input_tokens", int), respond(probe, instructions="Be brief.").usage("input_tokens"), "the count"
    )
