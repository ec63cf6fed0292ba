"""`verbatim verify MODEL`: are its files, its weights and its packed weights what they were; exit code 1 if not."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.progress import track
from rich.table import Table

from verbatim.cli.models.cache import size, wide_console
from verbatim.cli.models.names import find_directory
from verbatim.cli.options import read_words
from verbatim.reference.checkpoint.file_digests import SUMS, expected_digests, write_sums
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.numerics.quantization import ALL_FORMATS
from verbatim.reference.records.errors import BackendError
from verbatim.server.models.served import load_served_model
from verbatim.server.settings.options import Options


def verify(words: list[str]) -> int:
    """Verify a model, as `verbatim verify --help` says; returns the exit code."""
    return read_words("verify", _verify, words)


def _verify(
    model: Annotated[
        str, Parameter(help="an embedded model, a directory, a GGUF file, or user/repo in the hub's cache")
    ],
    /,
    *,
    write: Annotated[bool, Parameter(help=f"write {SUMS}, the digests that later runs compare with")] = False,
) -> int:
    """Read all of a model and check it: digests of files, shapes and numbers of weights, and packed weights."""
    place = find_directory(model).absolute()
    files = files_of(place)
    if write:
        write_sums(files)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    damaged = _add_files(table, files)
    _add_weights(table, place)
    damaged += _add_packed(table, place)
    table.add_row("fingerprint", load_served_model(Options(model=place)).fingerprint)
    wide_console().print(table)
    return 1 if damaged else 0


def files_of(place: Path) -> list[Path]:
    """The files of a directory, or the parts of a GGUF file; no links to devices and the like."""
    if place.is_dir():
        return sorted(path for path in place.iterdir() if path.is_file() and path.name != SUMS)
    return open_source(place).weight_files()


def _add_files(table: Table, files: list[Path]) -> list[str]:
    expected = expected_digests(files)
    damaged = [str(each.path) for each in _shown(expected, "files") if not each.holds()]
    text = f"{len(files)} of {size(sum(path.stat().st_size for path in files))}"
    _complain(damaged)
    known = f"{len(expected)} with a known digest, {len(expected) - len(damaged)} of them as they were"
    table.add_row("files", f"{text}; {known}" if expected else f"{text}; no digests are known: --write notes them")
    return damaged


def _add_weights(table: Table, place: Path) -> None:
    source = open_source(place)
    open_checkpoint(source.config(), source.weights())  # ModelError for a wrong shape or a number that is not finite
    source.tokenizer()
    table.add_row("weights", f"{len(source.tensors())} tensors: their shapes fit, all numbers are finite")


def _add_packed(table: Table, place: Path) -> list[str]:
    """The packed weights of the model in the cache: each matrix with the checksum that it got when it was packed."""
    try:
        from verbatim.fastpath.model.model_lib import open_model_lib
    except (ImportError, BackendError):
        return []
    own = open_source(place).config().quantization
    damaged = []
    for form in (own,) if own else (None, *ALL_FORMATS):
        lib: Any = open_model_lib(place, None if own else form)
        if lib is not None and lib.path.exists():
            found = lib.check() if lib.is_complete else ["its header"]
            own_damaged = [f"{lib.path}: {name}" for name in found]
            _complain(own_damaged)
            damaged += own_damaged
            table.add_row("packed", f"{lib.path}: {f'{len(found)} damaged' if found else 'as it was packed'}")
    return damaged


def _complain(names: list[str]) -> None:
    for name in names:
        wide_console().print(f"damaged: {name}")


def _shown(items: list, text: str):
    console = Console(stderr=True)
    return track(items, text, console=console, transient=True, disable=not console.is_terminal)
