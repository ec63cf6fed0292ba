"""Errors by field: the statuses and codes that OpenAI was observed to give."""

from verbatim.conformance.case import (
    MAY,
    MUST,
    OBSERVED,
    SHOULD,
    SPEC,
    WarnError,
    case,
    dig,
    equal,
    expect,
    shown,
)
from verbatim.conformance.probe import CHAT, Probe


@case(
    "errors.missing_model",
    "A request without a model is refused; a server with one model may answer.",
    source=f"{SPEC}: model is required; llama.cpp and vLLM answer",
    level=SHOULD,
    fault="default model",
)
def missing_model(probe: Probe) -> None:
    _refused_or_warned(probe, "the request is answered", model=...)


def _refused_or_warned(probe: Probe, actual: str, **fields: object) -> None:
    exchange = probe.send("POST", CHAT, probe.chat_body(**fields))
    if exchange.status == 200:
        raise WarnError("a refusal, as OpenAI gives", actual)
    probe.refused(exchange)


@case(
    "errors.unknown_model",
    "A model that the server does not have is refused, never answered by another model.",
    source=f"{OBSERVED}: 404; LM Studio answers 200",
    level=MUST,
    fault="accept The model",
)
def unknown_model(probe: Probe) -> None:
    probe.refused(probe.send("POST", CHAT, probe.chat_body(model="no-such-model-" + probe.word())))


@case(
    "errors.unknown_model_code",
    "An unknown model is a 404 with code model_not_found.",
    source=OBSERVED,
    level=SHOULD,
    fault="error code=null",
)
def unknown_model_code(probe: Probe) -> None:
    exchange = probe.send("POST", CHAT, probe.chat_body(model="no-such-model-" + probe.word()))
    error = probe.refused(exchange, statuses=(404,))
    equal(error.get("code"), "model_not_found", "error.code")


@case(
    "errors.missing_messages_code",
    "Missing messages have the code missing_required_parameter.",
    source=OBSERVED,
    level=SHOULD,
    fault='error code="bad"',
)
def missing_messages_code(probe: Probe) -> None:
    error = probe.refused(probe.send("POST", CHAT, probe.chat_body(messages=...)))
    equal(error.get("code"), "missing_required_parameter", "error.code")


@case(
    "errors.type_code",
    "A field of the wrong type has the code invalid_type.",
    source=OBSERVED,
    level=SHOULD,
    fault='error code="bad"',
)
def type_code(probe: Probe) -> None:
    for fields in ({"temperature": "x"}, {"n": "2"}, {"seed": "x"}, {"stop": 5}):
        error = probe.refused(probe.send("POST", CHAT, probe.chat_body(**fields)))
        equal(error.get("code"), "invalid_type", f"error.code for {shown(fields)}")


@case(
    "errors.range_codes",
    "Numbers out of bounds have the codes that OpenAI gives them.",
    source=OBSERVED,
    level=MAY,
    fault='error code="bad"',
)
def range_codes(probe: Probe) -> None:
    wanted = (
        ({"n": 0}, "integer_below_min_value"),
        ({"max_tokens": -2}, "integer_below_min_value"),
        ({"temperature": -1}, "decimal_below_min_value"),
        ({"top_p": 2}, "decimal_above_max_value"),
    )
    for fields, code in wanted:
        error = probe.refused(probe.send("POST", CHAT, probe.chat_body(**fields)))
        equal(error.get("code"), code, f"error.code for {shown(fields)}")


@case(
    "errors.role_param",
    "An unknown role is named by its place: messages[0].role.",
    source=OBSERVED,
    level=SHOULD,
    fault='error param="role"',
)
def role_param(probe: Probe) -> None:
    messages = [{"role": "banana", "content": "hi"}]
    error = probe.refused(probe.send("POST", CHAT, probe.chat_body(messages)))
    param = str(error.get("param") or "").replace(".[", "[")
    equal(param, "messages[0].role", "error.param")


@case(
    "errors.max_tokens_zero",
    "A chat's max_tokens of 0 is refused.",
    source=OBSERVED,
    level=SHOULD,
    fault="accept max_tokens",
)
def max_tokens_zero(probe: Probe) -> None:
    probe.refused(probe.send("POST", CHAT, probe.chat_body(max_tokens=0)))


