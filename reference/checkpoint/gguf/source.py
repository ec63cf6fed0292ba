"""A model in a GGUF file: shape, vocabulary, template and weights from the one file, or from all parts of it."""

from functools import cached_property
from pathlib import Path
from typing import Any

from verbatim.reference.checkpoint.families import make_config
from verbatim.reference.checkpoint.gguf.architectures import architecture_of
from verbatim.reference.checkpoint.gguf.files import parts_of
from verbatim.reference.checkpoint.gguf.header import Entry, read_header
from verbatim.reference.checkpoint.gguf.metadata import Metadata
from verbatim.reference.checkpoint.gguf.names import rename
from verbatim.reference.checkpoint.gguf.shapes import biases, raw_config
from verbatim.reference.checkpoint.medusa import MedusaCheckpoint
from verbatim.reference.checkpoint.model_source import ModelSource, digest_of
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.numerics.quantization import GGUF
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.errors import ModelError
from verbatim.reference.text.template import ChatTemplate, make_template, read_template_file
from verbatim.reference.text.tokenizer import Tokenizer
from verbatim.reference.text.tokenizers import gguf_file

END_IDS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")
BEGIN_ID = "tokenizer.ggml.bos_token_id"
SAMPLING = {
    "temperature": "temp", "top_p": "top_p", "min_p": "min_p", "repetition_penalty": "penalty_repeat",
}  # fmt: skip
TEMPLATE = "tokenizer.chat_template"


class GgufSource(ModelSource):
    """A GGUF file, of whatever name; the others of a split one lie beside it."""

    @cached_property
    def _opened(self) -> tuple[Metadata, dict[str, Entry]]:
        """Metadata (of the first file), and the tensors of all files."""
        headers = [read_header(path) for path in parts_of(self.path)]
        entries: dict[str, Entry] = {}
        for header in headers:
            if twice := entries.keys() & header.tensors.keys():
                raise ModelError(f"{header.path}: tensor {min(twice)} is there twice")
            entries |= header.tensors
        return Metadata(self.path, headers[0].metadata), entries

    def metadata(self) -> Metadata:
        """What the file says of itself."""
        return self._opened[0]

    def config(self) -> ModelConfig:
        """From the metadata, as the family reads the config.json that stands for it."""
        changes = {"quantization": GGUF, "norm_offset": 0.0} | biases(self._opened[1])  # norms are stored as they act
        return make_config(self.raw_config(), {}, **changes)

    def raw_config(self) -> dict[str, Any]:
        """The config.json that the metadata stands for."""
        found, entries = self._opened
        raw = raw_config(found, entries)
        ids = [found.integer(name, least=0, most=raw["vocab_size"] - 1) for name in (*END_IDS, BEGIN_ID)]
        ends = [number for number in ids[:-1] if number is not None]
        ends += gguf_file.end_ids(found.values)
        return raw | {"eos_token_id": list(dict.fromkeys(ends)), "bos_token_id": ids[-1]}

    def tokenizer(self) -> Tokenizer:
        """From `tokenizer.ggml`."""
        return gguf_file.read_gguf_tokenizer(self.path.name, self._opened[0].values)

    def chat_template(self, tokenizer: Tokenizer, file: Path | None = None) -> ChatTemplate | None:
        """From `tokenizer.chat_template`, and those with a name."""
        found, _ = self._opened
        sources = {"default": read_template_file(file)} if file else {}
        if not file and (text := found.text(TEMPLATE)):
            names = found.get("tokenizer.chat_templates")
            names = names if isinstance(names, list) else []
            others = {name: found.text(f"{TEMPLATE}.{name}") for name in names}
            sources = {name: source for name, source in others.items() if source} | {"default": text}
        return make_template(sources, gguf_file.special_tokens(found.values), tokenizer)

    def generation_defaults(self) -> dict:
        """From `general.sampling`."""
        found, _ = self._opened
        values: dict[str, Any] = {
            ours: found.number(f"general.sampling.{theirs}", is_positive=False) for ours, theirs in SAMPLING.items()
        }
        values["top_k"] = found.integer("general.sampling.top_k", least=-1)
        return {name: value for name, value in values.items() if value is not None}

    def pooling(self) -> str:
        """The mean, or the last token where the file says so."""
        number = self._opened[0].integer(".pooling_type", least=0)
        if number not in (None, 0, 1, 3):
            raise self._opened[0].error(".pooling_type", f"must be 1 (mean) or 3 (last), not {number}")
        return "last" if number == 3 else "mean"

    def tensors(self) -> dict[str, Tensor]:
        """All tensors under the names of the model's family."""
        found, entries = self._opened
        return rename(self.config(), entries, has_pairs=architecture_of(found).has_pairs)

    def weight_files(self) -> list[Path]:
        """The file, or all parts."""
        return parts_of(self.path)

    def digest(self, beginning: bytes = b"") -> str:
        """Of names, sizes and contents of the files."""
        return digest_of(self.weight_files(), beginning)

    @property
    def created(self) -> int:
        """That of the file."""
        return int(self.path.stat().st_mtime)

    def eagle_config(self) -> ModelConfig:
        """There is no eagle head in this format."""
        raise ModelError(f"{self.path} is a GGUF file: an eagle head is a directory with config.json and safetensors")

    def medusa(self) -> MedusaCheckpoint:
        """There are no medusa heads in this format."""
        raise ModelError(f"{self.path} is a GGUF file: medusa heads are a directory with config.json and safetensors")
