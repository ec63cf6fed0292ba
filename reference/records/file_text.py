"""Text files of a model directory, which may come from anywhere: read only if they are ordinary, and of a sane size."""

import stat
from pathlib import Path

from verbatim.reference.records.errors import ModelError

MAX_JSON_BYTES = 32 << 20  # an index of 90,000 tensors has 9 MB
MAX_NESTED = 1 << 19  # lists and objects in a JSON text, each of which takes some hundred bytes of memory
OPENINGS = (b"[", b"{")


def check_ordinary(path: Path, most: int) -> None:
    """Raise ModelError for a pipe, a device or a file of more than `most` bytes; one that is missing passes."""
    try:
        file = path.stat()
    except OSError:
        return
    if not (stat.S_ISREG(file.st_mode) or stat.S_ISDIR(file.st_mode)):
        raise ModelError(f"{path} is no ordinary file")
    if stat.S_ISREG(file.st_mode) and file.st_size > most:
        raise ModelError(f"{path} has {file.st_size} bytes; at most {most} are read")


def check_json(path: Path, content: bytes) -> None:
    """Raise ModelError for a JSON text that would take much memory for what it says."""
    count = sum(map(content.count, OPENINGS))
    if count > MAX_NESTED:
        raise ModelError(
            f"{path} cannot be read as JSON: it has {count} lists and objects; at most {MAX_NESTED} are read"
        )