@case(
    "errors.max_tokens_both",
    "Both spellings of the cap at once are refused, or one of them counts.",
    source=f"{OBSERVED}: invalid_parameter_combination",
    level=MAY,
    fault="accept max_tokens",
)
def max_tokens_both(probe: Probe) -> None:
    _refused_or_warned(probe, "both at once are accepted", max_tokens=4, max_completion_tokens=8)


@case(
    "errors.temperature_above",
    "A temperature above 2 is refused, or taken as an extension.",
    source=f"{SPEC}: at most 2; vLLM and llama.cpp have no such bound",
    level=MAY,
    fault="accept temperature",
)
def temperature_above(probe: Probe) -> None:
    _refused_or_warned(probe, "a temperature of 2.5 is accepted", temperature=2.5)


@case(
    "errors.max_tokens_unbounded",
    "A max_tokens of -1 is refused, or means no bound of its own.",
    source=f"{OBSERVED}: 400; llama.cpp and LM Studio take it for no bound",
    level=MAY,
    fault="accept max_tokens",
)
def max_tokens_unbounded(probe: Probe) -> None:
    _refused_or_warned(probe, "a max_tokens of -1 is accepted", max_tokens=-1, stop=[" ", ".", ",", "!"])


@case(
    "errors.top_logprobs_alone",
    "top_logprobs without logprobs is refused.",
    source=OBSERVED,
    level=SHOULD,
    fault="accept top_logprobs",
)
def top_logprobs_alone(probe: Probe) -> None:
    probe.refused(probe.send("POST", CHAT, probe.chat_body(top_logprobs=2)))


@case(
    "errors.stream_options_alone",
    "stream_options without stream is refused.",
    source=OBSERVED,
    level=SHOULD,
    fault="accept stream_options",
)
def stream_options_alone(probe: Probe) -> None:
    probe.refused(probe.send("POST", CHAT, probe.chat_body(stream_options={"include_usage": True})))


@case(
    "errors.stream_type",
    "A stream flag that is no boolean is refused.",
    source=f"{SPEC}; {OBSERVED}: 400",
    level=MUST,
    fault="accept stream",
)
def stream_type(probe: Probe) -> None:
    value: object
    for value in ("yes", 5, [], {}):
        probe.refused(probe.send("POST", CHAT, probe.chat_body(stream=value)))


@case(
    "errors.stop_too_many",
    "More than four stops are refused, or all of them work.",
    source=f"{SPEC}; {OBSERVED}; continue#2461",
    level=SHOULD,
    fault="accept stop",
)
def stop_too_many(probe: Probe) -> None:
    stops = [probe.word(number) for number in range(5)]
    exchange = probe.send("POST", CHAT, probe.chat_body(stop=stops))
    if exchange.status == 200:
        raise WarnError("a refusal, as OpenAI gives", "five stops are accepted")
    probe.refused(exchange)


@case(
    "errors.empty_parts",
    "An empty list of content parts is refused, or is an empty text.",
    source=f"{SPEC}: minItems 1",
    level=SHOULD,
    fault="accept messages[0].content",
)
def empty_parts(probe: Probe) -> None:
    _refused_or_warned(probe, "it is accepted", messages=[{"role": "user", "content": []}])


@case(
    "errors.image_dropped",
    "An image that the model cannot see is refused, or counted: never silently dropped.",
    source=f"{OBSERVED}; strands#1878",
    level=SHOULD,
    fault="accept messages[0].content",
)
def image_dropped(probe: Probe) -> None:
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    text = {"type": "text", "text": "What is this?"}
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixel}"}}
    exchange = probe.send("POST", CHAT, probe.chat_body([{"role": "user", "content": [text, image]}]))
    if exchange.status != 200:
        probe.refused(exchange)
        return
    with_image = dig(exchange.json(), "usage.prompt_tokens", int)
    without = probe.chat([{"role": "user", "content": [text]}]).usage("prompt_tokens")
    expect(
        with_image > without,
        "the image is refused or adds to prompt_tokens",
        f"{with_image} with it, {without} without",
    )


@case("errors.user_type", "A user that is no text is refused.", source=OBSERVED, level=MAY, fault="accept user")
def user_type(probe: Probe) -> None:
    probe.refused(probe.send("POST", CHAT, probe.chat_body(user=123)))
