"""Prompts and inputs: a text or token ids, or several of either."""

from typing import Any

from verbatim.reference.records.errors import RequestError
from verbatim.server.api.value_types import SOME_TEXT, TOKEN_ID, Array, type_error


class Texts:
    """At most so many texts or arrays of token ids; one of them need not be in an array."""

    def __init__(self, max_length: int, *, shows_length: bool):
        self.max_length, self.shows_length = max_length, shows_length

    def read(self, value: Any, path: str) -> list[tuple[str, Any]]:
        """The path of each, and a text or what should be an array of token ids."""
        if type(value) is str:
            return [(path, value)]
        if type(value) is not list:
            raise type_error(path, value, "a string, or an array of strings, token ids or arrays of token ids")
        if value and type(value[0]) is int:
            return [(path, value)]
        if not 1 <= len(value) <= self.max_length:
            message = f"{path} must have 1 to {self.max_length} items"
            message += f", not {len(value)}" if self.shows_length else ""
            raise RequestError(message, field=path, code="invalid_value")
        return [(f"{path}[{index}]", item) for index, item in enumerate(value)]

    def schema(self) -> dict:
        """All four forms."""
        ids = Array(TOKEN_ID, min_length=1)
        types = (SOME_TEXT, Array(SOME_TEXT, self.max_length, 1), ids, Array(ids, self.max_length, 1))
        return {"anyOf": [each.schema() for each in types]}
