"""The regular expressions of adapter_config.json, which say whose rank or alpha differs; a file may have bad ones.

Python's `re` can take for ever. So an expression is held to a form in which that cannot be, and all of them to a time.
"""

import re
import time

from verbatim.reference.records.errors import ModelError

MAX_LENGTH = 200
MAX_REPETITIONS = 3
SECONDS = 2.0
REPETITION = re.compile(r"(?<!\\)[*+{]|(?<![\\(])\?")


class Patterns:
    """Values by regular expressions, of which the first that fits the end of a module's name counts, as in peft."""

    def __init__(self, name: str, values: dict[str, float]):
        self.name, self.values = name, values
        self._deadline = time.monotonic() + SECONDS
        self._compiled = [(_compile(name, text), value) for text, value in values.items()]

    def find(self, module: str, default: float) -> float:
        """The value for a module, such as model.layers.0.self_attn.q_proj; ModelError if that takes too long."""
        parts = module.split(".")
        ends = [".".join(parts[start:]) for start in range(len(parts))]
        for expression, value in self._compiled:
            if time.monotonic() > self._deadline:
                raise ModelError(f"adapter_config.json: {self.name} takes too long to be applied: use plain names")
            if any(expression.fullmatch(end) for end in ends):
                return value
        return default


def _compile(name: str, text: str) -> re.Pattern[str]:
    is_simple = len(text) <= MAX_LENGTH and len(REPETITION.findall(text)) <= MAX_REPETITIONS
    if not is_simple or re.search(r"\)[*+?{]", text):
        raise ModelError(
            f"adapter_config.json: {name} has the expression {text[:80]!r}; supported are names of modules, and "
            f"expressions with at most {MAX_REPETITIONS} repetitions, none of a group"
        )
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ModelError(f"adapter_config.json: {name} has the expression {text!r}: {error}") from None
