"""`verbatim pull MODEL`: fetch a model of the Hugging Face hub, and say whether it can be served."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from verbatim.cli.models.cache import obstacle, size
from verbatim.cli.models.names import Repository, read_repository
from verbatim.cli.options import read_words
from verbatim.reference.checkpoint.mlc.files import CHAT_CONFIG
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.records.errors import ModelError
from verbatim.server.settings.hub import fetch

SHAPE_FILES = (
    "config.json",
    "generation_config.json",
    CHAT_CONFIG,
)  # fetched first: they show whether the rest is of use
EPILOG = "HF_TOKEN opens private models; HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE mean what they always mean."


def pull(words: list[str]) -> int:
    """Fetch a model, as `verbatim pull --help` says; returns the exit code."""
    return read_words("pull", _pull, words, help_epilogue=EPILOG)


def _pull(
    model: Annotated[
        str, Parameter(help="user/repo, user/repo:Q4_K_M (a GGUF file), HF://user/repo[@revision], or its URL")
    ],
    /,
    *,
    revision: Annotated[str | None, Parameter(help="a branch, a tag or a commit (default: main)")] = None,
    anyway: Annotated[bool, Parameter(help="fetch the weights also of a model that cannot be served")] = False,
) -> int:
    """Fetch a model from the Hugging Face hub into its cache. Exit code 1 if it cannot be served."""
    repository = read_repository(model, revision)
    if not anyway and not repository.format and (reason := _shape_obstacle(repository)):
        print(f"{repository.name} cannot be served, its weights are not fetched: {reason}", file=sys.stderr)
        return 1
    directory = fetch(repository.url)
    files = open_source(directory).weight_files() if repository.format else directory.rglob("*")
    sizes = [path.stat().st_size for path in files if path.is_file()]
    print(f"{repository.name}: {size(sum(sizes))} in {len(sizes)} file{'s' * (len(sizes) != 1)}")
    print(f"revision {revision_of(directory)}")
    print(f"in {directory}")
    if reason := obstacle(directory):
        print(f"cannot be served: {reason}", file=sys.stderr)
        return 1
    print(f"serve it: verbatim serve --model {repository.url}")
    return 0


def revision_of(path: Path) -> str:
    """The commit of a snapshot in the hub's cache, of the directory or of a file in it."""
    return path.parts[path.parts.index("snapshots") + 1]


def _shape_obstacle(repository: Repository) -> str | None:
    """Why a model cannot be served, as its config.json shows."""
    directory = fetch(repository.url, files=SHAPE_FILES)
    if not any((directory / name).exists() for name in (SHAPE_FILES[0], CHAT_CONFIG)):
        return f"it has no {SHAPE_FILES[0]}; of a repository of GGUF files name one: {repository.name}:Q4_K_M"
    try:
        open_source(directory).config()
    except ModelError as error:
        return str(error)
    return None
