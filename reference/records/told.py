"""A configuration as text, of which fingerprints are made: it stays the same when fields come that a model lacks."""

from dataclasses import fields, is_dataclass
from typing import Any

# Of fields that came after fingerprints were first given: with its default such a field is as if it were not there.
LATER = {"is_later": True}
UNTOLD = {"is_untold": True}  # what a configuration could also be; what it is shows in the other fields


def told(value: Any) -> str:
    """A configuration as text, which stays the same when new fields come and a model does not use them."""
    if isinstance(value, tuple):
        return f"({', '.join(map(told, value))}{',' * (len(value) == 1)})"
    if not is_dataclass(value):
        return repr(value)
    rows = [row for row in fields(value) if "is_untold" not in row.metadata]
    shown = (row for row in rows if "is_later" not in row.metadata or getattr(value, row.name) != row.default)
    return f"{type(value).__name__}({', '.join(f'{row.name}={told(getattr(value, row.name))}' for row in shown)})"
