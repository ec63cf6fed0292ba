"""Shared. The arguments of a call as Python writes it, `(a=1, b="x")`, made into JSON.

Values are JSON or Python literals, read with `json` and `ast.literal_eval`, so nothing is ever run. A value that is
JSON already stays as it was written, to the last digit.
"""

import ast
import json
import re
import warnings

KEY = r"[^\W\d]\w*"
KEYWORD = re.compile(rf"\s*({KEY})\s*=(.*)", re.DOTALL)


class CallEnd:
    """Finds the parenthesis that ends a call in text that grows, and the commas between its arguments."""

    def __init__(self, start: int):
        """`start` is the place just behind the opening parenthesis."""
        self.cuts = [start]  # where each argument begins; complete, the last is behind the closing parenthesis
        self.is_complete = False
        self._position, self._depth, self._quote, self._is_escaped = start, 1, "", False

    def scan(self, text: str) -> None:
        """Read on in a text of which earlier parts are known."""
        while self._position < len(text) and not self.is_complete:
            character = text[self._position]
            self._position += 1
            if self._quote:
                self._leave_string(character)
            elif character in "\"'":
                self._quote = character
            elif character in "([{":
                self._depth += 1
            elif character in ")]}":
                self._depth -= 1
                self.is_complete = self._depth == 0
            if self.is_complete or (character == "," and self._depth == 1 and not self._quote):
                self.cuts.append(self._position)

    def arguments(self, text: str) -> list[str]:
        """The text of each argument; the mark behind it is cut off."""
        return [text[start : end - 1] for start, end in zip(self.cuts, self.cuts[1:], strict=False)]

    def _leave_string(self, character: str) -> None:
        if not self._is_escaped and character == self._quote:
            self._quote = ""
        self._is_escaped = character == "\\" and not self._is_escaped


def arguments_to_json(arguments: list[str]) -> str | None:
    """A JSON object of arguments like `a=1`; None if one of them is none, or comes twice."""
    if not arguments[-1].strip():
        arguments = arguments[:-1]  # no arguments at all, or a comma behind the last one
    values: dict[str, str] = {}
    for argument in arguments:
        found = KEYWORD.fullmatch(argument)
        if not found or found[1] in values:
            return None
        value = to_json(found[2].strip())
        if value is None:
            return None
        values[found[1]] = value
    return "{" + ", ".join(f"{json.dumps(key)}: {value}" for key, value in values.items()) + "}"


def to_json(text: str) -> str | None:
    """The JSON of a value that is JSON or a Python literal; None if it is neither."""
    try:
        json.loads(text, parse_constant=_refuse)
        return text
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a model writes between quotes is no fault of ours
            return json.dumps(ast.literal_eval(text), allow_nan=False)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _refuse(constant: str):
    raise ValueError(f"{constant} is not JSON")
