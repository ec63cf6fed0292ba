"""Which GGUF files belong to a model: a single one, or all parts of a split one."""

import re
from collections.abc import Iterable
from pathlib import Path

from verbatim.reference.records.errors import ModelError

SUFFIX = ".gguf"
SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
MAX_PARTS = 1000


def is_gguf(path: Path) -> bool:
    """Whether a file's name says so."""
    return path.suffix.lower() == SUFFIX


def find_file(path: Path) -> Path | None:
    """The (first) GGUF file of the model at a path, None if it is of another kind.

    Of a directory without config.json and safetensors that is its only model; ModelError if it has several.
    """
    if is_gguf(path) and not path.is_dir():
        return path
    if not path.is_dir() or (path / "config.json").exists() or any(path.glob("*.safetensors")):
        return None
    found = first_files(file for file in path.iterdir() if is_gguf(file))
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:20])
        raise ModelError(f"{path} has several models in GGUF files: name one of them: {names}")
    return found[0] if found else None


def first_files(files: Iterable[Path]) -> list[Path]:
    """One file for each model, sorted: of split ones the first part. Projectors of images are left out."""
    models: dict[str, Path] = {}
    for file in sorted(set(files)):
        if not file.name.startswith("mmproj"):
            match = SPLIT.fullmatch(file.name)
            models.setdefault(str(file.parent / match["stem"]) if match else str(file), file)
    return list(models.values())


def parts_of(path: Path) -> list[Path]:
    """All files of a split model, in order, of whichever part; the file itself if it is not split."""
    match = SPLIT.fullmatch(path.name)
    if match is None:
        return [path]
    count = int(match["count"])
    if not 1 <= count <= MAX_PARTS:
        raise ModelError(f"{path}: a split model has 1 to {MAX_PARTS} parts, not {count}")
    names = [f"{match['stem']}-{number:05}-of-{count:05}{path.suffix}" for number in range(1, count + 1)]
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise ModelError(f"{path.parent / missing[0]} does not exist: the model is split into {count} files")
    return [path.parent / name for name in names]
