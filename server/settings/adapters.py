"""LoRA adapters as options name them: `NAME=DIR` or `NAME=HF://user/repo`."""

from argparse import ArgumentTypeError
from pathlib import Path

from verbatim.reference.checkpoint.lora.adapter import FILES
from verbatim.reference.records.errors import ModelError
from verbatim.server.settings.hub import SCHEME, fetch
from verbatim.server.settings.value_types import HUB_NAME, ValueType, words

MAX_NAME_LENGTH = 200


def check_name(name: str) -> str | None:
    """What is wrong with an adapter's name, or None."""
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable() or name.strip() != name:
        return f"must be a printable text of 1 to {MAX_NAME_LENGTH} characters without space around it"
    if {*name} & {*":,="}:
        return f"must have no colon, comma or equals sign: {name!r} (clients write MODEL:{name.split(':')[-1]})"
    return None


def read_place(text: str) -> Path | str:
    """A directory, or a name on the hub, which is fetched later; ModelError for a name that cannot be one."""
    if not text.startswith(SCHEME):
        return Path(text).absolute()
    if not HUB_NAME.fullmatch(text):
        raise ModelError(f"LoRA adapter {text!r} must be a directory, or HF://user/repo[@revision]")
    return text


def fetch_adapter(place: Path | str) -> Path:
    """The directory of an adapter, fetched first if it is named by HF://; ModelError if it cannot be."""
    return fetch(place, files=FILES)


def split(pair: str) -> tuple[str, Path | str]:
    """Name and place of one value of the option."""
    name, _, place = pair.partition("=")
    return name, read_place(place)


def _pairs(text: str) -> tuple[str, ...]:
    pairs: dict[str, str] = {}
    for word in words(text):
        name, equals, place = word.partition("=")
        if not equals or not place:
            raise ArgumentTypeError(f"invalid adapter: {word!r} (write NAME=DIR or NAME=HF://user/repo)")
        if problem := check_name(name):
            raise ArgumentTypeError(f"invalid adapter: the name {problem}")
        if name in pairs:
            raise ArgumentTypeError(f"invalid adapter: {name!r} is named twice")
        try:
            pairs[name] = str(read_place(place))
        except ModelError as error:
            raise ArgumentTypeError(str(error)) from None
    return tuple(f"{name}={place}" for name, place in pairs.items())


ADAPTERS = ValueType(_pairs, "NAME=DIR,...")
