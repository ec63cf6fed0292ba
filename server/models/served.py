"""What an HTTP worker knows about the models: names, tokenizers, templates, dialects. The weights are elsewhere."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.dialects import Dialect
from verbatim.reference.dialects.thoughts import ThoughtFormat
from verbatim.reference.receipts.receipt import EngineFacts
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.errors import ContextLengthError
from verbatim.reference.text.infill import Infill, find_infill
from verbatim.reference.text.template import ChatTemplate
from verbatim.reference.text.tokenizer import Tokenizer
from verbatim.server.engine.identity import DIGITS, fingerprint_of
from verbatim.server.engine.memory import served_shape
from verbatim.server.engine.model_text import read_text
from verbatim.server.errors import ModelNotFoundError
from verbatim.server.settings.options import Options

LONG_TEXT, SHORTENING = 1 << 16, 4  # characters; how much shorter a text may become before it is encoded
TAG = ":latest"  # Ollama's clients put it behind names


@dataclass(slots=True)
class Loaded:
    """What a model's engine says that it has loaded; None until it has."""

    facts: EngineFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One model as clients see it. `created` is in Unix seconds; `fingerprint` names what answers, not where."""

    model_id: str
    created: int
    fingerprint: str
    config: ModelConfig
    tokenizer: Tokenizer
    template: ChatTemplate | None
    dialect: Dialect
    thoughts: ThoughtFormat | None = None  # how it writes thoughts, if it does
    thought_ids: tuple[int, ...] = ()  # the control tokens in their marks
    pooling: str = "mean"
    is_for_embeddings: bool = False
    infill: Infill | None = None  # how it fills in the middle of a text
    sampling_defaults: Mapping[str, Any] = field(default_factory=dict)  # what its authors recommend
    other_names: tuple[str, ...] = ()  # under which clients may ask for it, too
    parent: str = ""  # of a LoRA adapter: the id of its model, the engine's key of it, and where its files are
    adapter: str = ""
    root: str = ""
    loaded: Loaded = field(default_factory=Loaded)

    @property
    def mark_ids(self) -> dict[str, int]:
        """The marks of its tool calls that are control tokens."""
        return self.dialect.mark_ids(self.tokenizer.control_ids)

    def check_prompt(self, token_ids: Sequence[int], field: str) -> None:
        """Refuse a prompt that cannot fit, before the engine has to read it; the engine itself may hold less."""
        if len(token_ids) >= self.config.context_size:
            raise self._too_long(f"the prompt has {len(token_ids)}", field)

    def check_text(self, pieces: Sequence[str | int], field: str) -> None:
        """Refuse text that cannot fit whatever its tokens are, before it is encoded. Normal forms may shorten it."""
        length = sum(len(piece) for piece in pieces if isinstance(piece, str))
        if length > LONG_TEXT and length > SHORTENING * self.config.context_size * self.tokenizer.longest_bytes:
            raise self._too_long(f"the prompt has {length} characters", field)

    def _too_long(self, found: str, field: str) -> ContextLengthError:
        """Clients (LiteLLM, for example) know this error by the beginning of its message."""
        message = f"This model's maximum context length is {self.config.context_size} tokens with the answer"
        return ContextLengthError(f"{message}; {found}.", field=field)

    @property
    def engine_id(self) -> str:
        """Whose engine answers: the model itself, or that of the adapter."""
        return self.parent or self.model_id

    def adapted(self, name: str, path: str, key: str) -> "ServedModel":
        """The model with a LoRA adapter, as clients see it."""
        fingerprint = f"{self.fingerprint}-lora-{key[:DIGITS]}"
        return replace(
            self, model_id=name, other_names=(), fingerprint=fingerprint, parent=self.model_id, adapter=key, root=path
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All names that clients may use; answers have the first."""
        return (self.model_id, *self.other_names)

    def describe(self, name: str = "") -> dict:
        """The entry of `GET /v1/models` under one of its names."""
        entry = {"id": name or self.model_id, "object": "model", "created": self.created, "owned_by": "verbatim"}
        entry |= {"max_model_len": self.config.context_size}
        entry |= {"root": self.root, "parent": self.parent} if self.parent else {}
        if self.sampling_defaults:
            entry["default_sampling_params"] = dict(self.sampling_defaults)
        return entry | ({"embeddings_only": True} if self.is_for_embeddings else {})


