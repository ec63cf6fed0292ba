"""Shared. What a JSON schema may look like: which keyword takes what, where schemas lie inside of schemas.

Keywords of null count as absent, as Go and other languages write them, except where null is a value (`const`,
`default`). Two forms of older drafts become today's: `exclusiveMinimum: true` and `items` as a list.
"""

from collections.abc import Callable, Iterator
from typing import Any

TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
NULL_IS_A_VALUE = frozenset(("const", "default", "example", "examples"))
MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")  # of schemas, by name
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")  # of schemas
SINGLES = (
    "items", "additionalProperties", "additionalItems", "contains", "propertyNames", "not", "if", "then", "else",
    "unevaluatedProperties", "unevaluatedItems",
)  # fmt: skip
# What may say of further properties than those of `properties`, and of their names.
OPEN_ENDED = frozenset(("additionalProperties", "patternProperties", "unevaluatedProperties", "propertyNames", "$ref",
                        "minProperties", "allOf", "anyOf", "oneOf", "not", "if", "dependentSchemas"))  # fmt: skip
MIXING = frozenset(("allOf", "not", "if", "dependentSchemas", "unevaluatedProperties"))  # several schemas for one value
EXCLUSIVE = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}


def _is_schema(value: Any) -> bool:
    return isinstance(value, dict | bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_type(value: Any) -> bool:
    return (
        value in TYPES if isinstance(value, str) else isinstance(value, list) and all(item in TYPES for item in value)
    )


def _are(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(test, value))


def _by_name(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(test, value.values()))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "type": (_is_type, f"one of {', '.join(TYPES)}, or a list of them"),
    "required": (_are(_is_text), "a list of names"),
    "enum": (lambda value: isinstance(value, list), "a list"),
    "dependentRequired": (_by_name(_are(_is_text)), "an object of lists of names"),
    "uniqueItems": (lambda value: isinstance(value, bool), "true or false"),
    **dict.fromkeys(MAPS, (_by_name(_is_schema), "an object of schemas")),
    **dict.fromkeys(LISTS, (_are(_is_schema), "a list of schemas")),
    **dict.fromkeys(SINGLES, (_is_schema, "a schema")),
    **dict.fromkeys(("pattern", "format", "$ref", "$id", "$schema"), (_is_text, "text")),
    **dict.fromkeys(("minimum", "maximum", "multipleOf", *EXCLUSIVE), (_is_number, "a number")),
    **dict.fromkeys(
        ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minContains",
         "maxContains"),
        (_is_count, "a whole number from 0 on"),
    ),
}  # fmt: skip


class MalformedError(Exception):
    """What is no JSON schema: `path` leads to the keyword at fault, which `expected` says more of."""

    def __init__(self, path: str, expected: str):
        super().__init__(f"{path} must be {expected}")
        self.path, self.expected = path, expected


def normalised(schema: Any, path: str = "") -> Any:
    """A schema, and all in it, without nulls and old forms. MalformedError for what no draft of JSON Schema has."""
    if not isinstance(schema, dict):
        return schema
    node = {key: value for key, value in schema.items() if value is not None or key in NULL_IS_A_VALUE}
    _modernise(node)
    for key, value in node.items():
        test, expected = EXPECTED.get(key, (None, ""))
        if key in MAPS and isinstance(value, dict):
            node[key] = value = {name: item for name, item in value.items() if item is not None}
        if test is not None and not test(value):
            raise MalformedError(joined(path, key), expected)
    for key, name, child in children(node):
        _put(node, key, name, normalised(child, joined(path, key, name)))
    return node


def _modernise(node: dict) -> None:
    for key, bound in EXCLUSIVE.items():
        if isinstance(node.get(key), bool):
            is_exclusive = node.pop(key)
            if is_exclusive and bound in node:
                node[key] = node.pop(bound)
    if isinstance(node.get("items"), list):
        node["prefixItems"] = node.pop("items")
        if "additionalItems" in node:
            node["items"] = node.pop("additionalItems")


def children(node: dict) -> Iterator[tuple[str, str | int | None, Any]]:
    """All schemas right inside of one: the keyword, the name or place below it if there is one, the schema."""
    for key in [key for key in node if key in MAPS]:
        yield from [(key, name, child) for name, child in node[key].items()]
    for key in [key for key in node if key in LISTS]:
        yield from [(key, index, child) for index, child in enumerate(node[key])]
    for key in [key for key in node if key in SINGLES]:
        yield key, None, node[key]


def replaced(node: dict, key: str, name: str | int | None, child: Any) -> dict:
    """The node with another schema in that place."""
    copy = dict(node)
    if name is not None:
        copy[key] = list(node[key]) if isinstance(node[key], list) else dict(node[key])
    _put(copy, key, name, child)
    return copy


def _put(node: dict, key: str, name: str | int | None, child: Any) -> None:
    if name is None:
        node[key] = child
    else:
        if key in LISTS:
            node[key] = list(node[key])
        node[key][name] = child


def closed(schema: Any) -> Any:
    """The schema with `additionalProperties: false` in all objects that name properties and say nothing of others.

    Peers read schemas so (xgrammar, and vLLM and SGLang with it, llama.cpp, Outlines); to JSON Schema such an object
    may have any further key. A schema that puts several schemas on one value is left as it is.
    """
    return schema if _mixes(schema) else _closed(schema)


def names_all(node: dict) -> bool:
    """Whether an object names its properties, all that are required among them, and says nothing of others."""
    named = node.get("properties")
    return (
        isinstance(named, dict)
        and OPEN_ENDED.isdisjoint(node)
        and all(key in named for key in node.get("required", ()))
    )


def _mixes(node: Any) -> bool:
    if not isinstance(node, dict):
        return False
    is_mixed = "properties" in node and not {"$ref", "anyOf", "oneOf"}.isdisjoint(node)
    return is_mixed or not MIXING.isdisjoint(node) or any(_mixes(child) for _, _, child in children(node))


def _closed(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    for key, name, child in children(node):
        node = replaced(node, key, name, _closed(child))
    return node | {"additionalProperties": False} if node.get("properties") and names_all(node) else node


def joined(path: str, *steps: str | int | None) -> str:
    """A path as error messages have it: properties.a.anyOf[0]."""
    for step in steps:
        if isinstance(step, int):
            path = f"{path}[{step}]"
        elif step is not None:
            path = f"{path}.{step}" if path else step
    return path
