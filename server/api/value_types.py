"""What a value in a JSON body may be: each type reads a value or refuses it, and has the JSON schema for that.

msgspec was not taken because its errors have neither our texts nor a code and a `param`, which clients rely on.
Types are never converted: "5" is not 5, and true is not 1. Errors name the field by its path (`messages[0].content`)
and never quote a whole value, which may be someone's text.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.reference.records.request import require_integer, require_number

NAMES = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "an integer", float: "a number"}
SCHEMA_NAMES = {dict: "object", list: "array", str: "string", bool: "boolean"}
NAME_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")


def type_error(path: str, value: object, expected: str) -> RequestError:
    """The error for a value of the wrong type; it names the type that came."""
    found = "null" if value is None else NAMES[type(value)]
    return RequestError(f"{path} must be {expected}, not {found}", field=path or None, code="invalid_type")


def of_type(path: str, value: Any, kind: type) -> Any:
    """`value`, if it is of this JSON type."""
    if type(value) is not kind:
        raise type_error(path, value, NAMES[kind])
    return value


def check_token_ids(path: str, ids: list, vocab_size: int) -> None:
    """Refuse what is no token id of the vocabulary."""
    for index, token_id in enumerate(ids):
        where = f"{path}[{index}]"
        require_integer(where, of_type(where, token_id, int), 0, vocab_size - 1)


def reference(name: str) -> dict:
    """The schema that stands for a named one."""
    return {"$ref": f"#/components/schemas/{name}"}


class ValueType(Protocol):
    """One sort of value."""

    def read(self, value: Any, path: str) -> Any:
        """What the value means; RequestError with the path if it cannot be."""

    def schema(self) -> dict:
        """The same bounds as a JSON schema."""


@dataclass(frozen=True, slots=True)
class Plain:
    """Any value of one JSON type."""

    kind: type

    def read(self, value: Any, path: str) -> Any:
        """The value."""
        return of_type(path, value, self.kind)

    def schema(self) -> dict:
        """The type alone."""
        return {"type": SCHEMA_NAMES[self.kind]}


@dataclass(frozen=True, slots=True)
class Custom:
    """A value with a reader of its own; `keywords` is the schema that goes with it."""

    reader: Callable[[Any, str], Any]
    keywords: dict

    def read(self, value: Any, path: str) -> Any:
        """What the reader makes of it."""
        return self.reader(value, path)

    def schema(self) -> dict:
        """The keywords."""
        return dict(self.keywords)


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer within bounds, both included."""

    low: int
    high: int | None = None

    def read(self, value: Any, path: str) -> int:
        """The integer."""
        require_integer(path, of_type(path, value, int), self.low, self.high)
        return value

    def schema(self) -> dict:
        """The bounds."""
        return {"type": "integer", "minimum": self.low} | ({} if self.high is None else {"maximum": self.high})


@dataclass(frozen=True, slots=True)
class Number:
    """A number, whole or not, within bounds, both included."""

    low: float
    high: float

    def read(self, value: Any, path: str) -> float:
        """The number, of the type that it came in."""
        if type(value) not in (int, float):
            raise type_error(path, value, "a number")
        require_number(path, value, self.low, self.high)
        return value

    def schema(self) -> dict:
        """The bounds."""
        return {"type": "number", "minimum": self.low, "maximum": self.high}


class Choice:
    """A string out of a fixed set."""

    def __init__(self, *allowed: str):
        self.allowed = allowed

    def read(self, value: Any, path: str) -> str:
        """The string."""
        if of_type(path, value, str) not in self.allowed:
            raise RequestError(f"{path} must be one of {', '.join(self.allowed)}", field=path, code="invalid_value")
        return value

    def schema(self) -> dict:
        """The strings."""
        return {"type": "string", "enum": list(self.allowed)}


class Neutral:
    """A field of OpenAI's that this server does not have: only the values pass that change nothing."""

    def __init__(self, *values: Any):
        self.values = values

    def read(self, value: Any, path: str) -> Any:
        """The value."""
        if not any(type(value) is type(item) and value == item for item in self.values):
            raise UnsupportedError(f"{path} is not supported by this server with this value", field=path)
        return value

    def schema(self) -> dict:
        """The values; null alone if there is none."""
        return {"enum": list(self.values)} if self.values else {"const": None}


@dataclass(frozen=True, slots=True)
class Array:
    """An array of at most so many items of one type; `min_length` is for the page; its errors are the reader's."""

    items: ValueType
    max_length: int | None = None
    min_length: int = 0

    def read(self, value: Any, path: str) -> list:
        """What its items mean."""
        if len(of_type(path, value, list)) > (self.max_length or len(value)):
            message = f"{path} must have at most {self.max_length} items, not {len(value)}"
            raise RequestError(message, field=path, code="array_above_max_length")
        return [self.items.read(item, f"{path}[{index}]") for index, item in enumerate(value)]

    def schema(self) -> dict:
        """Items and lengths."""
        lengths = {"minItems": self.min_length, "maxItems": self.max_length}
        return {"type": "array", "items": self.items.schema()} | {name: size for name, size in lengths.items() if size}


def _read_name(value: Any, path: str) -> str:
    if not NAME_PATTERN.fullmatch(of_type(path, value, str)):
        message = f"{path} must be 1 to 64 letters, digits, underscores or hyphens"
        raise RequestError(message, field=path, code="invalid_value")
    return value


STRING, BOOLEAN, OBJECT, LIST = Plain(str), Plain(bool), Plain(dict), Plain(list)
ANYTHING = Custom(lambda value, _: value, {})
NAME = Custom(_read_name, {"type": "string", "pattern": f"^{NAME_PATTERN.pattern}$"})
# Checked later, with the model at hand; the page shows the bounds that hold for every model:
SOME_TEXT = Custom(STRING.read, {"type": "string", "minLength": 1})
TOKEN_ID = Custom(ANYTHING.read, {"type": "integer", "minimum": 0})
