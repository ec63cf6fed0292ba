"""Loads draft models and heads, checks them against the model, and makes the speculator of the mode."""

from verbatim.reference.checkpoint.opening import open_eagle
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.checkpoint.tensors import Checkpoint
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.parts import Parts

NAMES = {"small_draft": "draft model", "medusa": "medusa heads", "eagle": "eagle head"}


def load_medusa_heads(parts: Parts, directory, config: ModelConfig):
    """Load the medusa heads in a directory, for a model of that configuration. They stay float."""
    checkpoint = open_source(directory).medusa()
    _check_same("medusa", checkpoint, config, "vocab_size", "hidden_size")
    return parts.MedusaHeads(checkpoint)


def load_eagle_head(parts: Parts, directory, config: ModelConfig, checkpoint: Checkpoint):
    """Load the eagle head in a directory: a model of one layer whose input is another model's states."""
    source = open_source(directory)
    eagle = source.eagle_config()
    _check_same("eagle", eagle, config, "vocab_size", "hidden_size")
    return parts.Model(eagle, open_eagle(eagle, source.weights(), checkpoint.embedding))


def make_speculator(parts: Parts, limits: EngineLimits, model, draft, num_pages: int):
    """Return the speculator of the mode, None if it is `disable`; ModelError if `draft` does not suit the model."""
    mode = limits.speculative_mode
    if mode == "disable":
        return None
    if model.config.num_stateful_layers and limits.spec_tree_width > 1:
        raise ModelError(f"spec_tree_width must be 1 for a model with states, not {limits.spec_tree_width}")
    if mode == "ngram":
        return parts.NgramSpeculator()
    if draft is None:
        raise ModelError(f"speculative mode {mode} needs a draft model: the directory of its {NAMES[mode]}")
    if mode == "medusa":
        if limits.spec_draft_length > len(draft):
            raise ModelError(
                f"spec_draft_length must be at most {len(draft)}, the medusa heads, not {limits.spec_draft_length}"
            )
        return parts.MedusaSpeculator(model, draft)
    cache = parts.PagedCache(draft.config, num_pages, limits.kv_cache_dtype)
    if mode == "eagle":
        return parts.EagleSpeculator(model, draft, cache)
    _check_same(mode, draft.config, model.config, "vocab_size")
    if draft.config.num_stateful_layers:
        raise ModelError("a draft model must not have states, as this one does: speculative mode small_draft has none")
    return parts.DraftSpeculator(draft, cache, spec_tree_width=limits.spec_tree_width)


def _check_same(mode: str, draft, model: ModelConfig, *sizes: str) -> None:
    for size in sizes:
        ours, theirs = getattr(draft, size), getattr(model, size)
        if ours != theirs:
            raise ModelError(f"{size} of the {NAMES[mode]} must be {theirs}, as the model's, not {ours}")
