"""What quantisation costs: perplexity of a text, and how often a quantised model would say the float one's token.

Pages narrower than float32 (N1) are measured beside that. Every format is measured on the same token ids, by the engine
that is asked, each token given those before it. This is a measurement and no part of the contract: logarithms here are
float64 and NumPy's own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from verbatim.reference.cache.states import sole_state
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.commands.logits import check_ids
from verbatim.reference.engine.adapters import LoadedAdapters
from verbatim.reference.numerics.quantization import ALL_FORMATS
from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.sequence import Chunk

WINDOW = 512  # tokens that are read in one go, if the context holds them; a longer text is cut
STEP = 64  # rows of logits at once
SEED = 2026  # of the demo's held-out conversations


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one format: the mean negative log-likelihood of a token in nats, and the likeliest token at each place."""

    loss: float
    choices: np.ndarray

    @property
    def perplexity(self) -> float:
        """Among how many equally likely tokens the model would be as unsure."""
        return math.exp(self.loss)


def perplexity(
    backend,
    model_directory: Path,
    *,
    text: Path | None = None,
    ids: Sequence[int] = (),
    num_tokens: int = 4096,
    device: str = "auto",
    kv_cache_dtype: str = "float32",
    adapter: Path | None = None,
) -> None:
    """Print a table of float and every format, or of the format that a checkpoint has.

    What is read: the ids, the file `text`, or held-out conversations of the demo. RequestError if that is too little.
    """
    config = open_source(model_directory).config()
    windows = _windows(model_directory, config, text, list(ids), num_tokens)
    if not windows:
        raise RequestError("nothing to measure: two tokens of text are the least")
    formats = [config.quantization] if config.quantization else [None, *ALL_FORMATS]
    rows = [(name, kv_cache_dtype) for name in formats]
    rows = rows if kv_cache_dtype == "float32" else [(formats[0], "float32"), *rows]
    title = f"{sum(len(w) - 1 for w in windows)} tokens"
    table, exact = Table("weights", "keys and values", "perplexity", "same token as float", title=title), None
    for quantization, stored in rows:
        wanted = None if config.quantization else quantization  # what is stored stays as it is
        model = backend.load_model(model_directory, device=device, quantization=wanted)
        name = f"{quantization or 'float'}, {stored}"
        key = LoadedAdapters(model, model.config).load(adapter).key if adapter else ""
        now = measure(backend.parts_for(model), model, windows, name, kv_cache_dtype=stored, adapter=key)
        exact = now if (quantization, stored) == (None, "float32") else exact
        agreement = f"{(now.choices == exact.choices).mean():.1%}" if exact else "not measured"
        table.add_row(quantization or "float", stored, f"{now.perplexity:.4f}", agreement)
    Console().print(table)


def measure(
    parts, model, windows: list[list[int]], name: str, *, kv_cache_dtype: str = "float32", adapter: str = ""
) -> Measured:
    """Run the windows through a model with an adapter, by its key; `name` is shown beside the progress bar."""
    losses, choices = [], []
    for ids in track(windows, name, console=Console(stderr=True)):
        for logits, following in _steps(parts, model, ids, kv_cache_dtype, adapter):
            shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
            chosen = shifted[np.arange(len(following)), following]
            losses.append(np.log(np.exp(shifted).sum(axis=-1)) - chosen)
            choices.append(logits.argmax(axis=-1))
    return Measured(float(np.concatenate(losses).mean()), np.concatenate(choices))


def _steps(parts, model, ids: list[int], kv_cache_dtype: str, adapter: str):
    """Logits after each token but the last, some rows at a time, with the tokens that follow."""
    num_pages = -(-len(ids) // parts.page_size)
    cache = parts.PagedCache(model.config, num_pages, kv_cache_dtype, num_slots=1)
    pages = tuple(cache.allocate() for _ in range(num_pages))
    for start in range(0, len(ids) - 1, STEP):
        following = ids[start + 1 : start + 1 + STEP]
        chunk = Chunk(
            token_ids=tuple(ids[start : start + len(following)]), start=start, pages=pages, num_logits=len(following),
            adapter=adapter, **sole_state(start, len(following)),
        )  # fmt: skip
        yield np.asarray(model.forward([chunk], cache)), following


def _windows(model_directory: Path, config, text: Path | None, ids: list[int], num_tokens: int) -> list[list[int]]:
    """The token ids to read, cut to what the context holds; every stretch of a text begins as a prompt does."""
    size = min(WINDOW, config.context_size)
    if ids:
        check_ids(ids, config.vocab_size)
        return _cut(ids, [], size, num_tokens)
    tokenizer = open_source(model_directory).tokenizer()
    if text:
        try:
            words = text.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"--text: {text} cannot be read: {error}", field="text") from None
        return _cut(tokenizer.encode(words), list(tokenizer.bos_ids), size, num_tokens)
    template = open_source(model_directory).chat_template(tokenizer)
    if template is None:
        raise RequestError("the model has no chat template for the held-out conversations: give --text FILE or --ids")
    return _conversations(tokenizer, template, size, num_tokens)


def _cut(ids: list[int], beginning: list[int], size: int, limit: int) -> list[list[int]]:
    """Stretches of at most `size` tokens that make up the first `limit` of a text."""
    step = size - len(beginning)
    ids = ids[: max(limit, 0)]
    windows = [beginning + ids[start : start + step] for start in range(0, len(ids), step)]
    return [window for window in windows if len(window) > 1]


def _conversations(tokenizer, template, size: int, limit: int) -> list[list[int]]:
    """Conversations that the demo model was not trained on, through the model's own template."""
    from verbatim.demo.corpus import conversations

    windows, num_tokens = [], 0
    for conversation in islice(conversations(SEED, "heldout"), max(limit, 0)):
        window = tokenizer.encode_pieces(template.render(conversation.messages, conversation.tools or None))[:size]
        windows.append(window)
        num_tokens += len(window)
        if num_tokens >= limit:
            break
    return windows
