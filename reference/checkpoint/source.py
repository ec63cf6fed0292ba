"""A model on disk as one object: a source gives its shape, words, weights and identity; callers open no file.

`open_source` chooses the kind of source by what lies at the path. Another format on disk is one more class.
"""

from pathlib import Path

from verbatim.reference.checkpoint.families import (
    load_config,
    load_eagle_config,
    read_generation_defaults,
    unread_keys,
)  # fmt: skip
from verbatim.reference.checkpoint.foreign import check_files, check_readable
from verbatim.reference.checkpoint.gguf.files import find_file
from verbatim.reference.checkpoint.gguf.source import GgufSource
from verbatim.reference.checkpoint.medusa import MedusaCheckpoint, load_medusa
from verbatim.reference.checkpoint.mlc.files import SHARDS, is_artifact
from verbatim.reference.checkpoint.mlc.source import MlcSource
from verbatim.reference.checkpoint.model_source import ModelSource, digest_of
from verbatim.reference.checkpoint.pooling import load_pooling
from verbatim.reference.checkpoint.quantized.reading import read_tensors
from verbatim.reference.checkpoint.quantized.settings import read_settings
from verbatim.reference.checkpoint.weights import Tensor, load_shards
from verbatim.reference.numerics.quantization import read_entry
from verbatim.reference.records.config import ModelConfig, read_json
from verbatim.reference.text.template import ChatTemplate, load_template
from verbatim.reference.text.tokenizer import Tokenizer
from verbatim.reference.text.tokenizers import load_tokenizer

HUGGING_FACE_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.jinja",
    "tokenizer.model",
    "merges.txt",
    SHARDS,
)


class HuggingFaceSource(ModelSource):
    """A directory as transformers writes it: config.json, safetensors, tokenizer files, a template."""

    def config(self) -> ModelConfig:
        """From config.json and generation_config.json."""
        check_readable(self.path)
        return load_config(self.path)

    def unread(self) -> list[str]:
        """Keys of config.json."""
        return unread_keys(self.path)

    def stored_as(self) -> str:
        """From `quantization` or `quantization_config` of config.json."""
        raw = self.raw_config()
        settings = read_settings(raw)
        return settings.text if settings else read_entry(raw) or ""

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
        """From model.safetensors or all shards; matrices that another tool quantised under their float names."""
        stored = {name: tensor for shard in self.shards().values() for name, tensor in shard.items()}
        settings = read_settings(self.raw_config())
        return read_tensors(stored, settings) if settings else stored

    def weight_files(self) -> list[Path]:
        """All safetensors, and config.json."""
        return sorted([*self.path.glob("*.safetensors"), self.path / "config.json"])

    def digest(self, beginning: bytes = b"") -> str:
        """Of names, sizes and contents of all files that are fetched of a model."""
        return digest_of({path for pattern in HUGGING_FACE_FILES for path in self.path.glob(pattern)}, beginning)

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


def open_source(path: str | Path) -> ModelSource:
    """The source at a path; the method that needs a missing file raises the error.

    A GGUF file is one, and so is a directory that holds a single model in GGUF files and no config.json. One
    with mlc-chat-config.json and no safetensors is an artifact of MLC.
    """
    check_files(Path(path))
    if is_artifact(Path(path)):
        return MlcSource(path)
    file = find_file(Path(path))
    return HuggingFaceSource(path) if file is None else GgufSource(file)
