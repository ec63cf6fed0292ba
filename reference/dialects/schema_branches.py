"""Shared. A parameter's schema as the alternatives that it consists of, for grammars that write each in its own way."""

import json
from collections.abc import Iterator
from typing import Any

from verbatim.reference.dialects.parameters import PLAIN
from verbatim.reference.dialects.typed_values import resolved

BINDING = ("pattern", "format", "minLength", "maxLength", "not", "if", "contentEncoding")  # of a string


def branches(schema: Any, root: dict) -> Iterator[dict]:
    """The alternatives that a schema consists of, with references, single `allOf`s and lists of types resolved."""
    node = schema if isinstance(schema, dict) else {}
    for _ in range(8):
        reference, parts = node.get("$ref"), node.get("allOf")
        if isinstance(reference, str) and (found := _definition(reference, root)) is not None:
            node = found | {key: value for key, value in node.items() if key != "$ref"}
        elif isinstance(parts, list) and len(parts) == 1 and isinstance(parts[0], dict):
            node = parts[0] | {key: value for key, value in node.items() if key != "allOf"}
        else:
            break
    union = next((key for key in ("anyOf", "oneOf") if isinstance(node.get(key), list)), None)
    if union and PLAIN.issuperset(set(node) - {union, "type"}) and all(isinstance(part, dict) for part in node[union]):
        for part in node[union]:
            yield from branches(part, root) if part != node else ()
    elif isinstance(node.get("type"), list) and not is_listed(node):
        yield from ({**node, "type": part} for part in node["type"])
    else:
        yield node


def _definition(reference: str, root: dict) -> dict | None:
    """The schema that a reference names, if there is no further reference in it."""
    found = resolved(reference, root)
    return found if isinstance(found, dict) and '"$ref"' not in json.dumps(found) else None


def is_listed(schema: dict) -> bool:
    """Whether a schema lists its values."""
    return isinstance(schema.get("enum"), list) or "const" in schema
