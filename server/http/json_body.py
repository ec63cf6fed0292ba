"""The JSON of a body (RFC 8259), with bounds that are checked before any value is made.

Making values holds the interpreter, and so every stream of the process, for as long as it takes: what decides how long
is the number of values. Values, nesting and length are therefore bounded; the errors name the bounds. The check goes
over strings and punctuation without making anything, and gives the interpreter away between two of them.
"""

import json
import re
from typing import NoReturn

import orjson

from verbatim.reference.records.errors import RequestError

MAX_DEPTH = 128
MAX_VALUES = 1 << 18  # of a body for a model with a shorter context than half of it
MAX_CONTAINERS = 1 << 17
LONG_BYTES = 1 << 20  # from here on the faster parser
SLICE_BYTES = 1 << 18
QUOTE, COMMA = b'",'
DIGITS = 18  # longer integers do not fit 64 bits, which the faster parser does not have
LONG_INTEGER = re.compile(rb"[0-9]{%d}" % DIGITS)
TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]++|[\]}]++|,++', re.DOTALL)


def parse_json(body: bytes, most_values: int = MAX_VALUES) -> object:
    """The value of a JSON text. RequestError for anything else, NaN and lone surrogates included, and beyond bounds."""
    check_shape(body, most_values)
    try:
        if len(body) >= LONG_BYTES and not _has_long_integer(body):
            return orjson.loads(body)
        value = json.loads(body.decode(), parse_constant=_refuse_constant)
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()  # fails on half a surrogate pair
        return value
    except (ValueError, RecursionError):
        raise RequestError("The body cannot be read: it must be valid JSON in UTF-8.") from None


def check_shape(body: bytes, most_values: int = MAX_VALUES) -> None:
    """RequestError if the body has too many values, or too many arrays and objects, in all or in each other."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH and body.count(b",") < most_values:
        return  # as nearly always; what is in strings has been counted, too
    depth, num_values, num_containers = 0, 1, 0
    for found in TOKEN.finditer(body):
        first, length = body[found.start()], found.end() - found.start()
        if first == QUOTE:
            continue
        if first == COMMA:
            num_values += length
            if num_values > most_values:
                _refuse(f"The body must have at most {most_values} values.", "too_many_values")
        elif first in b"[{":
            depth, num_containers = depth + length, num_containers + length
            if depth > MAX_DEPTH:
                _refuse(f"The body must be nested at most {MAX_DEPTH} deep.", "nested_too_deep")
            if num_containers > MAX_CONTAINERS:
                _refuse(f"The body must have at most {MAX_CONTAINERS} arrays and objects.", "too_many_values")
        else:
            depth -= length


def _has_long_integer(body: bytes) -> bool:
    """Searched slice by slice, which overlap."""
    starts = range(0, len(body), SLICE_BYTES)
    return any(LONG_INTEGER.search(body, start, start + SLICE_BYTES + DIGITS) for start in starts)


def _refuse(message: str, code: str) -> NoReturn:
    raise RequestError(message, code=code)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
