"""The LoRA adapters of an engine: loaded from directories, and gone when the last request that uses them has ended."""

from collections.abc import Iterable
from pathlib import Path

from verbatim.reference.checkpoint.lora.adapter import Adapter, open_adapter
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.errors import BackendError, RequestError
from verbatim.reference.records.protocols import Model
from verbatim.reference.records.request import Request
from verbatim.reference.records.sequence import Sequence


class LoadedAdapters:
    """The adapters of `model` by their keys; `sequences` are those that the engine has, now and later."""

    def __init__(self, model: Model, config: ModelConfig, sequences: Iterable[Sequence] = ()):
        self._model, self._config, self._sequences = model, config, sequences
        self._leaving: set[str] = set()

    def load(self, path: Path) -> Adapter:
        """Load the adapter in a directory; ModelError if it cannot be used, BackendError where there are none."""
        adapters = getattr(self._model, "adapters", None)
        if adapters is None:
            raise BackendError(f"LoRA adapter {path}: a model on a GPU has no adapters; use --device cpu")
        adapter = open_adapter(path, self._config)
        adapters.add(adapter)
        self._leaving.discard(adapter.key)
        return adapter

    def unload(self, key: str) -> None:
        """Refuse further requests for an adapter; its memory is free when those that it has are done."""
        self._leaving.add(key)
        self.sweep()

    def check(self, request: Request) -> None:
        """Raise RequestError unless the adapter of a request is loaded."""
        if request.adapter and (request.adapter in self._leaving or not self._has(request.adapter)):
            message = f"the LoRA adapter {request.adapter[:16]} is not loaded, or no longer"
            raise RequestError(message, field="model", code="model_not_found")

    def _has(self, key: str) -> bool:
        adapters = getattr(self._model, "adapters", None)
        return adapters is not None and key in adapters

    def sweep(self) -> None:
        """Take those that are leaving and that no sequence uses any more out of memory."""
        for key in tuple(self._leaving):
            if not any(sequence.request.adapter == key for sequence in self._sequences):
                self._leaving.remove(key)
                self._model.adapters.remove(key)
