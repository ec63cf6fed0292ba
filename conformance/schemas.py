"""Validates bodies against JSON Schemas taken from OpenAI's description (openai.json); reports a single error."""

import json
from functools import cache
from pathlib import Path

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match

from verbatim.conformance.case import FailError, shown

# OpenAI sends null here although the description does not allow it; `user` is null in its example of a response.
NULLS_SEEN = ("system_fingerprint", "service_tier", "usage", "user")


@cache
def _definitions() -> dict:
    definitions = json.loads(Path(__file__).with_name("openai.json").read_text(encoding="utf-8"))["$defs"]
    for schema in definitions.values():
        properties = schema.get("properties", {})
        for name in NULLS_SEEN:
            if name in properties:
                properties[name] = {"anyOf": [properties[name], {"type": "null"}]}
    return definitions


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": _definitions()})


def conforms(value: object, name: str) -> None:
    """The server fails unless `value` is a `name` as OpenAI describes it."""
    if (error := best_match(_validator(name).iter_errors(value))) is not None:
        raise FailError(f"the body is a {name} as OpenAI describes it", f"{error.json_path}: {error.message[:200]}")


def fits(value: object, schema: dict) -> None:
    """The server fails unless `value` satisfies the schema that the request asked for."""
    try:
        error = best_match(Draft202012Validator(schema).iter_errors(value))
    except SchemaError as wrong:  # pragma: no cover: a mistake of the suite
        raise AssertionError(f"the suite's schema is wrong: {wrong.message}") from wrong
    if error is not None:
        raise FailError(f"the value fits the schema {shown(schema)}", f"{error.json_path}: {error.message[:200]}")
