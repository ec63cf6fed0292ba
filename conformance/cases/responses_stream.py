"""The Responses API streamed: typed events in order."""

from verbatim.conformance.case import MUST, SPEC, SkipError, case, dig, equal
from verbatim.conformance.cases.responses import LONG, OPEN, events, respond, text_of
from verbatim.conformance.probe import Probe


@case(
    "responses.names",
    "Every event's name is its `type`.",
    source=f"{SPEC}; {OPEN}",
    level=MUST,
    fault="no names",
    optional=True,
)
def names(probe: Probe) -> None:
    stream, data = events(probe)
    given = [event.name for event in stream.events.events if event.data != "[DONE]"]
    equal(given, [dig(item, "type", str) for item in data], "the events' names")


@case(
    "responses.sequence",
    "sequence_number increases by 1 from event to event.",
    source=f"{SPEC}; {OPEN}",
    level=MUST,
    fault="chunk@3 sequence_number=0",
    optional=True,
)
def sequence(probe: Probe) -> None:
    numbers = [dig(item, "sequence_number", int) for item in events(probe)[1]]
    equal(numbers, list(range(numbers[0], numbers[0] + len(numbers))), "the sequence numbers")


@case(
    "responses.lifecycle",
    "A stream begins with response.created and ends with one terminal event of the same id.",
    source=f"{SPEC}; openai-python",
    level=MUST,
    fault="without@0",
    optional=True,
)
def lifecycle(probe: Probe) -> None:
    data = events(probe)[1]
    types = [dig(item, "type", str) for item in data]
    equal(types[:2], ["response.created", "response.in_progress"], "the first events")
    ends = ("response.completed", "response.incomplete", "response.failed")
    equal([at for at, name in enumerate(types) if name in ends], [len(types) - 1], "the places of terminal events")
    equal(len({dig(item, "response.id", str) for item in data if "response" in item}), 1, "the number of response ids")


@case(
    "responses.item_order",
    "Items are added before their parts and parts before their text; each is completed in that order.",
    source=f"{OPEN}; cc-switch#387",
    level=MUST,
    fault="without@2",
    optional=True,
)
def item_order(probe: Probe) -> None:
    types = [dig(item, "type", str).removeprefix("response.") for item in events(probe, LONG)[1]]
    order = [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
    ]
    if "reasoning" in " ".join(types):
        raise SkipError("a response without reasoning", "the model reasons")
    first_seen = [name for name in dict.fromkeys(types) if name in order]
    equal(first_seen, order, "the order of events")


@case(
    "responses.text_equal",
    "The deltas join to the text of done, and to that of the final response.",
    source=SPEC,
    level=MUST,
    fault='chunk@4 delta="zzz"',
    optional=True,
)
def text_equal(probe: Probe) -> None:
    data = events(probe, LONG)[1]
    deltas = "".join(dig(item, "delta", str) for item in data if item["type"] == "response.output_text.delta")
    done = [dig(item, "text", str) for item in data if item["type"] == "response.output_text.done"]
    equal(done, [deltas], "the text of output_text.done")
    equal(text_of(dig(data[-1], "response")), deltas, "the text of the final response")


@case(
    "responses.final_usage",
    "The terminal event has the response with its id and whole-number usage.",
    source="Codex; openai-python",
    level=MUST,
    fault="chunk@-1 response.usage=null",
    optional=True,
)
def final_usage(probe: Probe) -> None:
    last = events(probe)[1][-1]
    for name in ("input_tokens", "output_tokens", "total_tokens"):
        dig(last, f"response.usage.{name}", int)


@case(
    "responses.incomplete",
    "An answer cut by max_output_tokens is incomplete and gives the reason.",
    source=SPEC,
    level=MUST,
    fault='body status="completed"',
    optional=True,
)
def incomplete(probe: Probe) -> None:
    answer = respond(probe, LONG, max_output_tokens=16)
    if answer.usage("output_tokens") < 16:
        raise SkipError("an answer longer than 16 tokens", "the model answers briefly")
    equal(answer.at("status"), "incomplete", "the status")
    equal(answer.at("incomplete_details.reason"), "max_output_tokens", "the reason")


@case(
    "responses.incomplete_stream",
    "Streamed, it ends with response.incomplete.",
    source=SPEC,
    level=MUST,
    fault='chunk@-1 type="response.completed"',
    optional=True,
)
def incomplete_stream(probe: Probe) -> None:
    last = events(probe, LONG, max_output_tokens=16)[1][-1]
    if dig(last, "response.usage.output_tokens", int) < 16:
        raise SkipError("an answer longer than 16 tokens", "the model answers briefly")
    equal(last["type"], "response.incomplete", "the last event")
