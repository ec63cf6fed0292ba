"""`verbatim list`: the models on this machine."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from verbatim.cli.models.cache import Packed, hub_models, obstacle, packed_files, size, wide_console
from verbatim.cli.models.names import EMBEDDED_DRAFTS
from verbatim.cli.options import read_words
from verbatim.demo import EMBEDDED


def list_models(words: list[str]) -> int:
    """List models, as `verbatim list --help` says; returns the exit code."""
    return read_words("list", _list, words)


def _list(*, all: Annotated[bool, Parameter(help="also what cannot be served, with the reason")] = False) -> None:
    """List the models on this machine: embedded ones, those in the hub's cache, and packed weights."""
    console = wide_console()
    table = _table("model", "size", "revision", "note")
    for name, path in EMBEDDED.items():
        table.add_row(name, size(_bytes(path)), "", "embedded")
    for path, note in EMBEDDED_DRAFTS.items():
        table.add_row(f"demo's {path.name}", size(_bytes(path)), "", f"embedded, {note}")
    sources, num_hidden = {}, 0
    for repo in hub_models():
        for revision in sorted(repo.revisions, key=lambda revision: -revision.last_modified):
            sources[revision.commit_hash] = repo.repo_id
            reason = obstacle(revision.snapshot_path)
            if reason and not all:
                num_hidden += 1
                continue
            names = ", ".join(sorted(revision.refs)) or revision.commit_hash[:12]
            note = f"cannot be served: {reason}" if reason else ""
            table.add_row(repo.repo_id, size(revision.size_on_disk), names, note)
    console.print(table)
    if num_hidden:
        console.print(f"{num_hidden} more in the hub's cache cannot be served (--all shows them)", style="dim")
    _print_packed(console, packed_files(), sources)


def _print_packed(console: Console, files: list[Packed], sources: dict[str, str]) -> None:
    """The packed weights, with the model of the hub that they were made of, if it is still there."""
    if not files:
        return
    table = _table("packed weights", "size", "of")
    for file in files:
        table.add_row(file.path.name, size(file.num_bytes), sources.get(file.source, file.source))
    console.print(table)
    console.print(f"packed weights lie in {files[0].path.parent}", style="dim", soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column == "size" else "left", overflow="fold")
    return table


def _bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir() if path.is_file())
