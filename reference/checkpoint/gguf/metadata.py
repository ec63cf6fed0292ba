"""Metadata of a GGUF file, value by value: each checked for its type and bounds, with an error that names it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from verbatim.reference.records.errors import ModelError

MOST = 1 << 31


def _shown(value: Any) -> str:
    """A wrong value in an error, in one line."""
    if isinstance(value, np.ndarray):
        return f"{len(value)} numbers"
    return f"{len(value)} texts" if isinstance(value, list) else repr(value)[:100]


class Metadata:
    """The metadata of a model; names that begin with a dot are those of its architecture."""

    def __init__(self, path: Path, values: Mapping[str, Any]):
        self.path, self.values = path, values
        self.architecture = str(values.get("general.architecture", ""))

    def full(self, name: str) -> str:
        """The name as the file has it."""
        return self.architecture + name if name.startswith(".") else name

    def get(self, name: str) -> Any:
        """The value, None where there is none."""
        return self.values.get(self.full(name))

    def integer(self, name: str, *, least: int = 1, most: int = MOST) -> int | None:
        """A whole number, or an array that repeats one."""
        value = self.get(name)
        if value is None:
            return None
        if isinstance(value, np.ndarray) and value.size and (value == value.flat[0]).all():
            value = value.flat[0].item()
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.error(name, f"must be a whole number from {least} to {most}, not {_shown(value)}")
        return value

    def required(self, name: str, *, most: int = MOST) -> int:
        """A positive whole number that has to be there."""
        value = self.integer(name, most=most)
        if value is None:
            raise self.error(name, "is missing")
        return value

    def number(self, name: str, *, is_positive: bool = True) -> float | None:
        """A finite number."""
        value = self.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(name, f"must be a finite number, not {_shown(value)}")
        if is_positive and value <= 0:
            raise self.error(name, f"must be above 0, not {value}")
        return float(value)

    def flag(self, name: str) -> bool | None:
        """True or false."""
        value = self.get(name)
        if not isinstance(value, bool | None):
            raise self.error(name, f"must be true or false, not {_shown(value)}")
        return value

    def text(self, name: str) -> str | None:
        """A text."""
        value = self.get(name)
        if not isinstance(value, str | None):
            raise self.error(name, f"must be a text, not {_shown(value)}")
        return value

    def error(self, name: str, what: str) -> ModelError:
        """The error that this value is wrong."""
        return ModelError(f"{self.path.name}: {self.full(name)} {what}")
