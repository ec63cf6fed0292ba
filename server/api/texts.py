"""Prompts and inputs: a text or token ids, or several of either."""

from typing import Any

from verbatim.reference.records.errors import RequestError
from verbatim.server.api.value_types import MAX_IDS, SOME_TEXT, TOKEN_ID, ValueType, array, items_of, type_error


def texts(max_length: int, *, shows_length: bool) -> ValueType:
    """At most so many texts or arrays of token ids; a single text need not be in an array.

    What is read is the path of each, with a text or what should be an array of token ids.
    """

    def read(value: Any, path: str) -> list[tuple[str, Any]]:
        if type(value) is str:
            return [(path, value)]
        if type(value) is not list:
            raise type_error(path, value, "a string, or an array of strings, token ids or arrays of token ids")
        if value and type(value[0]) is int:
            return [(path, items_of(path, value, MAX_IDS))]
        if not 1 <= len(value) <= max_length:
            message = f"{path} must have 1 to {max_length} items"
            message += f", not {len(value)}" if shows_length else ""
            raise RequestError(message, field=path, code="invalid_value")
        return [(f"{path}[{index}]", item) for index, item in enumerate(value)]

    ids = array(TOKEN_ID, MAX_IDS, 1)
    types = (SOME_TEXT, array(SOME_TEXT, max_length, 1), ids, array(ids, max_length, 1))
    return ValueType(read, {"anyOf": [each.schema for each in types]})