class ServedModels:
    """The models of one server by their ids; the first is the main one."""

    def __init__(self, models: Iterable[ServedModel]):
        self._models = {model.model_id: model for model in models}
        self._by_name = {name: model for model in self for name in model.names}
        self._adapters: dict[str, tuple[ServedModel, ...]] = {}  # of each model
        self._adapted: dict[str, ServedModel] = {}  # by their own names, and by those of their models before them

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def __len__(self) -> int:
        return len(self._models)

    def take_facts(self, options: Options, facts: EngineFacts) -> None:
        """Hear from an engine what it has loaded: if that is not what is known here, read the model's words anew."""
        known = self._models[options.model_id]
        known.loaded.facts = facts
        if known.fingerprint != facts.fingerprint:
            renewed = replace(load_served_model(options), fingerprint=facts.fingerprint, loaded=known.loaded)
            self._models[known.model_id] = renewed
            self._by_name |= dict.fromkeys(renewed.names, renewed)

    @property
    def main(self) -> ServedModel:
        """The one that answers where no model is named."""
        return next(iter(self))

    def set_adapters(self, model_id: str, adapters: Iterable[dict]) -> None:
        """The LoRA adapters that the model's engine has from now on; others are gone."""
        base = self._models[model_id]
        adapted = tuple(base.adapted(**adapter) for adapter in adapters)
        self._adapters = self._adapters | {model_id: adapted}
        self._adapted = {
            name: adapter
            for each, found in self._adapters.items()
            for adapter in found
            for name in (adapter.model_id, *(f"{own}:{adapter.model_id}" for own in self._models[each].names))
        }

    def has(self, name: str) -> bool:
        """Whether that is the name of a model or of an adapter."""
        return name in self._by_name or name in self._adapted

    def find(self, name: str) -> ServedModel:
        """The model of that name, perhaps with an adapter, or ModelNotFoundError: never another one."""
        name = name if self.has(name) else name.removesuffix(TAG)
        if not self.has(name):
            known = [*self._by_name, *(adapter.model_id for found in self._adapters.values() for adapter in found)]
            names = ", ".join(map(repr, known))
            raise ModelNotFoundError(f"The model {name[:200]!r} does not exist; this server has {names}.")
        return self._by_name.get(name) or self._adapted[name]

    def listed(self) -> list[tuple[str, ServedModel]]:
        """Names and models for lists: each model under all its names, then the adapters."""
        adapters = [(adapter.model_id, adapter) for found in self._adapters.values() for adapter in found]
        return [*self._by_name.items(), *adapters]

    def fingerprints(self) -> dict[str, str]:
        """The fingerprints of models and adapters by their names."""
        return {model.model_id: model.fingerprint for model in self} | {
            name: adapter.fingerprint for name, adapter in self._adapted.items()
        }

    def describe(self) -> list[dict]:
        """The entries of `GET /v1/models`: one for each name."""
        return [model.describe(name) for name, model in self.listed()]

    def of(self, body: object) -> ServedModel:
        """The one that the body of a request names; the main one for a body that names none, which is judged later."""
        name = body.get("model") if isinstance(body, dict) else None
        return self.find(name) if isinstance(name, str) and name else self.main


def load_served_model(options: Options) -> ServedModel:
    """Read what is needed beside the weights. ModelError if the directory or a file in it cannot be used."""
    config, text = served_shape(options), read_text(options)
    template, thoughts = text.template, text.thoughts
    if template:
        template.context_size = config.context_size
        template.defaults = json.loads(options.chat_template_kwargs or "{}")
    return ServedModel(
        model_id=options.model_id,
        created=open_source(options.model).created,
        fingerprint=fingerprint_of(options, config, *text.words),
        config=config,
        tokenizer=text.tokenizer,
        template=template,
        dialect=text.dialect,
        thoughts=thoughts,
        thought_ids=thoughts.visible_ids(text.tokenizer) if thoughts else (),
        pooling=text.pooling,
        is_for_embeddings=options.is_for_embeddings,
        infill=find_infill(text.tokenizer),
        sampling_defaults=text.sampling_defaults,
        other_names=options.names[1:],
    )
