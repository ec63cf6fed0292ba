"""The names of an engine's LoRA adapters: `--lora` gives some, `/v1/load_lora_adapter` gives and takes others.

What is loaded is kept in a file, so that an engine that is started again has the same ones.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from verbatim.reference.checkpoint.lora.adapter import Adapter
from verbatim.reference.checkpoint.lora.base_name import other_base
from verbatim.reference.engine.loop import Engine
from verbatim.reference.records.errors import RequestError, VerbatimError
from verbatim.server.settings.adapters import fetch_adapter

logger = logging.getLogger("verbatim")


class NamedAdapters:
    """The adapters of `engine` by their names, at first those at `places`; two names may stand for the same files.

    `kept` is a file that holds what was loaded last; where it is there, it counts instead of `places`. `model_names`
    are those of the model, to which the adapters' own notes are compared.
    """

    def __init__(
        self, engine: Engine, places: Mapping[str, Path | str] | None = None, *, kept: Path | None = None,
        model_names: Iterable[str] = (),
    ):  # fmt: skip
        self._engine, self._kept, self._model_names = engine, None, tuple(model_names)
        self._adapters: dict[str, Adapter] = {}
        if kept is not None and kept.exists():
            self._load_again(json.loads(kept.read_text(encoding="utf-8")))
        else:
            for name, place in (places or {}).items():
                self.load(name, fetch_adapter(place))
        self._kept = kept

    def load(self, name: str, path: Path) -> str | None:
        """Load an adapter; RequestError for a name that is in use, ModelError or BackendError if it cannot be.

        Returns a warning, which is logged, too, if the adapter plainly names another model.
        """
        if name in self._adapters:
            message = f"the LoRA adapter {name!r} is loaded already, from {self._adapters[name].path}: unload it first"
            raise RequestError(message, field="lora_name")
        adapter = self._adapters[name] = self._engine.adapters.load(path)
        self._keep()
        if (base := other_base(adapter.base, self._model_names)) is None:
            return None
        warning = f"the LoRA adapter {name!r} names {base!r} as its base model, and not {self._model_names[0]!r}"
        logger.warning("%s; its shapes fit, its answers may not make sense", warning)
        return warning

    def unload(self, name: str) -> None:
        """Take a name away; its requests are answered to their end."""
        if name not in self._adapters:
            raise RequestError(f"no LoRA adapter {name!r} is loaded", field="lora_name", code="model_not_found")
        key = self._adapters.pop(name).key
        if all(adapter.key != key for adapter in self._adapters.values()):
            self._engine.adapters.unload(key)
        self._keep()

    def describe(self) -> list[dict[str, str]]:
        """Name, path and key of each, for the HTTP workers."""
        return [
            {"name": name, "path": str(adapter.path), "key": adapter.key} for name, adapter in self._adapters.items()
        ]

    def _load_again(self, places: Mapping[str, str]) -> None:
        """Load what the engine before this one had; what is gone since is logged and left out."""
        for name, place in places.items():
            try:
                self.load(name, Path(place))
            except VerbatimError as error:
                logger.error("The LoRA adapter %r is lost: %s", name, error)

    def _keep(self) -> None:
        """Write down what is loaded, in the place of what was there, at once."""
        if self._kept is not None:
            unfinished = self._kept.with_suffix(".new")
            unfinished.write_text(json.dumps({name: str(each.path) for name, each in self._adapters.items()}))
            unfinished.replace(self._kept)
