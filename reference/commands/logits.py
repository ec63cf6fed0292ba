"""Logits of token ids, from either engine, in a file that NumPy reads. Options and help are `verbatim logits`'s."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from verbatim.reference.engine.adapters import LoadedAdapters
from verbatim.reference.records.errors import VerbatimError
from verbatim.reference.records.sequence import Chunk


def write_logits(
    backend,
    model_directory: Path,
    ids: Sequence[int],
    out: Path,
    *,
    device: str = "auto",
    quantization: str | None = None,
    kv_cache_dtype: str = "float32",
    adapter: Path | None = None,
) -> None:
    """Write float32 logits (tokens, vocabulary) as array `logits` of an npz. VerbatimError if the ids do not fit."""
    model = backend.load_model(model_directory, device=device, quantization=quantization)
    config = model.config
    key = LoadedAdapters(model, config).load(adapter).key if adapter else ""
    check_ids(ids, config.vocab_size)
    if len(ids) > config.context_size:
        raise VerbatimError(f"--ids: {len(ids)} tokens do not fit the context of {config.context_size}")
    parts = backend.parts_for(model)
    num_pages = -(-len(ids) // parts.page_size)
    cache = parts.PagedCache(config, num_pages, kv_cache_dtype)
    pages = tuple(cache.allocate() for _ in range(num_pages))
    chunk = Chunk(token_ids=tuple(ids), start=0, pages=pages, num_logits=len(ids), adapter=key)
    with out.open("wb") as file:
        np.savez(file, logits=np.asarray(model.forward([chunk], cache)))


def check_ids(ids: Sequence[int], vocab_size: int) -> None:
    """Refuse token ids that the model does not have, with a VerbatimError."""
    wrong = [token_id for token_id in ids if not 0 <= token_id < vocab_size]
    if wrong:
        raise VerbatimError(f"--ids: token id {wrong[0]} is not below the vocabulary's size, {vocab_size}")
