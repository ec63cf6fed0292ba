"""The Responses API, where a server has it: items, typed events in order, function calls and their outputs as input."""

from verbatim.conformance.answers import Streamed, Whole
from verbatim.conformance.case import MUST, SHOULD, SPEC, SkipError, case, dig, equal, expect
from verbatim.conformance.probe import Probe
from verbatim.conformance.schemas import conforms

PATH = "/responses"


OPEN = "Open Responses"


LONG = "Tell me a long story about a lamp, a river and a bird."


TOOL = {
    "type": "function",
    "name": "probe",
    "description": "Takes a word.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"word": {"type": "string", "enum": ["lamp by the river"]}},
        "required": ["word"],
        "additionalProperties": False,
    },
}


def body(probe: Probe, value: object = "Hello", **fields) -> dict:
    """A request; a field of ... is left out."""
    merged = {"model": probe.settings.model, "input": value, "temperature": 0, "max_output_tokens": 64, "stream": False}
    return {name: item for name, item in (merged | fields).items() if item is not ...}


def respond(probe: Probe, value: object = "Hello", **fields) -> Whole:
    """A whole response."""
    return Whole(probe.post(PATH, body(probe, value, **fields)))


def events(probe: Probe, value: object = "Hello", **fields) -> tuple[Streamed, list[dict]]:
    """(the stream, its events' data)."""
    stream = Streamed(probe.post(PATH, body(probe, value, stream=True, **fields)))
    return stream, stream.chunks


def items(response: object, item_type: str) -> list[dict]:
    """The output items of a type."""
    return [item for item in dig(response, "output", list) if dig(item, "type", str) == item_type]


def text_of(response: object) -> str:
    """All output text."""
    parts = [part for item in items(response, "message") for part in dig(item, "content", list)]
    return "".join(dig(part, "text", str) for part in parts if part.get("type") == "output_text")


def exactly(word: str) -> dict:
    """The field `text` that allows one answer."""
    wanted = {
        "type": "object",
        "properties": {"word": {"type": "string", "enum": [word]}},
        "required": ["word"],
        "additionalProperties": False,
    }
    return {"format": {"type": "json_schema", "name": "answer", "strict": True, "schema": wanted}}


@case(
    "responses.whole_unasked",
    "Without `stream` the answer is whole, in JSON.",
    source=f"{SPEC}: default false",
    level=MUST,
    fault="streams unasked",
    optional=True,
)
def whole_unasked(probe: Probe) -> None:
    equal(respond(probe, stream=...).at("object"), "response", "object")


@case(
    "responses.schema",
    "A response has the form that OpenAI describes.",
    source=f"{SPEC}: Response",
    level=MUST,
    fault="body -output",
    optional=True,
)
def schema(probe: Probe) -> None:
    conforms(respond(probe).body, "Response")


@case(
    "responses.message",
    "A plain question is answered by a message of the assistant with output_text.",
    source=SPEC,
    level=MUST,
    fault='body output.0.role="user"',
    optional=True,
)
def message(probe: Probe) -> None:
    first = dig(items(respond(probe).body, "message"), "0", dict)
    equal(first.get("role"), "assistant", "the role")
    expect(dig(first, "id", str), "an id")
    equal(dig(first, "content.0.type"), "output_text", "the type of the part")
    dig(first, "content.0.text", str)
    dig(first, "content.0.annotations", list)


@case(
    "responses.id_unique",
    "Every response has an id of its own.",
    source=SPEC,
    level=MUST,
    fault='body id="resp_1"',
    optional=True,
)
def id_unique(probe: Probe) -> None:
    ids = [respond(probe).at("id", str) for _ in range(2)]
    expect(ids[0] != ids[1], "different ids", ids)


@case(
    "responses.usage",
    "usage has input, output and total tokens that add up, with details.",
    source=f"{SPEC}: ResponseUsage",
    level=MUST,
    fault="body usage.total_tokens=1",
    optional=True,
)
def usage(probe: Probe) -> None:
    numbers = respond(probe).at("usage", dict)
    total = dig(numbers, "input_tokens", int) + dig(numbers, "output_tokens", int)
    equal(dig(numbers, "total_tokens", int), total, "total_tokens")
    dig(numbers, "output_tokens_details.reasoning_tokens", int)
    dig(numbers, "input_tokens_details.cached_tokens", int)


@case(
    "responses.item_input",
    "Input may be messages, plain and typed, of user, system and developer.",
    source=f"{SPEC}; ogx#6069",
    level=MUST,
    fault="no developer items",
    optional=True,
)
def item_input(probe: Probe) -> None:
    respond(probe)
    for role in ("user", "system", "developer"):
        typed = {"type": "message", "role": role, "content": [{"type": "input_text", "text": "Be brief."}]}
        exchange = probe.send("POST", PATH, body(probe, [typed, {"role": "user", "content": "Hello"}]))
        expect(exchange.status == 200, f"a {role} message accepted", exchange.summary())


@case(
    "responses.text_is_message",
    "Text as input equals a single user message.",
    source=OPEN,
    level=MUST,
    fault='ask input=[{"role":"user","content":"other words here"}]',
    optional=True,
)
def text_is_message(probe: Probe) -> None:
    plain, item = respond(probe, "Hello"), respond(probe, [{"role": "user", "content": "Hello"}])
    equal(item.usage("input_tokens"), plain.usage("input_tokens"), "input_tokens of the message")
    expect(
        respond(probe, LONG).usage("input_tokens") > plain.usage("input_tokens"),
        "more for a longer text",
        plain.body["usage"],
    )


@case(
    "responses.instructions",
    "Instructions are read: they add to input_tokens.",
    source=SPEC,
    level=SHOULD,
    fault="no instructions",
    optional=True,
)
def instructions(probe: Probe) -> None:
    plain = respond(probe).usage("input_tokens")
    count = respond(probe, instructions="You are a lamp by a river. Be brief.").usage("input_tokens")
    expect(count > plain, f"more than {plain} input tokens", count)


@case(
    "responses.store_false",
    "store of false is accepted.",
    source="Codex sends it",
    level=MUST,
    fault="refuse store",
    optional=False,
)
def store_false(probe: Probe) -> None:
    if probe.send("POST", PATH, body(probe)).status in (404, 405, 501):
        raise SkipError("a server with /responses", "it has none")
    respond(probe, store=False)
