"""A grammar as a request carries it: text in one of three syntaxes, of a bounded size.

What it means, and whether it compiles, is `grammar.py`'s business.
"""

import json
from dataclasses import dataclass
from enum import StrEnum

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.schema_form import MalformedError, closed, normalised

MAX_GRAMMAR_BYTES = 256 * 1024
CANNOT_GO_ON = "the grammar cannot go on"  # how the error of an answer begins whose grammar is too wide for the parser
MAX_DEPTH = 64
MAX_OPTIONAL = 1000  # the work to compile an object grows with the square of its optional properties
PREAMBLE = '%llguidance {"no_forcing": true}\n'  # a Lark grammar begins so: tokens are cut as the model likes
# A model that may write any amount of space between two values may write nothing else.
JSON_OPTIONS = {"whitespace_pattern": r"[ \n]{0,8}"}


class GrammarSyntax(StrEnum):
    """How the text of a grammar is written."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    LARK = "lark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """A grammar as text of a bounded size. `field` names the request's field it came from, for errors."""

    syntax: GrammarSyntax
    source: str
    field: str = "response_format"

    def __post_init__(self):
        """Refuse what is too large before anyone parses it."""
        size = len(self.source.encode())
        if size > MAX_GRAMMAR_BYTES:
            raise RequestError(
                f"{self.field} holds a grammar of {size} bytes; at most {MAX_GRAMMAR_BYTES}", field=self.field
            )


def json_object(field: str = "response_format") -> Grammar:
    """JSON mode: any object."""
    return Grammar(syntax=GrammarSyntax.JSON_SCHEMA, source='{"type":"object"}', field=field)


def json_schema(schema: dict, field: str = "response_format.json_schema.schema") -> Grammar:
    """A JSON schema; keys come in its order, and others than the named ones only if the schema says so (`closed`)."""
    if not isinstance(schema, dict):
        raise RequestError(f"{field} must be a JSON schema, which is an object", field=field, code="invalid_type")
    check_schema(schema, field)
    try:
        schema = normalised(schema)
    except MalformedError as error:
        raise RequestError(f"{field}.{error}", field=field, code="invalid_grammar") from None
    return Grammar(syntax=GrammarSyntax.JSON_SCHEMA, source=json.dumps(closed(schema)), field=field)


def json_rule(schema: dict, field: str = "tools") -> str:
    """The part of a Lark rule that stands for JSON of a schema."""
    check_schema(schema, field)
    return "%json " + json.dumps(schema | {"x-guidance": JSON_OPTIONS})


def check_schema(schema: dict, field: str) -> None:
    """Refuse what would take too long to compile."""
    if _depth(schema) > MAX_DEPTH:
        raise RequestError(f"{field} is nested deeper than {MAX_DEPTH} levels", field=field)
    num_optional = _num_optional(schema)
    if num_optional > MAX_OPTIONAL:
        raise RequestError(f"{field} has {num_optional} optional properties; at most {MAX_OPTIONAL}", field=field)


def _num_optional(value) -> int:
    """How many properties that are not required the objects of a schema have together."""
    if isinstance(value, list):
        return sum(map(_num_optional, value))
    if not isinstance(value, dict):
        return 0
    properties, required = value.get("properties"), value.get("required")
    names = set(properties) if isinstance(properties, dict) else set()
    names -= {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    return len(names) + sum(map(_num_optional, value.values()))


def _depth(value, limit: int = MAX_DEPTH + 1) -> int:
    """How deep a JSON value is nested, counted no further than `limit`."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 0 if limit == 0 else 1 + max((_depth(item, limit - 1) for item in inner), default=0)
