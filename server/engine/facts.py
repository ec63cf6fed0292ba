"""What an engine says of itself to the HTTP workers: what it has loaded, as fingerprints and receipts name it.

The engine computes it from the files that it has just loaded, each time that it starts: a checkpoint that was replaced
has another fingerprint from then on, and the workers read its words anew (`renewed` of served.py).
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.receipts.receipt import EngineFacts
from verbatim.reference.records.errors import VerbatimError
from verbatim.server.engine.backends import device_of
from verbatim.server.engine.identity import fingerprint_of, own_version
from verbatim.server.engine.memory import served_shape
from verbatim.server.engine.model_text import read_text
from verbatim.server.settings.options import Options


class FilesChangedError(VerbatimError):
    """A model's files changed while they were loaded: what is in memory has no name."""


def load_with_facts(options: Options, load: Callable[[Options], Any]) -> tuple[Any, EngineFacts]:
    """An engine and what it has loaded; FilesChangedError if that is not known."""
    before = _files(options)
    engine = load(options)
    facts = facts_of(options, engine)
    if _files(options) != before:
        raise FilesChangedError(f"the files of {options.model} changed while they were loaded")
    return engine, facts


def facts_of(options: Options, engine: Any) -> EngineFacts:
    """What the engine has loaded, by its files as they are now."""
    words = read_text(options, engine.tokenizer).words
    return EngineFacts(
        backend=options.backend,
        device=device_of(options),
        version=own_version(),
        fingerprint=fingerprint_of(options, served_shape(options), *words),
        files=open_source(options.model).digest(),
        context_size=engine.context_size,
        quantization=options.quantization,
        kv_cache_dtype=options.kv_cache_dtype,
        context_window_size=options.context_window_size,
        sliding_window_size=options.sliding_window_size,
        attention_sink_size=options.attention_sink_size,
    )


def _files(options: Options) -> list[tuple[str, int, int, int]]:
    """Name, size, time and number of the files that the weights depend on."""
    found: list[tuple[Path, os.stat_result]] = [
        (path, path.stat()) for path in open_source(options.model).weight_files() if path.exists()
    ]
    return [(path.name, file.st_size, file.st_mtime_ns, file.st_ino) for path, file in found]
