"""Models by their names on the Hugging Face hub: `HF://user/repo`, or `HF://user/repo@revision`.

`HF://user/repo:Q4_K_M` is the file of a repository of GGUF files whose name ends so. Only weights, words and settings
are fetched, never code. What is there already is not fetched again, and serves also without a network; the hub's own
variables (HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE) mean what they always mean.
"""

from collections.abc import Sequence
from pathlib import Path

from verbatim.reference.checkpoint.gguf.files import SUFFIX, first_files, parts_of
from verbatim.reference.checkpoint.mlc.files import is_artifact
from verbatim.reference.checkpoint.source import HUGGING_FACE_FILES
from verbatim.reference.records.errors import ModelError

SCHEME = "HF://"


def fetch(model: Path | str, *, files: Sequence[str] = HUGGING_FACE_FILES, is_local: bool = False) -> Path:
    """The directory of a model, fetched first if it is named by HF://, or only found if `is_local`.

    `files` are patterns. Of a name with a format it is the (first) GGUF file. ModelError names the obstacle.
    """
    if isinstance(model, Path):
        return model
    from huggingface_hub import snapshot_download  # slow to import, and rarely needed
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = model.removeprefix(SCHEME).partition("@")
    repository, _, format = repository.partition(":")
    patterns = _patterns(format) if format else list(files)
    try:
        directory = Path(
            snapshot_download(repository, revision=revision or None, allow_patterns=patterns, local_files_only=is_local)
        )
        if format:
            return _file(model, directory, format, repository, revision, is_local=is_local)
        if files is HUGGING_FACE_FILES and not is_local and not _has_weights(directory):
            raise ModelError(f"{model} has no safetensors; of a repository of GGUF files name one: {model}:Q4_K_M")
        return directory
    except LocalEntryNotFoundError as error:
        if is_local:
            raise ModelError(f"{model} is not in the hub's cache: verbatim pull {repository} fetches it") from None
        raise ModelError(f"{model} cannot be fetched: {' '.join(str(error).split())}") from error
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise ModelError(f"{model} cannot be fetched: {' '.join(str(error).split())}") from error


def _has_weights(directory: Path) -> bool:
    return is_artifact(directory) or any(directory.glob("*.safetensors"))


def _patterns(format: str) -> list[str]:
    """The names of files in that format, in capitals or not: whole models, and parts of split ones."""
    name = "".join(f"[{letter.lower()}{letter.upper()}]" if letter.isalpha() else letter for letter in format)
    return [f"*{name}{SUFFIX}", f"*{name}-?????-of-?????{SUFFIX}"]


def _file(model: str, directory: Path, format: str, repository: str, revision: str, *, is_local: bool) -> Path:
    """The fetched file, of a split model the first."""
    found = first_files(file for pattern in _patterns(format) for file in directory.rglob(pattern))
    if len(found) == 1:
        parts_of(found[0])  # all parts have to be there
        return found[0]
    if found or is_local:
        names = ", ".join(str(file.relative_to(directory)) for file in found)
        raise ModelError(f"{model}: " + (f"several files are in that format: {names}" if found else "not in the cache"))
    from huggingface_hub import HfApi

    there = [name for name in HfApi().list_repo_files(repository, revision=revision or None) if name.endswith(SUFFIX)]
    raise ModelError(f"{model}: no file is in that format; the repository has {', '.join(there) or 'no GGUF files'}")


def name_of(model: Path | str) -> str:
    """What clients call it: the name on the hub, or the directory's, or the file's without `.gguf`."""
    if isinstance(model, Path):
        return model.stem if model.suffix.lower() == SUFFIX else model.name
    return model.removeprefix(SCHEME).partition("@")[0]
