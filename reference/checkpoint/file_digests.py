"""Are a model's files what they were: their digests beside those that the hub, or a list of one's own, says.

The hub's cache names each file by its digest: SHA-256 of large files, git's SHA-1 of small ones. In other directories
`SHA256SUMS` has a line `digest  name` for each file, as `sha256sum` writes and checks it.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from verbatim.reference.records.errors import ModelError

SUMS = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64}) [ *](.{1,255})")
BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
BLOCK_BYTES = 1 << 20
MAX_SUMS_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Expected:
    """A file, and the digest that it should have: 40 digits are git's SHA-1, 64 are SHA-256."""

    path: Path
    digest: str

    def holds(self) -> bool:
        """Whether the file has that digest; reads all of it. ModelError if it cannot be read."""
        return file_digest(self.path, is_git=len(self.digest) == 40) == self.digest


def expected_digests(files: Iterable[Path]) -> list[Expected]:
    """What is known of these files, of one directory: from the hub's cache, or from its list."""
    files = list(files)
    found = [Expected(path, name) for path in files if (name := _blob_name(path))]
    if found or not files:
        return found
    sums = read_sums(files[0].parent)
    return [Expected(path, sums[path.name]) for path in files if path.name in sums]


def read_sums(directory: Path) -> dict[str, str]:
    """Digests by file names, from the directory's list; none without one. ModelError for a line that is none."""
    path = directory / SUMS
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        text = file.read(MAX_SUMS_BYTES).decode(errors="replace")
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = LINE.fullmatch(line)
        if match is None or Path(match[2]).name != match[2]:
            raise ModelError(f"{path}, line {number}: not a digest and the name of a file")
        found[match[2]] = match[1]
    return found


def write_sums(files: Iterable[Path]) -> Path:
    """Write the list of these files, of one directory, as they are now; returns its path."""
    lines = {path.name: f"{file_digest(path)}  {path.name}\n" for path in files if path.name != SUMS}
    path = next(iter(files)).parent / SUMS
    path.write_text("".join(lines[name] for name in sorted(lines)), encoding="utf-8")
    return path


def file_digest(path: Path, *, is_git: bool = False) -> str:
    """SHA-256 of a file in hex, or the name that git gives its content."""
    try:
        found = hashlib.sha1(f"blob {path.stat().st_size}\0".encode()) if is_git else hashlib.sha256()
        for block in _blocks(path):
            found.update(block)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    return found.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def _blob_name(path: Path) -> str | None:
    """The digest by which the hub's cache names a file; None for any other."""
    target = path.resolve()
    is_blob = path.is_symlink() and target.parent.name == "blobs" and BLOB.fullmatch(target.name)
    return target.name if is_blob else None
