"""How the text of an option becomes a value: a small record for each type of value.

Wherever it comes from (command line, environment, file), a setting is text first, so that all three obey the same
bounds and give the same errors. `to_text` is the way back. A reader's error names the value and what is allowed.
"""

import json
import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from verbatim.demo import EMBEDDED
from verbatim.reference.records.request import MAX_TIMEOUT_SECONDS
from verbatim.server.settings.hub import SCHEME

OTHER_DEVICES = ("metal", "vulkan", "rocm", "opencl")  # of MLC LLM
MAX_INTEGER_DIGITS = 15
HUB_NAME = re.compile(r"HF://[\w.-]+/[\w.-]+(:[\w.-]+)?(@[\w./-]+)?", re.ASCII)
MODEL_NAMES = "a directory, a GGUF file, or HF://user/repo[:FORMAT][@revision]"
TRUTHS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class ValueType:
    """`read` makes the value or raises ArgumentTypeError; `metavar` stands for it in `--help`."""

    read: Callable[[str], object]
    metavar: str


def option(group: str, type_: ValueType, text: str, *, default: Any = None) -> Any:
    """One row of the table in options.py: a field of `Options`, whose name with dashes is the option's."""
    return field(default=default, metadata={"group": group, "type": type_, "help": text})


def one_of(allowed: tuple[str, ...]) -> ValueType:
    """A word out of a fixed set."""

    def read(text: str) -> str:
        return text if text in allowed else _refuse("choice", text, ", ".join(map(repr, allowed)))

    return ValueType(read, "{" + ",".join(allowed) + "}")


def integer(low: int, high: int | None = None) -> ValueType:
    """A whole number within bounds."""

    def read(text: str) -> int:
        if re.fullmatch(rf"-?[0-9]{{1,{MAX_INTEGER_DIGITS}}}", text) and low <= int(text) <= (high or math.inf):
            return int(text)
        return _refuse("number", text, f"{low} to {high}" if high else f"whole numbers from {low} on")

    return ValueType(read, "N")


def seconds(*, or_none: bool = False) -> ValueType:
    """A time; 0 stands for never where that may be."""

    def read(text: str) -> float:
        try:
            if 0 < float(text) <= MAX_TIMEOUT_SECONDS or (or_none and float(text) == 0):
                return float(text)
        except ValueError:
            pass
        return _refuse("time", text, f"seconds {'from 0 on' if or_none else 'above 0'}, at most {MAX_TIMEOUT_SECONDS}")

    return ValueType(read, "SECONDS")


def share() -> ValueType:
    """A part of a whole."""

    def read(text: str) -> float:
        try:
            if 0 < float(text) <= 1:
                return float(text)
        except ValueError:
            pass
        return _refuse("share", text, "a number above 0 and at most 1")

    return ValueType(read, "SHARE")


def _device(text: str) -> str:
    if re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", text):
        return text
    allowed = "'auto', 'cpu', 'cuda', 'cuda:0', ..."
    if re.fullmatch(rf"({'|'.join(OTHER_DEVICES)})(:[0-9]+)?", text):
        allowed += f" (there are no kernels for {text.partition(':')[0]}: cpu runs everywhere, cuda on NVIDIA's GPUs)"
    return _refuse("device", text, allowed)


def _path(text: str) -> Path:
    """An absolute path: a daemon, for one, changes its working directory. Whether it exists is seen later."""
    return Path(text).absolute()


def _flag(text: str) -> bool:
    return TRUTHS[text] if text in TRUTHS else _refuse("choice", text, ", ".join(TRUTHS))


def _name(text: str) -> str:
    return text if text.strip() == text != "" else _refuse("name", text, "text without space around it")


def _names(text: str) -> tuple[str, ...]:
    """Names with commas between, or a JSON list of them; none twice."""
    try:
        names = json.loads(text) if text.startswith("[") else text.split(",")
    except ValueError:
        names = []
    are_names = all(isinstance(name, str) and name.strip() == name != "" for name in names)
    if names and are_names and len(set(names)) == len(names):
        return tuple(names)
    return _refuse("name", text, "text without space around it; several with commas between, none twice")


def words(text: str) -> tuple[str, ...]:
    """Several words, as a JSON list or with commas between; an error does not repeat them, as they may be secret."""
    try:
        found = json.loads(text) if text.startswith("[") else [word.strip() for word in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(isinstance(word, str) and word and word.isprintable() for word in found):
        raise ArgumentTypeError("cannot be read: give words with commas between, or a JSON list of strings")
    return tuple(found)


def _json_object(text: str) -> str:
    try:
        is_object = isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        is_object = False
    return text if is_object else _refuse("value", text, 'a JSON object, such as {"enable_thinking": false}')


def _model(text: str) -> Path | str:
    """A model that ships, by its name alone; else a directory (`./demo` is one), a GGUF file, or a name on the hub.

    A directory and a name on the hub may look alike; HF:// makes it clear.
    """
    if text in EMBEDDED:
        return EMBEDDED[text].absolute()
    if not text.startswith(SCHEME):
        if HUB_NAME.fullmatch(SCHEME + text) and not Path(text).exists() and not Path(text).parent.exists():
            raise ArgumentTypeError(f"there is no directory {text!r}; on the Hugging Face hub that is {SCHEME}{text}")
        return _path(text)
    return text if HUB_NAME.fullmatch(text) else _refuse("model", text, MODEL_NAMES)


def _models(text: str) -> tuple[Path | str, ...]:
    return tuple(map(_model, words(text)))


DEVICE = ValueType(_device, "DEVICE")
FILE = ValueType(_path, "FILE")
JSON_OBJECT = ValueType(_json_object, "JSON")
FLAG = ValueType(_flag, "")
MODEL = ValueType(_model, "DIR|FILE.gguf|HF://USER/REPO[:FORMAT]")
MODELS = ValueType(_models, "DIR,...")
NAME = ValueType(_name, "NAME")
NAMES = ValueType(_names, "NAME,...")
SETTINGS = ValueType(str, "K=V;K=V")  # read by overrides.py
WORDS = ValueType(words, "A,B")


def to_text(value: object) -> str:
    """The text that is read back as `value`."""
    if isinstance(value, bool | tuple | list):
        return json.dumps(value, default=str)
    return str(value)


def _refuse(what: str, text: str, allowed: str) -> NoReturn:
    raise ArgumentTypeError(f"invalid {what}: {text!r} (choose from {allowed})")
