"""A bar of progress on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


@contextmanager
def shown_progress(name: str, total: int, *, is_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """A function that counts what is done of `total`; with `is_bytes` the bar shows sizes."""
    how_much = DownloadColumn() if is_bytes else TaskProgressColumn()
    columns = TextColumn("{task.description}"), BarColumn(), how_much, TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield partial(progress.advance, progress.add_task(name, total=total))
