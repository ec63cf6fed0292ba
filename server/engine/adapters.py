"""The names of an engine's LoRA adapters: `--lora` gives some, `/v1/load_lora_adapter` gives and takes others."""

from collections.abc import Mapping
from pathlib import Path

from verbatim.reference.checkpoint.lora.adapter import Adapter
from verbatim.reference.engine.loop import Engine
from verbatim.reference.records.errors import RequestError
from verbatim.server.settings.adapters import fetch_adapter


class NamedAdapters:
    """The adapters of `engine` by their names, at first those at `places`; two names may stand for the same files."""

    def __init__(self, engine: Engine, places: Mapping[str, Path | str] | None = None):
        self._engine = engine
        self._adapters: dict[str, Adapter] = {}
        for name, place in (places or {}).items():
            self.load(name, fetch_adapter(place))

    def load(self, name: str, path: Path) -> None:
        """Load an adapter; RequestError for a name that is in use, ModelError or BackendError if it cannot be."""
        if name in self._adapters:
            message = f"the LoRA adapter {name!r} is loaded already, from {self._adapters[name].path}: unload it first"
            raise RequestError(message, field="lora_name")
        self._adapters[name] = self._engine.adapters.load(path)

    def unload(self, name: str) -> None:
        """Take a name away; its requests are answered to their end."""
        if name not in self._adapters:
            raise RequestError(f"no LoRA adapter {name!r} is loaded", field="lora_name", code="model_not_found")
        key = self._adapters.pop(name).key
        if all(adapter.key != key for adapter in self._adapters.values()):
            self._engine.adapters.unload(key)

    def describe(self) -> list[dict[str, str]]:
        """Name, path and key of each, for the HTTP workers."""
        return [
            {"name": name, "path": str(adapter.path), "key": adapter.key} for name, adapter in self._adapters.items()
        ]
