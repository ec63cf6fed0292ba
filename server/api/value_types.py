"""What a value in a JSON body may be: each type reads a value or refuses it, and has the JSON schema for that.

msgspec was not taken because its errors have neither our texts nor a code and a `param`, which clients rely on.
Types are never converted: "5" is not 5, and true is not 1. Errors name the field by its path (`messages[0].content`)
and never quote a whole value, which may be someone's text.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.request import require_integer, require_number
from verbatim.server.api import policy

NAMES = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "an integer", float: "a number"}
SCHEMA_NAMES = {dict: "object", list: "array", str: "string", bool: "boolean"}
MAX_ITEMS = 1 << 16  # of an array that has no smaller bound of its own
MAX_IDS = 1 << 21  # token ids of a text
NAME_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")


def type_error(path: str, value: object, expected: str) -> RequestError:
    """The error for a value of the wrong type; it names the type that came."""
    found = "null" if value is None else NAMES[type(value)]
    return RequestError(f"{path} must be {expected}, not {found}", field=path or None, code="invalid_type")


def of_type(path: str, value: Any, type_: type) -> Any:
    """`value`, if it is of this JSON type."""
    if type(value) is not type_:
        raise type_error(path, value, NAMES[type_])
    return value


def check_token_ids(path: str, ids: list, vocab_size: int) -> None:
    """Refuse what is no token id of the vocabulary."""
    for index, token_id in enumerate(ids):
        where = f"{path}[{index}]"
        require_integer(where, of_type(where, token_id, int), 0, vocab_size - 1)


def reference(name: str) -> dict:
    """The schema that stands for a named one."""
    return {"$ref": f"#/components/schemas/{name}"}


class AnyType(Protocol):
    """A type of values, or of objects (fields.py)."""

    @property
    def schema(self) -> dict:
        """The JSON schema."""

    def read(self, value: Any, path: str, /) -> Any:
        """What a value means; RequestError with its path if it cannot be."""


@dataclass(frozen=True, slots=True)
class ValueType:
    """`read` takes a value and its path, and gives what it means or RequestError; `schema` has the same bounds."""

    read: Callable[[Any, str], Any]
    schema: dict


def or_null(schema: dict) -> dict:
    """The schema of the same values and null: a single schema where there is a type or a list of values."""
    if schema == {"const": None}:
        return {"type": "null"}
    if isinstance(schema.get("type"), str):
        schema = schema | {"type": [schema["type"], "null"]}
    elif "enum" not in schema:
        return {"anyOf": [*(schema["anyOf"] if set(schema) == {"anyOf"} else [schema]), {"type": "null"}]}
    return schema | ({"enum": [*schema["enum"], None]} if "enum" in schema else {})


def named(name: str) -> "ValueType":
    """What the schema of that name describes; only answers have such a field."""
    return ValueType(lambda value, _: value, reference(name))


def plain(type_: type) -> ValueType:
    """Any value of one JSON type."""
    return ValueType(lambda value, path: of_type(path, value, type_), {"type": SCHEMA_NAMES[type_]})


def integer(low: int, high: int | None = None) -> ValueType:
    """An integer within bounds, both included."""

    def read(value: Any, path: str) -> int:
        require_integer(path, of_type(path, value, int), low, high)
        return value

    return ValueType(read, {"type": "integer", "minimum": low} | ({} if high is None else {"maximum": high}))


def number(low: float, high: float) -> ValueType:
    """A number, whole or not, within bounds, both included; it keeps the type that it came in."""

    def read(value: Any, path: str) -> float:
        require_number(path, _read_number(value, path), low, high)
        return value

    return ValueType(read, {"type": "number", "minimum": low, "maximum": high})


def one_of(*allowed: str) -> ValueType:
    """A string out of a fixed set."""

    def read(value: Any, path: str) -> str:
        if of_type(path, value, str) not in allowed:
            raise RequestError(f"{path} must be one of {', '.join(allowed)}", field=path, code="invalid_value")
        return value

    return ValueType(read, {"type": "string", "enum": list(allowed)})


def neutral(*values: Any) -> ValueType:
    """For a field that this server does not have: other values change the answer, so they are refused, always."""

    def read(value: Any, path: str) -> Any:
        if not any(is_same(value, item) for item in values):
            raise policy.unsupported(path)
        return value

    return ValueType(read, {"enum": list(values)} if values else {"const": None})


def is_same(value: Any, other: Any) -> bool:
    """Whether two JSON values are equal; 1 and 1.0 are, true and 1 are not."""
    return isinstance(value, bool) is isinstance(other, bool) and value == other


def check_length(path: str, value: str, max_length: int) -> None:
    """Refuse a string with more characters."""
    if len(value) > max_length:
        message = f"{path} must have at most {max_length} characters, not {len(value)}"
        raise RequestError(message, field=path, code="string_above_max_length")


@dataclass(frozen=True, slots=True)
class Extended:
    """A type with OpenAI's bounds under `--unknown-fields refuse`, and with wider ones, those of peers, else."""

    strict: AnyType
    wider: AnyType

    @property
    def schema(self) -> dict:
        """That of the policy."""
        return self._type.schema

    def read(self, value: Any, path: str) -> Any:
        """As the policy has it."""
        return self._type.read(value, path)

    @property
    def _type(self) -> AnyType:
        return self.strict if policy.is_strict() else self.wider


