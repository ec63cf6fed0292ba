"""One declaration of every field, and the reader of JSON objects that follows it.

A `Field` has a name, a type with its bounds, a default, a line of description and an example; reading, errors and the
OpenAPI page follow from it. An explicit null equals an absent field. Beside its fields an object may have `foreign`
ones (foreign_fields.py): those that clients of other servers send, and that have no effect here. What nobody has
declared is left to the policy of `--unknown-fields`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from verbatim.reference.records.errors import RequestError
from verbatim.server.api import policy
from verbatim.server.api.value_types import AnyType, of_type, or_null


def never() -> bool:
    """The need of an optional field."""
    return False


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an object. `default` is what an absent one means; only an optional field has one."""

    name: str
    type: AnyType
    description: str
    default: Any = None
    is_needed: Callable[[], bool] = never
    example: Any = None

    @property
    def is_required(self) -> bool:
        """Whether it must be there, under the policy of the reading."""
        return self.is_needed()

    @property
    def schema(self) -> dict:
        """The field's own JSON schema; null stands for absence in what is not required."""
        schema = self.type.schema if self.is_required else or_null(self.type.schema)
        default = list(self.default) if isinstance(self.default, tuple) else self.default
        known = {} if default is None or self.is_required else {"default": default}
        example = self._example(default)
        return schema | known | {"description": self.description} | ({} if example is None else {"examples": [example]})

    def _example(self, default: Any) -> Any:
        """The field's example: its own, or its default, or the first of its values."""
        values = (self.example, default, self.type.schema.get("const"), *self.type.schema.get("enum", ()))
        return next((value for value in values if value is not None), None)


def required(name: str, type_: AnyType, description: str, example: Any = None) -> Field:
    """A field that must be there."""
    return Field(name, type_, description, is_needed=lambda: True, example=example)


class Object:
    """A JSON object with declared fields; a type like any other."""

    def __init__(
        self, *fields: Field, foreign: Mapping[str, AnyType] | None = None, rules: dict[str, Any] | None = None
    ):
        """`rules` are more keywords of the schema, for what depends on two fields."""
        self.fields = {field.name: field for field in fields}
        self.foreign = foreign or {}
        self.rules = rules or {}

    def read(self, value: Any, path: str = "") -> "Fields":
        """The object's fields, none of them read yet."""
        return Fields(value, path, self)

    @property
    def schema(self) -> dict:
        """All fields, and whether there may be others."""
        return {
            "type": "object",
            "required": [field.name for field in self.fields.values() if field.is_required],
            "properties": {name: field.schema for name, field in self.fields.items()},
            "additionalProperties": not policy.is_strict(),
        } | self.rules


def answer(*fields: Field) -> dict:
    """The schema of an object that the server gives; it may have more fields than these."""
    return Object(*fields).schema | {"additionalProperties": True}


class Fields:
    """The fields of one JSON object that have not been read yet; `fields[name]` reads one as it is declared."""

    __slots__ = ("_declared", "_foreign", "_values", "path")

    def __init__(self, value: Any, path: str, declared: Object):
        of_type(path or "The body", value, dict)
        self.path = path
        self._declared, self._foreign = declared.fields, declared.foreign
        self._values = {name: item for name, item in value.items() if item is not None}

    def where(self, name: str) -> str:
        """The path of a field, as error messages give it."""
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        """Whether the field is there, not null, and not yet read."""
        return name in self._values

    def declares(self, name: str) -> bool:
        """Whether the object has such a field."""
        return name in self._declared

    def __getitem__(self, name: str) -> Any:
        """The value of a declared field, or its default."""
        return self.read_as(name, self._declared[name].type)

    def read_as(self, name: str, type_: AnyType) -> Any:
        """The same with narrower bounds, which follow from another field or from the model."""
        value = self._values.pop(name, None)
        if value is not None:
            return type_.read(value, self.where(name))
        field = self._declared[name]
        if field.is_required:
            path = self.where(name)
            raise RequestError(f"Missing required parameter: {path}", field=path, code="missing_required_parameter")
        return field.default

    def read_all(self) -> dict[str, Any]:
        """All declared fields, and nothing else."""
        values = {name: self[name] for name in self._declared}
        self.done()
        return values

    def done(self) -> None:
        """Read declared fields that nobody has asked for, for their errors; then judge those that are not declared."""
        if not self._values:
            return
        for name in self._declared:
            if name in self._values:
                self[name]
        for name, value in self._values.items():
            if name in self._foreign:
                self._foreign[name].read(value, self.where(name))
            else:
                policy.note_unknown(self.where(name))
        self._values = {}
