"""`verbatim rm MODEL`: remove a model from the hub's cache, with its packed weights."""

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from verbatim.cli.models.cache import Packed, hub_models, packed_files, size
from verbatim.cli.models.names import NAMES, read_repository
from verbatim.cli.options import UsageError, read_words
from verbatim.reference.records.errors import ModelError


def rm(words: list[str]) -> int:
    """Remove a model, as `verbatim rm --help` says; returns the exit code."""
    return read_words("rm", _rm, words)


def _rm(
    model: Annotated[str, Parameter(help="user/repo[@revision] in the hub's cache, or the name of a packed file")],
    /,
    *,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], help="do not ask")] = False,
) -> int:
    """Remove a model from the hub's cache, all its revisions or the one named, with its packed weights."""
    revisions, packed = _find(model)
    strategy = _strategy(revisions)
    freed = sum(file.num_bytes for file in packed) + (strategy.expected_freed_size if strategy else 0)
    what = [f"revision {revision.commit_hash[:12]}" for revision in revisions]
    what += [f"packed weights {file.path.name}" for file in packed]
    print(f"{model}: {', '.join(what)}; {size(freed)}")
    if not yes and not _is_agreed():
        print("nothing is removed")
        return 1
    if strategy:
        strategy.execute()
    for file in packed:
        file.path.unlink(missing_ok=True)
    print(f"{size(freed)} freed")
    return 0


def _strategy(revisions: list[Any]) -> Any:
    """huggingface_hub's strategy to delete these revisions, None for none."""
    from huggingface_hub import scan_cache_dir

    return scan_cache_dir().delete_revisions(*(revision.commit_hash for revision in revisions)) if revisions else None


def _is_agreed() -> bool:
    """Whether the user agrees."""
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked: --yes removes without a question")
    return input("remove? [y/N] ").strip().lower() in ("y", "yes")


def _find(model: str) -> tuple[list[Any], list[Packed]]:
    """The revisions and the packed weights that a name stands for; ModelError if there is none."""
    packed = packed_files()
    if named := [file for file in packed if file.path.name == model]:
        return [], named
    if model in NAMES:
        raise ModelError(f"{model} is a part of verbatim and cannot be removed")
    if Path(model).exists():
        what = "directory" if Path(model).is_dir() else "file"
        raise ModelError(f"{model} is a {what} of yours: remove it yourself; rm is for the hub's cache")
    repository = read_repository(model)
    if repository.format:
        raise ModelError(f"{model} is a file of a repository; rm removes all of it: verbatim rm {repository.name}")
    found = [repo for repo in hub_models() if repo.repo_id == repository.name]
    revisions = [
        revision
        for repo in found
        for revision in repo.revisions
        if repository.revision is None
        or repository.revision in revision.refs
        or revision.commit_hash.startswith(repository.revision)
    ]
    if not revisions:
        raise ModelError(f"{model} is not in the hub's cache: verbatim list shows what is")
    commits = {revision.commit_hash for revision in revisions}
    return revisions, [file for file in packed if file.source in commits]
