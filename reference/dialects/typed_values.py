"""Shared. Values that a model writes as bare text, made into JSON by the schema of their parameter.

A string is the text itself. A value of any other type is read as JSON, or as a literal of Python, and keeps the digits
in which it was written. What cannot be read as one of the schema's types stays a string. Where a schema allows a string
among other types, or says nothing of types, the others come first: `5` is a number, `null` is null, `"x"` is the text
with its quotes.
"""

import json
from typing import Any

from verbatim.reference.dialects.literals import to_json
from verbatim.reference.records.schema_form import TYPES

ANY = frozenset(TYPES)
STRING = frozenset(("string",))
MAX_STEPS = 32  # of references from schema to schema


def types_of(schema: Any, root: dict, steps: int = MAX_STEPS) -> frozenset[str]:
    """The JSON types that a value of the schema may have; `root` is where its references lead."""
    if not isinstance(schema, dict) or steps == 0:
        return ANY
    found = ANY
    if isinstance(reference := schema.get("$ref"), str):
        found &= types_of(resolved(reference, root), root, steps - 1)
    if isinstance(named := schema.get("type"), str | list):
        found &= frozenset((named,) if isinstance(named, str) else filter(TYPES.__contains__, named))
    if "const" in schema or isinstance(schema.get("enum"), list):
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        found &= frozenset().union(*(_type_of(value) for value in values))
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            found &= frozenset().union(*(types_of(part, root, steps - 1) for part in schema[key]))
    for part in schema["allOf"] if isinstance(schema.get("allOf"), list) else ():
        found &= types_of(part, root, steps - 1)
    return found or ANY


def value_to_json(text: str, types: frozenset[str]) -> str:
    """The JSON of a value of one of these types that was written as `text`."""
    if types == STRING:
        return json.dumps(text, ensure_ascii=False)
    stripped = text.strip()
    lower = stripped.lower()
    written = lower if lower in ("true", "false", "null") and "string" not in types else stripped
    found = to_json(written)
    if found is not None and (read := _type_of(json.loads(found)) & types) and read != STRING:
        return found
    if found is not None and found.startswith('"') and "string" not in types:
        return found  # quotes around what ought to be no string
    return json.dumps(text, ensure_ascii=False)


def _type_of(value: Any) -> frozenset[str]:
    """The names of a value's type: a whole number is an integer and a number."""
    match value:
        case None:
            return frozenset(("null",))
        case bool():
            return frozenset(("boolean",))
        case int():
            return frozenset(("integer", "number"))
        case float():
            return frozenset(("integer", "number") if value.is_integer() else ("number",))
        case str():
            return STRING
        case list():
            return frozenset(("array",))
    return frozenset(("object",))


def resolved(reference: str, root: dict) -> Any:
    """The schema that a reference inside of the same document names; True for any other."""
    node: Any = root
    for part in reference.removeprefix("#").split("/")[1:] if reference.startswith("#") else ("",):
        node = node.get(part.replace("~1", "/").replace("~0", "~"), True) if isinstance(node, dict) else True
    return node
