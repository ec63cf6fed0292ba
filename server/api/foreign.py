"""How a field is read that clients of other servers send and that has no effect here: in one of three ways.

`anything` takes every value of its type in silence: caching, scheduling, accounting, what a client says of itself.
`wishes` have values that mean what this server does anyway; others are left to the policy of --unknown-fields.
`refusals` have such values, too; others change what the answer is, so they are refused by name under every policy.
foreign_fields.py has the tables.
"""

from dataclasses import dataclass
from typing import Any

from verbatim.server.api import policy
from verbatim.server.api.value_types import BOOLEAN, LIST, NUMBER, OBJECT, STRING, AnyType, is_same

TYPES: dict[type, AnyType] = {bool: BOOLEAN, int: NUMBER, float: NUMBER, str: STRING, list: LIST, dict: OBJECT}


@dataclass(frozen=True, slots=True)
class Foreign:
    """`neutral` are the values that change nothing, None for all of `type`; the others are refused, or are wishes."""

    neutral: tuple | None
    type: AnyType | None = None
    is_refused: bool = False

    @property
    def schema(self) -> dict:
        """What is accepted, whatever the policy."""
        if self.neutral is None:
            return self.type.schema if self.type else {}
        return {"enum": list(self.neutral)}

    def read(self, value: Any, path: str) -> Any:
        """The value; RequestError where it is refused, or is of a type that the field cannot have."""
        if self.neutral is not None and any(is_same(value, item) for item in self.neutral):
            return value
        if self.type is not None:
            self.type.read(value, path)
        if self.is_refused:
            raise policy.unsupported(path)
        if self.neutral is not None:
            policy.note_without_effect(path)
        return value


def anything(type_: AnyType | None, names: str) -> dict[str, Foreign]:
    """Fields of that type, whatever they say; None for any type."""
    return {name: Foreign(None, type_) for name in names.split()}


def wishes(**values: Any) -> dict[str, Foreign]:
    """Fields by name, each with its neutral value, or several of them as a tuple."""
    return {name: _of(value, is_refused=False) for name, value in values.items()}


def refusals(**values: Any) -> dict[str, Foreign]:
    """The same, where other values are always refused."""
    return {name: _of(value, is_refused=True) for name, value in values.items()}


def _of(value: Any, *, is_refused: bool) -> Foreign:
    """All neutral values of one type tell the type of the others; with none, or with mixed ones, it is not checked."""
    neutral = value if isinstance(value, tuple) else (value,)
    types = {id(TYPES[type(item)]): TYPES[type(item)] for item in neutral}
    return Foreign(neutral, next(iter(types.values())) if len(types) == 1 else None, is_refused)