def or_none(type_: AnyType, *values: Any) -> ValueType:
    """The same type, or one of these values, with which other servers write that the field is absent."""

    def read(value: Any, path: str) -> Any:
        return None if any(is_same(value, item) for item in values) else type_.read(value, path)

    return ValueType(read, {"anyOf": [type_.schema, {"enum": list(values)}]})


def items_of(path: str, value: Any, max_length: int = MAX_ITEMS) -> list:
    """The value, an array of at most so many items; RequestError for anything else."""
    if len(of_type(path, value, list)) > max_length:
        message = f"{path} must have at most {max_length} items, not {len(value)}"
        raise RequestError(message, field=path, code="array_above_max_length")
    return value


def array(items: AnyType, max_length: int = MAX_ITEMS, min_length: int = 0) -> ValueType:
    """An array of at most so many items of one type; `min_length` is for the page, its errors are the reader's."""

    def read(value: Any, path: str) -> list:
        found = items_of(path, value, max_length)
        return [items.read(item, f"{path}[{index}]") for index, item in enumerate(found)]

    lengths = {"minItems": min_length, "maxItems": max_length}
    return ValueType(
        read, {"type": "array", "items": items.schema} | {name: size for name, size in lengths.items() if size}
    )


def text(max_length: int) -> ValueType:
    """A string of at most so many characters."""

    def read(value: Any, path: str) -> str:
        check_length(path, of_type(path, value, str), max_length)
        return value

    return ValueType(read, {"type": "string", "maxLength": max_length})


def _read_name(value: Any, path: str) -> str:
    if not NAME_PATTERN.fullmatch(of_type(path, value, str)):
        message = f"{path} must be 1 to 64 letters, digits, underscores or hyphens"
        raise RequestError(message, field=path, code="invalid_value")
    return value


def _read_number(value: Any, path: str) -> float:
    if type(value) not in (int, float):
        raise type_error(path, value, "a number")
    return value


STRING, BOOLEAN, OBJECT, LIST = map(plain, (str, bool, dict, list))
NUMBER = ValueType(_read_number, {"type": "number"})
ANYTHING = ValueType(lambda value, _: value, {})
NAME = ValueType(_read_name, {"type": "string", "pattern": f"^{NAME_PATTERN.pattern}$"})
NULLABLE_STRING = ValueType(ANYTHING.read, {"type": ["string", "null"]})
# Checked later, with the model at hand; the page shows the bounds that hold for every model:
SOME_TEXT = ValueType(STRING.read, {"type": "string", "minLength": 1})
TOKEN_ID = ValueType(ANYTHING.read, {"type": "integer", "minimum": 0})
