"""A model as MLC LLM converts it: shape, template and sampling from mlc-chat-config.json, weights from its shards."""

from functools import cached_property
from pathlib import Path
from typing import Any

from verbatim.reference.checkpoint.families import read_config
from verbatim.reference.checkpoint.medusa import MedusaCheckpoint
from verbatim.reference.checkpoint.mlc.files import CHAT_CONFIG, cache_file, check_digests, map_tensors, shard_files
from verbatim.reference.checkpoint.mlc.formats import FLOAT, check_format
from verbatim.reference.checkpoint.mlc.names import Names
from verbatim.reference.checkpoint.mlc.shapes import context_size, raw_config
from verbatim.reference.checkpoint.model_source import ModelSource, digest_of
from verbatim.reference.checkpoint.weights import Tensor, Weights
from verbatim.reference.numerics.quantization import MLC
from verbatim.reference.records.config import ModelConfig, read_json
from verbatim.reference.records.errors import ModelError
from verbatim.reference.text.conversation import conversation_template
from verbatim.reference.text.template import ChatTemplate, load_template, make_template
from verbatim.reference.text.tokenizer import Tokenizer, read_settings
from verbatim.reference.text.tokenizers import NAMES, load_tokenizer
from verbatim.reference.text.tokenizers.added_tokens import read_added_tokens

PENALTIES = ("presence_penalty", "frequency_penalty")  # which no request gets by default
SAMPLING = ("temperature", "top_p", "repetition_penalty")
WORDS = (*NAMES, "tokenizer_config.json", "chat_template.jinja", "added_tokens.json", "merges.txt")


class MlcSource(ModelSource):
    """A directory with mlc-chat-config.json."""

    @cached_property
    def _chat(self) -> dict[str, Any]:
        return read_json(self.path / CHAT_CONFIG)

    def config(self) -> ModelConfig:
        """From mlc-chat-config.json, as the family reads the config.json that stands for it."""
        changes: dict[str, Any] = {"norm_offset": 0.0}  # norms are stored as they act
        try:
            changes["quantization"] = None if check_format(self._chat.get("quantization")) in FLOAT else MLC
            if size := context_size(self._chat):
                changes["context_size"] = size
            return read_config(self._raw(), {}, **changes)
        except ModelError as error:
            raise self._error(str(error).removeprefix("config.json: ")) from None

    def raw_config(self) -> dict[str, Any]:
        """The config.json that mlc-chat-config.json stands for."""
        try:
            return self._raw()
        except ModelError as error:
            raise self._error(str(error)) from None

    def _error(self, what: str) -> ModelError:
        return ModelError(f"{self.path.name}/{CHAT_CONFIG}: {what}")

    def _raw(self) -> dict[str, Any]:
        raw = raw_config(self._chat)
        return raw | {"eos_token_id": list(dict.fromkeys((*raw["eos_token_id"], *self._named_ends())))}

    def _stops(self) -> list[str]:
        """The template's stop strings."""
        found = self._chat.get("conv_template")
        stops = (found.get("stop_str") or []) if isinstance(found, dict) else []
        if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
            raise ModelError(f"conv_template.stop_str must be a list of texts, not {str(stops)[:100]!r}")
        return stops

    def _named_ends(self) -> list[int]:
        """The ids of stop strings that are names of control tokens."""
        if not (stops := self._stops()):
            return []
        added = read_added_tokens(self.path, read_settings(self.path))
        names = {token.content: i for i, token in added.items() if token.is_special}
        if not all(stop in names for stop in stops) and any((self.path / name).exists() for name in NAMES):
            names = self.tokenizer().control_ids
        return [names[stop] for stop in stops if stop in names]

    def unread(self) -> list[str]:
        """Stop strings that are no tokens' names, penalties, and a template of which only the name is there."""
        found = self._chat.get("conv_template")
        if isinstance(found, str):
            return [f"conv_template {found!r}, a name without the template"]
        known = self.tokenizer().control_ids if self._stops() else ()
        passed = [f"conv_template.stop_str {stop!r}" for stop in self._stops() if stop not in known]
        return passed + [f"{name} {self._chat[name]}" for name in PENALTIES if self._chat.get(name)]

    def stored_as(self) -> str:
        """The name of the quantisation."""
        return f"MLC {self._chat.get('quantization')}"

    def tokenizer(self) -> Tokenizer:
        """From the files that tokenizers/ knows."""
        return load_tokenizer(self.path)

    def chat_template(self, tokenizer: Tokenizer, file: Path | None = None) -> ChatTemplate | None:
        """The authors' own of tokenizer_config.json, which knows tools and thoughts; else `conv_template`."""
        if (found := load_template(self.path, tokenizer, file)) is not None:
            return found
        conversation = self._chat.get("conv_template")
        if not isinstance(conversation, dict):
            return None
        try:
            text = conversation_template(conversation, tokenizer)
        except ModelError as error:
            raise self._error(str(error)) from None
        return make_template({"default": text}, read_settings(self.path), tokenizer)

    def generation_defaults(self) -> dict[str, Any]:
        """From mlc-chat-config.json."""
        return {name: self._chat[name] for name in SAMPLING if self._chat.get(name) is not None}

    def pooling(self) -> str:
        """From `embedding_metadata`; the mean where there is none."""
        metadata = self._chat.get("embedding_metadata")
        name = metadata.get("pooling_strategy", "mean") if isinstance(metadata, dict) else "mean"
        if name not in ("mean", "last"):
            raise self._error(f"embedding_metadata.pooling_strategy must be mean or last, not {name!r}")
        return str(name)

    def tensors(self) -> dict[str, Tensor]:
        """All parameters under the names of the model's family."""
        config = self.config()
        return Names(config, str(self._chat["quantization"])).rename(map_tensors(self.path))

    def weights(self, *, is_checked: bool = False) -> Weights:
        """The tensors; unless somebody has done so before, all bytes are compared with their MD5."""
        if not is_checked:
            check_digests(self.path)
        return super().weights(is_checked=is_checked)

    def weight_files(self) -> list[Path]:
        """The shards, their list, and mlc-chat-config.json."""
        return sorted([*shard_files(self.path), cache_file(self.path), self.path / CHAT_CONFIG])

    def digest(self, beginning: bytes = b"") -> str:
        """Of names, sizes and contents of these files and those of the vocabulary."""
        words = [self.path / name for name in WORDS]
        return digest_of([*self.weight_files(), *(path for path in words if path.exists())], beginning)

    @property
    def created(self) -> int:
        """That of mlc-chat-config.json."""
        return int((self.path / CHAT_CONFIG).stat().st_mtime)

    def eagle_config(self) -> ModelConfig:
        """MLC's eagle heads are not read."""
        raise ModelError(
            f"{self.path} is an artifact of MLC: an eagle head is a directory with config.json and safetensors"
        )

    def medusa(self) -> MedusaCheckpoint:
        """MLC's medusa heads are not read."""
        raise ModelError(
            f"{self.path} is an artifact of MLC: medusa heads are a directory with config.json and safetensors"
        )
