"""`--overrides "k=v;k=v"`: settings of the engine in a text, under the names that users of MLC LLM know.

Most are options of our own and obey the same bounds; what has no meaning here is refused with the reason.
"""

from argparse import ArgumentTypeError
from collections.abc import Mapping

from verbatim.server.settings.value_types import ValueType

REFUSED = {
    "max_history_size": "it is for recurrent models, which are not supported",
    "opt": "nothing is compiled for a model",
    "pipeline_parallel_stages": "a model runs on one device",
    "prefix_cache_max_num_recycling_seqs": "the prefix cache keeps pages and not sequences; see prefix_cache_mode",
    "tensor_parallel_shards": "a model runs on one device",
}


def read_overrides(text: str, types: Mapping[str, ValueType]) -> dict:
    """The values by name; ValueError for a name that is not among `types`, or a value that does not fit."""
    values = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name in REFUSED:
            raise ValueError(f"--overrides: {name} is not supported: {REFUSED[name]}")
        if not equals:
            raise ValueError(f"--overrides: {part!r} must be NAME=VALUE, with semicolons between several")
        if name not in types:
            raise ValueError(f"--overrides: there is no {name!r}; there are {', '.join(types)}")
        try:
            values[name] = types[name].read(value)
        except ArgumentTypeError as error:
            raise ValueError(f"--overrides: {name}: {error}") from None
    return values
