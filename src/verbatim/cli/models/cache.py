"""What lies on this machine: models in the hub's cache, packed weights, and whether a model can be served."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from verbatim.reference.checkpoint.gguf.source import GgufSource
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.records.errors import BackendError, ModelError
from verbatim.reference.text.tokenizers import NAMES as TOKENIZER_FILES

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
PIPE_COLUMNS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A file of packed weights, and the directory name that it was made of."""

    path: Path
    source: str
    num_bytes: int


def hub_models() -> list[Any]:
    """The models in the hub's cache, as huggingface_hub describes repositories, by name."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:  # nothing has ever been fetched
        return []
    return sorted((repo for repo in repos if repo.repo_type == "model"), key=lambda repo: repo.repo_id)


def packed_files() -> list[Packed]:
    """The packed weights in the cache folder; none where the fast path, which makes them, is not built."""
    try:
        from verbatim.fastpath.model.model_lib import cached_files, source_name
    except (ImportError, BackendError):
        return []
    return [Packed(path=path, source=source_name(path), num_bytes=path.stat().st_size) for path in cached_files()]


def obstacle(directory: Path) -> str | None:
    """Why a model cannot be served, None if it can as far as its files show; weights are not read.

    Several models in GGUF files are each served by name.
    """
    try:
        source = open_source(directory)
        source.config()
        source.tensors()
    except ModelError as error:
        return str(error).replace(f"{directory}/", "")
    if isinstance(source, GgufSource):
        return _gguf_obstacle(source)
    names = TOKENIZER_FILES
    return None if any((directory / name).exists() for name in names) else f"it has neither {' nor '.join(names)}"


def _gguf_obstacle(source: GgufSource) -> str | None:
    try:
        source.tokenizer()
    except ModelError as error:
        return str(error)
    return None


def wide_console() -> Console:
    """Where tables go: as wide as the terminal, and without folded lines in files and pipes."""
    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def size(num_bytes: float) -> str:
    """Bytes in the largest unit that leaves at least 1."""
    for unit in UNITS:
        if num_bytes < 1024 or unit == UNITS[-1]:
            break
        num_bytes /= 1024
    return f"{num_bytes:.0f} {unit}" if unit == UNITS[0] else f"{num_bytes:.1f} {unit}"
