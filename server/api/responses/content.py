"""The content of items: text, or parts that are text."""

from typing import Any

from verbatim.reference.records.errors import UnsupportedError
from verbatim.server.api import policy
from verbatim.server.api.fields import Object, required
from verbatim.server.api.foreign import anything
from verbatim.server.api.foreign_fields import PART
from verbatim.server.api.value_types import STRING, ValueType, of_type, one_of, type_error

TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}  # part: where its text is
THOUGHTS = ("reasoning_text", "summary_text", "thinking", "redacted_thinking", "reasoning")  # in a message, not shown


def _part(type_: str, text: str) -> dict:
    return {"type": type_, TEXTS[type_]: text} | ({"annotations": []} if type_ == "output_text" else {})


def _of_part(type_: str, text: str) -> Object:
    known = (required("type", one_of(type_), "The type of the part."), required(text, STRING, "The text."))
    return Object(*known, foreign=PART | anything(None, "parsed"))  # by responses.parse() of openai-python


PARTS = {type_: _of_part(type_, text) for type_, text in TEXTS.items()}
CONTENT = ValueType(lambda value, _: value, {
    "anyOf": [STRING.schema, {"type": "array", "items": {"anyOf": [part.schema for part in PARTS.values()]}}],
})  # fmt: skip


def read_parts(value: Any, path: str, type_: str) -> list[dict]:
    """Text parts; a string is one of this type_."""
    if type(value) is str:
        return [_part(type_, value)]
    if type(value) is not list:
        raise type_error(path, value, "a string or an array of text parts")
    parts = [_read_part(part, f"{path}[{index}]") for index, part in enumerate(value)]
    return [part for part in parts if part is not None]


def text_of(parts: list[dict]) -> str:
    """The joined text of parts."""
    return "".join(part[TEXTS[part["type"]]] for part in parts)


def _read_part(value: Any, path: str) -> dict | None:
    type_ = of_type(path, value, dict).get("type")
    if type_ is not None and of_type(f"{path}.type", type_, str) not in TEXTS:
        if type_ in THOUGHTS and not policy.is_strict():
            return None
        raise UnsupportedError(f"{path}.type must be one of {', '.join(TEXTS)} on this server", field=f"{path}.type")
    fields = PARTS[type_ or "text"].read(value, path)
    type_ = fields["type"]
    part = _part(type_, fields[TEXTS[type_]])
    fields.done()
    return part
