"""Reads one JSON object strictly, field by field; what nobody asked for is an error in the end.

An explicit null equals an absent field. Types are never converted: "5" is not 5, and true is not 1. Errors name
the field by its path (`messages[0].content`) and never quote a whole value, which may be someone's text.
"""

import json

from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.reference.records.request import require_integer, require_number

NAMES = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "an integer", float: "a number"}


def parse_json(body: bytes) -> object:
    """The value of a JSON text (RFC 8259). RequestError for anything else, NaN and lone surrogates included."""
    try:
        value = json.loads(body.decode(), parse_constant=_refuse_constant)
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()  # fails on half a surrogate pair
        return value
    except (ValueError, RecursionError):
        raise RequestError("The body cannot be read: it must be valid JSON in UTF-8.") from None


def _refuse_constant(name: str):
    raise ValueError(name)


def type_error(path: str, value, expected: str) -> RequestError:
    """The error for a value of the wrong type; it names the type that came."""
    found = "null" if value is None else NAMES[type(value)]
    return RequestError(f"{path} must be {expected}, not {found}", field=path or None, code="invalid_type")


def of_type(path: str, value, kind: type):
    """`value`, if it is of this JSON type."""
    if type(value) is not kind:
        raise type_error(path, value, NAMES[kind])
    return value


class Fields:
    """The fields of one JSON object that have not been taken yet."""

    def __init__(self, value, path: str = ""):
        of_type(path or "The body", value, dict)
        self.path = path
        self._values = {name: item for name, item in value.items() if item is not None}

    def where(self, name: str) -> str:
        """The path of a field, as error messages give it."""
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        """Whether the field is there, not null, and not yet taken."""
        return name in self._values

    def names(self) -> list[str]:
        """The fields not yet taken."""
        return list(self._values)

    def take(self, name: str, default=None):
        """The value of any type."""
        return self._values.pop(name, default)

    def required(self, name: str):
        """The value of any type, which must be there."""
        if name not in self._values:
            path = self.where(name)
            raise RequestError(f"Missing required parameter: {path}", field=path, code="missing_required_parameter")
        return self._values.pop(name)

    def typed(self, name: str, kind: type, default=None):
        """The value, which must be of one JSON type."""
        value = self.take(name)
        return default if value is None else of_type(self.where(name), value, kind)

    def string(self, name: str, max_length: int | None = None) -> str | None:
        """A string of at most so many characters."""
        value = self.typed(name, str)
        if value is not None and max_length is not None and len(value) > max_length:
            path = self.where(name)
            message = f"{path} must have at most {max_length} characters, not {len(value)}"
            raise RequestError(message, field=path, code="string_above_max_length")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number, whole or not, within bounds."""
        value = self.take(name)
        if value is None:
            return default
        if type(value) not in (int, float):
            raise type_error(self.where(name), value, "a number")
        require_number(self.where(name), value, low, high)
        return value

    def integer(self, name: str, low: int, high: int | None = None, default: int | None = None) -> int | None:
        """An integer within bounds."""
        value = self.typed(name, int)
        if value is None:
            return default
        require_integer(self.where(name), value, low, high)
        return value

    def array(self, name: str, max_length: int | None = None) -> list:
        """An array of at most so many items; empty if absent."""
        value = self.typed(name, list, [])
        if max_length is not None and len(value) > max_length:
            path = self.where(name)
            message = f"{path} must have at most {max_length} items, not {len(value)}"
            raise RequestError(message, field=path, code="array_above_max_length")
        return value

    def one_of(self, name: str, allowed: tuple[str, ...]) -> str | None:
        """A string out of a fixed set."""
        value = self.string(name)
        if value is not None and value not in allowed:
            path = self.where(name)
            raise RequestError(f"{path} must be one of {', '.join(allowed)}", field=path, code="invalid_value")
        return value

    def refuse(self, name: str, *neutral) -> None:
        """A field that OpenAI knows and this server does not have: only its neutral values pass."""
        value = self.take(name)
        if value is not None and not any(type(value) is type(item) and value == item for item in neutral):
            path = self.where(name)
            raise UnsupportedError(f"{path} is not supported by this server with this value", field=path)

    def done(self) -> None:
        """Raise for the first field that nothing has taken."""
        for name in self._values:
            path = self.where(name)[:200]
            raise RequestError(f"Unknown parameter: {path}", field=path, code="unknown_parameter")
