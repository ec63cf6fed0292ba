"""Models by their names on the Hugging Face hub: `HF://user/repo`, or `HF://user/repo@revision`.

Only weights, words and settings are fetched, never code. What is there already is not fetched again, and serves also
without a network; the hub's own variables (HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE) mean what they always mean.
"""

from pathlib import Path

from verbatim.reference.checkpoint.source import HUGGING_FACE_FILES
from verbatim.reference.records.errors import ModelError

SCHEME = "HF://"


def fetch(model: Path | str) -> Path:
    """The directory of a model, fetched first if it is named by HF://. ModelError names the obstacle."""
    if isinstance(model, Path):
        return model
    from huggingface_hub import snapshot_download  # slow to import, and rarely needed
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = model.removeprefix(SCHEME).partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(HUGGING_FACE_FILES)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(f"{model} cannot be fetched: {' '.join(str(error).split())}") from error


def name_of(model: Path | str) -> str:
    """What clients call it: the name on the hub, or the directory's."""
    return model.name if isinstance(model, Path) else model.removeprefix(SCHEME).partition("@")[0]
