"""A model on disk as one object: a source gives its shape, words, weights and identity; callers open no file.

`open_source` chooses the kind of source by what lies at the path. Another format on disk is one more class here.
"""

from abc import ABC, abstractmethod
from hashlib import sha256
from pathlib import Path

from verbatim.reference.checkpoint.families import (
    load_config,
    load_eagle_config,
    read_generation_defaults,
    unread_keys,
)  # fmt: skip
from verbatim.reference.checkpoint.foreign import check_readable
from verbatim.reference.checkpoint.medusa import MedusaCheckpoint, load_medusa
from verbatim.reference.checkpoint.pooling import load_pooling
from verbatim.reference.checkpoint.weights import Tensor, Weights, load_shards
from verbatim.reference.records.config import ModelConfig, read_json
from verbatim.reference.text.template import ChatTemplate, load_template
from verbatim.reference.text.tokenizer import Tokenizer
from verbatim.reference.text.tokenizers import load_tokenizer

HUGGING_FACE_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "tokenizer.model", "merges.txt")
READ_BYTES = 64 << 20  # of all files together, at most, for a digest
BLOCK_BYTES = 64 << 10  # each may be a movement of a disk's head


class ModelSource(ABC):
    """A model, or what drafts for one, at `path`. Every method raises ModelError naming what is missing or wrong."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @abstractmethod
    def config(self) -> ModelConfig:
        """The shape of the model."""

    def unread(self) -> list[str]:
        """The names of settings of the model that nothing here knows, and that are passed over; for the log."""
        return []

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


class HuggingFaceSource(ModelSource):
    """A directory as transformers writes it: config.json, safetensors, tokenizer files, a template."""

    def config(self) -> ModelConfig:
        """From config.json and generation_config.json."""
        check_readable(self.path)
        return load_config(self.path)

    def unread(self) -> list[str]:
        """Keys of config.json."""
        return unread_keys(self.path)

    def raw_config(self) -> dict:
        """config.json as it stands there."""
        return read_json(self.path / "config.json")

    def tokenizer(self) -> Tokenizer:
        """From the files that tokenizers/ knows."""
        return load_tokenizer(self.path)

    def chat_template(self, tokenizer: Tokenizer, file: Path | None = None) -> ChatTemplate | None:
        """From chat_template.jinja or tokenizer_config.json."""
        return load_template(self.path, tokenizer, file)

    def generation_defaults(self) -> dict:
        """From generation_config.json."""
        return read_generation_defaults(self.path)

    def pooling(self) -> str:
        """From 1_Pooling/config.json; the mean where there is none."""
        return load_pooling(self.path)

    def shards(self) -> dict[str, dict[str, Tensor]]:
        """The tensors file by file: file name -> tensor name -> tensor."""
        return load_shards(self.path)

    def tensors(self) -> dict[str, Tensor]:
        """From model.safetensors or all shards."""
        return {name: tensor for shard in self.shards().values() for name, tensor in shard.items()}

    def weight_files(self) -> list[Path]:
        """All safetensors, and config.json."""
        return sorted([*self.path.glob("*.safetensors"), self.path / "config.json"])

    def digest(self, beginning: bytes = b"") -> str:
        """Of names, sizes and contents of all files that are fetched of a model."""
        digest = sha256(beginning)
        paths = sorted({path for pattern in HUGGING_FACE_FILES for path in self.path.glob(pattern)})
        stride = BLOCK_BYTES * max(1, -(-sum(path.stat().st_size for path in paths) // READ_BYTES))
        for path in paths:
            digest.update(f"{path.name} {path.stat().st_size} ".encode())
            with path.open("rb") as file:
                for start in range(0, path.stat().st_size, stride):
                    file.seek(start)
                    digest.update(file.read(BLOCK_BYTES))
        return digest.hexdigest()

    @property
    def created(self) -> int:
        """That of config.json."""
        return int((self.path / "config.json").stat().st_mtime)

    def eagle_config(self) -> ModelConfig:
        """From the config.json of the head."""
        check_readable(self.path)
        return load_eagle_config(self.path)

    def medusa(self) -> MedusaCheckpoint:
        """From config.json and safetensors."""
        check_readable(self.path)
        return load_medusa(self.path)


def open_source(path: str | Path) -> HuggingFaceSource:
    """The source at a path; the method that needs a missing file raises the error."""
    return HuggingFaceSource(path)
