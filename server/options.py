"""The server's options: one table, read by the command line, kept in the environment.

Sanic starts its workers with `spawn`, and the engine is a process of its own. What the command line says is
therefore written to `VERBATIM_*` as it is parsed; every process reads it back with `Options.from_environment`.
Setting those variables by hand works as well, for tests, containers and other ASGI servers.
"""

import argparse
import os
import re
from dataclasses import dataclass
from pathlib import Path

from demo import DRAFT as DEMO_DRAFT
from demo import MODEL as DEMO_MODEL
from reference.dialects import DIALECTS
from reference.limits import MAX_DRAFT_LENGTH, PREFIX_CACHE_MODES, SPECULATIVE_MODES
from reference.quantization import FORMATS

PREFIX = "VERBATIM_"
SOCKET = PREFIX + "SOCKET"  # where the engine listens: made by the server itself, never an option
DEMO_ID = "verbatim-demo"
BACKENDS = ("reference", "fastpath")
TOOL_PARSERS = tuple(dialect.name for dialect in DIALECTS)


def device(text: str) -> str:
    """`auto`, `cpu`, `cuda` or `cuda:i`; argparse adds the option's name to the error."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"invalid device: {text!r} (choose from 'auto', 'cpu', 'cuda', 'cuda:0', ...)")
    return text


def directory(text: str) -> str:
    """An absolute path: a daemon, for one, changes its working directory. Whether it exists is seen later."""
    return str(Path(text).absolute())


def draft_length(text: str) -> int:
    """How many tokens to guess ahead."""
    if not text.isdigit() or int(text) > MAX_DRAFT_LENGTH:
        raise argparse.ArgumentTypeError(f"invalid draft length: {text!r} (choose from 0 to {MAX_DRAFT_LENGTH})")
    return int(text)


TABLE = (
    ("--backend", {"choices": BACKENDS, "default": "fastpath", "help": "the engine that computes (default: fastpath)"}),
    (
        "--model",
        {"type": directory, "metavar": "DIR", "default": str(DEMO_MODEL), "help": "the model (default: the demo)"},
    ),
    (
        "--device",
        {"type": device, "metavar": "DEVICE", "default": "auto", "help": "auto, cpu, cuda or cuda:i (default: auto)"},
    ),
    (
        "--quantization",
        {"choices": FORMATS, "default": None, "help": "quantise the weights on loading (default: as stored)"},
    ),
    (
        "--prefix-cache-mode",
        {"choices": PREFIX_CACHE_MODES, "default": "radix", "help": "keep what prompts begin with (default: radix)"},
    ),
    (
        "--speculative-mode",
        {"choices": SPECULATIVE_MODES, "default": "disable", "help": "guess ahead, at no cost to the answer"},
    ),
    (
        "--additional-models",
        {"type": directory, "metavar": "DIR", "default": None, "help": "the draft model of small_draft"},
    ),
    (
        "--spec-draft-length",
        {"type": draft_length, "metavar": "N", "default": 0, "help": "tokens to guess, 0: what suits (default)"},
    ),
    (
        "--tool-parser",
        {
            "choices": TOOL_PARSERS,
            "default": None,
            "help": "how the model writes tool calls (default: as its chat template does)",
        },
    ),
)


class ToEnvironment(argparse.Action):
    """Stores a value in the namespace, and in the environment where the other processes look."""

    def __call__(self, parser, namespace, value, option_string=None):
        """Called by argparse for each use of the option."""
        setattr(namespace, self.dest, value)
        os.environ[PREFIX + self.dest.upper()] = str(value)


def register(group_class) -> None:
    """Add the "Verbatim" group to Sanic's parser; `group_class` is `sanic.cli.arguments.Group`."""

    class VerbatimGroup(group_class):
        name = "Verbatim"

        def attach(self, short=False):
            for flag, settings in TABLE:
                self.container.add_argument(flag, action=ToEnvironment, **settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for on the command line or in the environment, defaults filled in."""

    backend: str
    model: Path
    device: str
    quantization: str | None
    prefix_cache_mode: str = "radix"
    speculative_mode: str = "disable"
    additional_models: Path | None = None
    spec_draft_length: int = 0
    tool_parser: str | None = None

    @classmethod
    def from_environment(cls) -> "Options":
        """Read `VERBATIM_BACKEND`, `VERBATIM_MODEL` and so on; ValueError if one cannot be."""
        values = {}
        for flag, settings in TABLE:
            name = flag.removeprefix("--").replace("-", "_")
            values[name] = _from_environment(PREFIX + name.upper(), settings)
        draft = values["additional_models"] or (DEMO_DRAFT if values["model"] == str(DEMO_MODEL) else None)
        paths = {"model": Path(values["model"]).absolute(), "additional_models": draft and Path(draft).absolute()}
        return cls(**values | paths)

    @property
    def model_id(self) -> str:
        """The name that clients use: the directory's, or the demo's own."""
        return DEMO_ID if self.model == DEMO_MODEL.absolute() else self.model.name


def _from_environment(name: str, settings: dict):
    """One option's value, held to the same rules as on the command line."""
    text, allowed = os.environ.get(name), settings.get("choices")
    if not text:
        return settings["default"]
    if allowed and text not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {text!r}")
    try:
        return settings.get("type", str)(text)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"{name}: {error}") from None
