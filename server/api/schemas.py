"""JSON schemas of tools and formats: what must hold is refused if it cannot, the rest is held as far as it can be.

What cannot be held is left to the model, and named as a field without effect. A schema that is none is refused always.
"""

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.schema_form import MalformedError, normalised
from verbatim.reference.text.best_effort import hold, hold_all
from verbatim.server.api import policy

CODE = "invalid_grammar"
MAX_REASON = 200  # characters
MAX_TOGETHER_BYTES = 200 * 1024  # of the schemas of all tools; a grammar has at most 256 KiB


def read_schema(schema: dict, path: str) -> dict:
    """The schema in today's form. RequestError with the place of what no draft of JSON Schema has."""
    try:
        return normalised(schema)
    except MalformedError as error:
        raise RequestError(f"{path}.{error}", field=path, code=CODE) from None


def held_schema(schema: dict, path: str, *, must_hold: bool, owner: str = "") -> dict:
    """What of a schema the grammar gets; `owner` is the tool that it belongs to. RequestError where all must hold."""
    held = hold(read_schema(schema, path))
    for place in held.dropped:
        if must_hold or policy.is_strict():
            inside, _, keyword = place.rpartition(".")
            message = f"{path}{owner and f' of {owner}'}: the keyword {keyword!r}"
            message += f" in {inside}" if inside else ""
            message += f" cannot be held to, and it must be: {held.reason[:MAX_REASON]}"
            raise RequestError(message, field=path, code=CODE)
        policy.note_without_effect(f"{path}.{place}")
    return held.schema


def fitted(schemas: dict[str, dict]) -> dict[str, dict]:
    """Schemas by their paths, the longest of them left to the model where all are too long for one grammar."""
    paths = list(schemas)
    kept, dropped = hold_all(list(schemas.values()), MAX_TOGETHER_BYTES)
    for index in dropped:
        if policy.is_strict():
            message = f"{paths[index]}: the schemas of all tools have at most {MAX_TOGETHER_BYTES} bytes together"
            raise RequestError(message, field=paths[index], code=CODE)
        policy.note_without_effect(paths[index])
    return dict(zip(paths, kept, strict=True))
