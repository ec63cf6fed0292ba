"""What every kind of source gives: a model's shape, words, weights and identity, wherever they lie on disk."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import wraps
from hashlib import sha256
from pathlib import Path
from typing import Any

from verbatim.reference.checkpoint.medusa import MedusaCheckpoint
from verbatim.reference.checkpoint.weights import Tensor, Weights
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.errors import ModelError
from verbatim.reference.text.template import ChatTemplate
from verbatim.reference.text.tokenizer import Tokenizer

READ_BYTES = 64 << 20  # of all files together, at most, for a digest
BLOCK_BYTES = 64 << 10  # each may be a movement of a disk's head
# What a file of another form than any that was foreseen ends in; named with the file's directory, in one line.
UNFORESEEN = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)
MAX_REASON = 200  # characters


class ModelSource(ABC):
    """A model, or what drafts for one, at `path`. Every method raises ModelError naming what is missing or wrong."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __init_subclass__(cls, **settings: Any):
        """Let no method end in anything but a ModelError, whatever the files hold."""
        super().__init_subclass__(**settings)
        for name, method in list(vars(cls).items()):
            if name in READERS:
                setattr(cls, name, _in_one_line(method))

    @abstractmethod
    def config(self) -> ModelConfig:
        """The shape of the model."""

    @abstractmethod
    def raw_config(self) -> dict:
        """The fields of config.json, or what stands for them."""

    def unread(self) -> list[str]:
        """The names of settings of the model that nothing here knows, and that are passed over; for the log."""
        return []

    def stored_as(self) -> str:
        """The format of the quantised matrices in a few words; "" where each has its own, or all are floats."""
        return ""

    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """Its vocabulary."""

    @abstractmethod
    def chat_template(self, tokenizer: Tokenizer, file: Path | None = None) -> ChatTemplate | None:
        """Its chat template, or that of a file in its place; None if it has none."""

    @abstractmethod
    def generation_defaults(self) -> dict:
        """What its authors recommend for sampling, under the names of generation_config.json; may be empty."""

    @abstractmethod
    def pooling(self) -> str:
        """How an embedding is made of its states: "mean" or "last"."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Name, shape, dtype and bytes of every tensor; the bytes are mapped and not read."""

    @abstractmethod
    def weight_files(self) -> list[Path]:
        """The files that the weights and the shape depend on, sorted."""

    @abstractmethod
    def digest(self, beginning: bytes = b"") -> str:
        """SHA-256 in hex of `beginning` and of the model's files; of large files blocks at even distances are read."""

    @property
    @abstractmethod
    def created(self) -> int:
        """When the model was made or fetched, in Unix seconds."""

    @abstractmethod
    def eagle_config(self) -> ModelConfig:
        """The shape of an eagle head."""

    @abstractmethod
    def medusa(self) -> MedusaCheckpoint:
        """The tensors of medusa heads."""

    def weights(self, *, is_checked: bool = False) -> Weights:
        """The tensors, each checked as it is taken; `is_checked` spares the search for values that are not finite."""
        return Weights(self.tensors(), is_checked=is_checked)


READERS = frozenset(
    name for name, method in vars(ModelSource).items() if callable(method) and not name.startswith("_")
)  # fmt: skip


def _in_one_line(method: Callable) -> Callable:
    """A method of a source whose unforeseen errors become ModelErrors."""

    @wraps(method)
    def read(source: ModelSource, *words: Any, **settings: Any) -> Any:
        try:
            return method(source, *words, **settings)
        except UNFORESEEN as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:MAX_REASON]}"
            raise ModelError(f"{source.path}: its {method.__name__} cannot be read: {reason}") from error

    return read


def digest_of(paths: Iterable[Path], beginning: bytes) -> str:
    """SHA-256 in hex of `beginning` and of files: names, sizes, and contents as `ModelSource.digest` reads them."""
    digest, paths = sha256(beginning), sorted(paths)
    stride = BLOCK_BYTES * max(1, -(-sum(path.stat().st_size for path in paths) // READ_BYTES))
    for path in paths:
        digest.update(f"{path.name} {path.stat().st_size} ".encode())
        with path.open("rb") as file:
            for start in range(0, path.stat().st_size, stride):
                file.seek(start)
                digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()
