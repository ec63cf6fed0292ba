"""Reads an event stream from bytes by the WHATWG rules, and records every flaw that a lenient reader would accept."""

import re
from dataclasses import dataclass, field

LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r|$)")
FIELDS = {"event", "data", "id", "retry"}


@dataclass(frozen=True)
class Event:
    """One dispatched event. `num_data` counts its data lines; `offset` is where in the body it was complete."""

    data: str
    name: str
    last_id: str
    num_data: int
    offset: int


@dataclass
class EventStream:
    """A parsed body. `flaws` are (name, what was seen); `comments` are the texts after the colon."""

    events: list[Event] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    flaws: list[tuple[str, str]] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)


def lines_of(body: bytes) -> list[tuple[bytes, bytes, int]]:
    """(line, its ending, offset after it); a last line without an ending has an empty ending."""
    found = [(match[1], match[2], match.end()) for match in LINE.finditer(body)]
    return [item for item in found if item[0] or item[1]]


def read_events(body: bytes) -> EventStream:
    """All events of a body. Bytes that are not UTF-8 are replaced, as WHATWG requires, and recorded."""
    stream = EventStream()
    if body.startswith(b"\xef\xbb\xbf"):
        body = body[3:]
    data: list[str] = []
    endings: set[bytes] = set()
    name = last_id = ""
    for raw, ending, offset in lines_of(body):
        endings.add(ending)
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            stream.flaws.append(("utf8", f"the line {raw[:80]!r} is not UTF-8"))
            line = raw.decode("utf-8", "replace")
        if not line:
            if data:
                stream.events.append(Event("\n".join(data), name or "message", last_id, len(data), offset))
            elif name:
                stream.flaws.append(("empty", f"an event named {name} has no data"))
            data, name = [], ""
            continue
        if line.startswith(":"):
            stream.comments.append(line[1:])
            continue
        key, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        stream.fields.append(key)
        if key not in FIELDS or not colon:
            stream.flaws.append(("line", f"the line {line[:80]!r} is no field of an event"))
        if key == "data":
            data.append(value)
            if not value:
                stream.flaws.append(("empty", "a data line is empty"))
        elif key == "event":
            name = value
        elif key == "id" and "\0" not in value:
            last_id = value
    if data or name:
        stream.flaws.append(("unfinished", "the last event has no blank line after it, so it never counts"))
    if len(endings) > 1:
        stream.flaws.append(("endings", f"line endings are mixed: {sorted(endings)}"))
    return stream
