"""`--overrides "k=v;k=v"`: settings of the engine in a text, under the names that users of MLC LLM know.

Most are options of our own and obey the same bounds. What MLC LLM has beside them is taken where it changes nothing
here, or means the same as an option of ours, and else refused with the reason.
"""

from argparse import ArgumentTypeError
from collections.abc import Mapping

from verbatim.server.settings.value_types import ValueType, integer

ALIASES = {
    "max_single_sequence_length": "context_window_size",
    "max_total_sequence_length": "max_total_seq_length",
}
NEUTRAL = {  # the values that change nothing, and why there are no others
    "pipeline_parallel_stages": (("1",), "a model runs on one device"),
    "tensor_parallel_shards": (("1",), "a model runs on one device"),
}
IGNORED = ("opt",)  # how to compile a model, which is not done here: no answer depends on it
WHOLE = integer(0)


def read_overrides(text: str, types: Mapping[str, ValueType]) -> dict:
    """The values by name; ValueError for a name that is not among `types`, or a value that does not fit."""
    values: dict = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ValueError(f"--overrides: {part!r} must be NAME=VALUE, with semicolons between several")
        if name in IGNORED or (name in NEUTRAL and _is_neutral(name, value)):
            continue
        own = ALIASES.get(name, name)
        if own not in types:
            known = ", ".join([*types, *ALIASES, *NEUTRAL, *IGNORED])
            raise ValueError(f"--overrides: there is no {name!r}; there are {known}")
        read = _read(name, value, types[own])
        if values.setdefault(own, read) != read:
            raise ValueError(f"--overrides: {name}={value} contradicts {own}={values[own]}, which is the same setting")
    return values


def _is_neutral(name: str, value: str) -> bool:
    """True, or ValueError for a value that would change something."""
    allowed, reason = NEUTRAL[name]
    if str(_read(name, value, WHOLE)) not in allowed:
        raise ValueError(f"--overrides: {name} must be {' or '.join(allowed)}, not {value}: {reason}")
    return True


def _read(name: str, value: str, type_: ValueType) -> object:
    try:
        return type_.read(value)
    except ArgumentTypeError as error:
        raise ValueError(f"--overrides: {name}: {error}") from None
