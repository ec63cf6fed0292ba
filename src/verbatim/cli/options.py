"""Options that several commands share, and how a command reads its words.

An option that the server has, too, is taken from the server's table (`server/settings/options.py`): one name, one set
of bounds and one help text wherever it is typed.
"""

from argparse import ArgumentTypeError
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter, UnknownOptionError

from verbatim.cli.main import complain, suggestion
from verbatim.demo import MODEL
from verbatim.server.settings.command_line import flag_of, help_of
from verbatim.server.settings.options import Options
from verbatim.server.settings.value_types import ValueType

ROWS = {row.name: row for row in fields(Options)}


OLDER_NAMES = {"--draft-length": "--spec-draft-length", "--tree-width": "--spec-tree-width"}  # still read


class UsageError(Exception):
    """A value on the command line that cannot be; the text names the option."""


def read_words(command: str, function, words: list[str], **settings):
    """Call `function` with what `words` say and return its result; exit code 2, after one line, if they are wrong."""
    app = App(
        name=f"verbatim {command}", default_command=function, version_flags=(), result_action="return_value",
        default_parameter=Parameter(negative=(), show_default=shown_default), help_format="plaintext", **settings,
    )  # fmt: skip
    app["--help"].group = "Parameters"
    try:
        return app([_current(word) for word in words], exit_on_error=False, print_error=False, verbose=False)
    except UsageError as error:
        return complain(command, str(error))
    except CycloptsError as error:
        known = {"--help", *(name for argument in app.assemble_argument_collection() for name in argument.names)}
        given = [word.partition("=")[0] for word in words if word.startswith("--")]
        for word in given if isinstance(error, UnknownOptionError | MissingArgumentError) else ():
            if word not in known and word not in OLDER_NAMES:
                return complain(command, f"{word}: {suggestion(word, known)}")
        return complain(command, " ".join(str(error).split()))


def shown_default(value) -> str | None:
    """A default as the help shows it: none for a flag, an empty list and what is worked out later."""
    return None if value is None or value is False or value == [] else str(value)


def _current(word: str) -> str:
    """A word with the present name of its option."""
    name, equals, value = word.partition("=")
    return OLDER_NAMES.get(name, name) + equals + value


def reader(value_type: ValueType):
    """A converter that reads the last of an option's values as `value_type` does."""

    def read(_type, tokens):
        try:
            return value_type.read(tokens[-1].value)
        except ArgumentTypeError as error:
            raise UsageError(f"{tokens[-1].keyword}: {error}") from None

    return read


def shared(name: str, *, text: str | None = None, is_checked: bool = True) -> Parameter:
    """The server's option `name`.

    An option that is not checked is read as text: the engine refuses what it cannot do, with a message of its own.
    """
    row = ROWS[name]
    values = row.metadata["type"].metavar
    shown = f"{text or help_of(row)}  {values}" if values.startswith("{") else text or help_of(row)
    convert = {"converter": reader(row.metadata["type"])} if is_checked else {}
    return Parameter(name=flag_of(name), help=shown, show_default=False, **convert)


LORA = Parameter(help="a LoRA adapter of the model  DIR|HF://USER/REPO")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Which model to load, where to, and in which formats."""

    model: Annotated[Path | str, shared("model")] = MODEL
    device: Annotated[str, shared("device", is_checked=False)] = "auto"
    quantization: Annotated[str | None, shared("quantization", is_checked=False)] = None
    kv_cache_dtype: Annotated[str, shared("kv_cache_dtype")] = "float32"
    lora: Annotated[str | None, LORA] = None

    def directory(self) -> Path:
        """The model's directory, fetched first if the name is one on the hub; ModelError if it cannot be."""
        from verbatim.server.settings.hub import fetch

        return fetch(self.model)

    def adapter(self) -> Path | None:
        """The directory of the LoRA adapter, fetched first if it is on the hub; ModelError if it cannot be."""
        from verbatim.server.settings.adapters import fetch_adapter, read_place

        return None if self.lora is None else fetch_adapter(read_place(self.lora))


Backend = Annotated[str, shared("backend")]


def token_ids(texts) -> list[list[int]]:
    """Each text, `1,2,3`, as a list of ids; UsageError if one is none."""
    try:
        return [[int(word) for word in text.split(",")] for text in texts]
    except ValueError:
        raise UsageError(f"--ids: token ids must be integers separated by commas, not {' '.join(texts)!r}") from None


def load_backend(name: str):
    """The package that makes engines of that name; BackendError if it is not built."""
    if name == "reference":
        from verbatim.reference import backend as reference

        return reference
    from verbatim.fastpath import backend as fastpath

    return fastpath
