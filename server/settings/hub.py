"""Models by their names on the Hugging Face hub: `HF://user/repo`, or `HF://user/repo@revision`.

Only weights, words and settings are fetched, never code. What is there already is not fetched again, and serves also
without a network; the hub's own variables (HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE) mean what they always mean.
"""

from collections.abc import Sequence
from pathlib import Path

from verbatim.reference.checkpoint.source import HUGGING_FACE_FILES
from verbatim.reference.records.errors import ModelError

SCHEME = "HF://"


def fetch(model: Path | str, *, files: Sequence[str] = HUGGING_FACE_FILES, is_local: bool = False) -> Path:
    """The directory of a model, fetched first if it is named by HF://, or only found if `is_local`.

    `files` are patterns. ModelError names the obstacle.
    """
    if isinstance(model, Path):
        return model
    from huggingface_hub import snapshot_download  # slow to import, and rarely needed
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = model.removeprefix(SCHEME).partition("@")
    try:
        return Path(
            snapshot_download(
                repository, revision=revision or None, allow_patterns=list(files), local_files_only=is_local
            )
        )
    except LocalEntryNotFoundError as error:
        if is_local:
            raise ModelError(f"{model} is not in the hub's cache: verbatim pull {repository} fetches it") from None
        raise ModelError(f"{model} cannot be fetched: {' '.join(str(error).split())}") from error
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise ModelError(f"{model} cannot be fetched: {' '.join(str(error).split())}") from error


def name_of(model: Path | str) -> str:
    """What clients call it: the name on the hub, or the directory's."""
    return model.name if isinstance(model, Path) else model.removeprefix(SCHEME).partition("@")[0]
