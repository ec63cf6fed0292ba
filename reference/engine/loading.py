"""From a model directory to an engine: everything that is read from disk, in one place."""

import logging
from dataclasses import replace

import psutil

from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.checkpoint.tensors import Checkpoint
from verbatim.reference.engine.loop import Engine
from verbatim.reference.numerics.quantization import check_format, choose_format
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.limits import KV_CACHE_DTYPES, EngineLimits
from verbatim.reference.records.parts import Parts
from verbatim.reference.speculation.drafts import load_eagle_head, load_medusa_heads

LEAST_BYTES = 1 << 30  # of a cache, so that it matters how much memory there is
CACHE_SHARE = 0.5  # of the free memory
MOST_TOKENS = 1 << 18  # of a cache, and of a context, where nobody has said how many
logger = logging.getLogger("verbatim")


def load_engine(
    parts: Parts,
    directory,
    *,
    quantization: str | None = None,
    limits: EngineLimits | None = None,
    draft_directory=None,
    model_lib=None,
) -> Engine:
    """An engine over a model directory; raises ModelError naming what is wrong with it, or with its draft model.

    `model_lib` is what an engine that packs weights keeps of them; one that is complete spares their check.
    """
    limits = limits or EngineLimits()
    source = open_source(directory)
    config = limits.reshape(source.config())
    limits = fit_memory(limits, config, parts.page_size)
    config = held(config, limits, parts.page_size)
    if unread := source.unread():
        logger.info("config.json has keys that are not known here, and are passed over: %s", ", ".join(unread))
    tokenizer = source.tokenizer()
    is_checked = model_lib is not None and model_lib.is_complete
    checkpoint = open_checkpoint(config, source.weights(is_checked=is_checked))
    model = make_model(parts, config, checkpoint, quantization, model_lib)
    mode = limits.speculative_mode
    if not draft_directory:
        draft = None
    elif mode == "medusa":
        draft = load_medusa_heads(parts, draft_directory, config)
    elif mode == "eagle":
        draft = load_eagle_head(parts, draft_directory, config, checkpoint)
    else:  # one that is stored in integers stays as it is: draft tokens change no answer (N11)
        draft_format = None if open_source(draft_directory).config().quantization else quantization
        draft = load_model(parts, draft_directory, quantization=draft_format)
    return Engine(parts, config, model, tokenizer, limits=limits, draft_model=draft)


def fit_memory(limits: EngineLimits, config: ModelConfig, page_size: int) -> EngineLimits:
    """The limits with fewer tokens in the cache, where nobody has said how many and the memory lacks them."""
    num_tokens = limits.num_pages(config, page_size) * page_size
    each = (
        2 * config.num_layers * config.num_kv_heads * config.head_dim * KV_CACHE_DTYPES[limits.kv_cache_dtype].itemsize
    )
    is_small = num_tokens <= MOST_TOKENS and num_tokens * each < LEAST_BYTES
    if limits.max_total_seq_length is not None or is_small:
        return limits
    fitting = min(MOST_TOKENS, int(psutil.virtual_memory().available * CACHE_SHARE) // each)
    return limits if num_tokens <= fitting else replace(limits, max_total_seq_length=max(page_size, fitting))


def held(config: ModelConfig, limits: EngineLimits, page_size: int) -> ModelConfig:
    """The model with the context that its cache can hold: tables of positions beyond it would only take memory.

    Where all layers have windows the cache holds any text, and the context is at most MOST_TOKENS.
    """
    most = MOST_TOKENS if config.window is not None else limits.num_pages(config, page_size) * page_size
    return replace(config, context_size=min(config.context_size, most))


def load_model(parts: Parts, directory, *, quantization: str | None = None):
    """Only the model, which needs no tokenizer."""
    check_format(quantization)
    source = open_source(directory)
    config = source.config()
    return make_model(parts, config, open_checkpoint(config, source.weights()), quantization)


def make_model(parts: Parts, config: ModelConfig, checkpoint: Checkpoint, quantization: str | None, model_lib=None):
    """The model of a checkpoint, in the integers that it is stored in or that are asked for."""
    packed = {} if model_lib is None else {"model_lib": model_lib}
    return parts.Model(config, checkpoint, quantization=choose_format(config.quantization, quantization), **packed)
