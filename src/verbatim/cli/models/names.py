"""The names of models: embedded ones, directories, and repositories of the hub in every spelling that people copy."""

import re
from dataclasses import dataclass
from pathlib import Path

from verbatim.demo import DRAFTS, EMBEDDED, MODEL
from verbatim.reference.checkpoint.gguf.files import is_gguf
from verbatim.reference.records.errors import ModelError
from verbatim.server.settings.hub import SCHEME, fetch
from verbatim.server.settings.options import DEMO_ID

PLACES = re.compile(r"(HF|hf)://|(https?://)?(www\.)?(hf\.co|huggingface\.co)/")
REPOSITORY = re.compile(
    r"(?P<name>\w[\w.-]*/\w[\w.-]*?)(:(?P<format>[\w.-]+))?((/tree/|@)(?P<revision>[\w./-]+))?/?", re.ASCII
)
NAMES = EMBEDDED | {DEMO_ID: MODEL}  # those of --model, and what clients call the demo
EMBEDDED_DRAFTS = {path: f"for --speculative-mode {mode}" for mode, path in DRAFTS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A model on the hub, which of its GGUF files, and which revision of it (default: its main branch)."""

    name: str
    format: str | None = None
    revision: str | None = None

    @property
    def url(self) -> str:
        """As `--model` takes it."""
        format = f":{self.format}" if self.format else ""
        return f"{SCHEME}{self.name}{format}{f'@{self.revision}' if self.revision else ''}"


def read_repository(text: str, revision: str | None = None) -> Repository:
    """The repository that a name stands for; ModelError if it is none, or names a second revision."""
    match = REPOSITORY.fullmatch(PLACES.sub("", text, count=1))
    if match is None:
        raise ModelError(f"{text!r} is no model of the hub: write user/repo, HF://user/repo or hf.co/user/repo")
    named = match["revision"]
    if revision and named and revision != named:
        raise ModelError(f"{text} names the revision {named}, --revision {revision}")
    return Repository(name=match["name"], format=match["format"], revision=named or revision)


def find_directory(text: str) -> Path:
    """Where a model lies on this machine: embedded, a directory or GGUF file, in the hub's cache; else ModelError."""
    if text in NAMES:
        return NAMES[text]
    if Path(text).is_dir() or (is_gguf(Path(text)) and Path(text).is_file()):
        return Path(text)
    if not REPOSITORY.fullmatch(PLACES.sub("", text, count=1)):
        raise ModelError(f"{text} is no directory, and no embedded model; those are {', '.join(EMBEDDED)}")
    return fetch(read_repository(text).url, is_local=True)
