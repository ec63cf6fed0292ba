"""Whole chat completions: the shape of the answer, and every type of message that clients send."""

import time

from verbatim.conformance.case import MAY, MUST, OBSERVED, SHOULD, SPEC, case, dig, equal, expect
from verbatim.conformance.probe import CHAT, Probe
from verbatim.conformance.schemas import conforms

CALL = {"id": "call_abc123", "type": "function", "function": {"name": "lookup", "arguments": '{"key": "x"}'}}


def user(text: str) -> dict:
    """A user message."""
    return {"role": "user", "content": text}


@case(
    "chat.schema",
    "A chat completion has the form that OpenAI describes.",
    source=f"{SPEC}: CreateChatCompletionResponse",
    level=MUST,
    fault='body choices.0.finish_reason="done"',
)
def schema(probe: Probe) -> None:
    body = probe.chat().body
    for choice in body.get("choices") or []:  # two keys with cases of their own; clients do not need them
        if isinstance(choice, dict):
            choice.setdefault("logprobs", None)
            if isinstance(choice.get("message"), dict):
                choice["message"].setdefault("refusal", None)
    conforms(body, "CreateChatCompletionResponse")


@case("chat.object", "`object` is chat.completion.", source=SPEC, level=MUST, fault='body object="chat"')
def object_(probe: Probe) -> None:
    equal(probe.chat().at("object"), "chat.completion", "object")


@case("chat.id_unique", "Every answer has an id of its own.", source=SPEC, level=MUST, fault='body id="same"')
def id_unique(probe: Probe) -> None:
    ids = [probe.chat(max_tokens=1).at("id", str) for _ in range(3)]
    expect(len(set(ids)) == 3 and all(ids), "three different ids", ids)


@case(
    "chat.created",
    "`created` is the time now, in whole seconds.",
    source=SPEC,
    level=MUST,
    fault="body created=1700000000123",
)
def created(probe: Probe) -> None:
    now = probe.chat().at("created", int)
    expect(1_420_000_000 < now < time.time() + 86400, "seconds since 1970", now)


@case("chat.choice_index", "One choice, with index 0.", source=SPEC, level=MUST, fault="body choices.0.index=1")
def choice_index(probe: Probe) -> None:
    answer = probe.chat()
    equal([dig(choice, "index", int) for choice in answer.choices], [0], "the indices")


@case(
    "chat.role", "The message's role is assistant.", source=SPEC, level=MUST, fault='body choices.0.message.role="bot"'
)
def role(probe: Probe) -> None:
    equal(probe.chat().at("choices.0.message.role"), "assistant", "the role")


@case(
    "chat.content_is_text",
    "The content is text, never a list of parts.",
    source=f"{SPEC}; vercel/ai#13703",
    level=MUST,
    fault='body choices.0.message.content=[{"type":"text","text":"hi"}]',
)
def content_is_text(probe: Probe) -> None:
    probe.chat().at("choices.0.message.content", str)


@case(
    "chat.logprobs_null",
    "`logprobs` is present and null unless requested.",
    source=f"{SPEC}: required",
    level=SHOULD,
    fault="body -choices.0.logprobs",
)
def logprobs_null(probe: Probe) -> None:
    equal(probe.chat().at("choices.0.logprobs"), None, "logprobs")


@case(
    "chat.refusal_null",
    "`refusal` is present and null in an ordinary message.",
    source=f"{SPEC}: required",
    level=SHOULD,
    fault="body -choices.0.message.refusal",
)
def refusal_null(probe: Probe) -> None:
    equal(probe.chat().at("choices.0.message.refusal"), None, "refusal")


@case(
    "chat.no_tool_calls_key",
    "A message without calls has no tool_calls: an empty list makes agents loop.",
    source=f"{OBSERVED}; vLLM#44104; copilot-sdk#616",
    level=SHOULD,
    fault="body choices.0.message.tool_calls=[]",
)
def no_tool_calls_key(probe: Probe) -> None:
    message = probe.chat().at("choices.0.message", dict)
    expect("tool_calls" not in message, "no key tool_calls", message)


@case(
    "chat.finish_reason",
    "finish_reason is one of the five values that OpenAI defines.",
    source=SPEC,
    level=MUST,
    fault='body choices.0.finish_reason="eos"',
)
def finish_reason(probe: Probe) -> None:
    finish = probe.chat().finish
    expect(
        finish in ("stop", "length", "tool_calls", "content_filter", "function_call"), "a known finish_reason", finish
    )


@case("chat.model", "`model` names the model that answered.", source=SPEC, level=SHOULD, fault='body model=""')
def model(probe: Probe) -> None:
    expect(probe.chat().at("model", str), "a name")


@case(
    "chat.model_echo",
    "`model` is the id asked for, or a version of it.",
    source=OBSERVED,
    level=MAY,
    fault='body model="zzz"',
)
def model_echo(probe: Probe) -> None:
    name, asked = probe.chat().at("model", str), probe.settings.model
    expect(name in asked or asked in name, f"{asked} or a version of it", name)


@case(
    "chat.nulls",
    "Optional fields of null count as absent.",
    source=f"{SPEC}: nullable; llama.cpp#25515",
    level=MUST,
    fault="stream key",
)
def nulls(probe: Probe) -> None:
    names = (
        "top_p",
        "n",
        "stop",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "seed",
        "stream",
        "stream_options",
        "metadata",
    )
    plain = probe.chat()
    empty = probe.chat(**dict.fromkeys(names))
    equal(empty.text(), plain.text(), "the greedy answer with nulls")


@case(
    "chat.null_cap",
    "A max_tokens or temperature of null counts as absent.",
    source=f"{SPEC}: nullable",
    level=MUST,
    fault="stream key",
)
def null_cap(probe: Probe) -> None:
    probe.chat(max_completion_tokens=None, stream=None)
    probe.chat(temperature=None, max_tokens=4, stream=None)


@case(
    "chat.harmless_fields",
    "Fields without effect that SDKs and proxies send are accepted.",
    source=f"{SPEC}; SDK defaults",
    level=SHOULD,
    fault="no extras",
)
def harmless_fields(probe: Probe) -> None:
    fields = {
        "user": "u-1",
        "metadata": {},
        "store": False,
        "service_tier": "auto",
        "safety_identifier": "s-1",
        "prompt_cache_key": "k-1",
        "seed": 1,
        "n": 1,
    }
    refused = {}
    for name, value in fields.items():
        exchange = probe.send("POST", CHAT, probe.chat_body(max_tokens=1, **{name: value}))
        if exchange.status != 200:
            refused[name] = exchange.summary()
    expect(not refused, "all of them accepted", refused)
