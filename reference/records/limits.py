"""How much an engine takes on at once, and by which means: the settings of the loop, whatever the model."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from verbatim.reference.records.config import LayerConfig, ModelConfig
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.request import require, require_integer

PREFIX_CACHE_MODES = ("disable", "radix")
PREFILL_MODES = ("hybrid", "chunked")
DRAFT_MODES = ("small_draft", "medusa", "eagle")  # those that need a directory with weights of their own
SPECULATIVE_MODES = ("disable", "ngram", *DRAFT_MODES)
# How keys and values are stored (N1), and what NumPy holds them in: of bfloat16, which it lacks, the 16 bits.
KV_CACHE_DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(np.uint16),
}
MAX_DRAFT_LENGTH = 16
MAX_TREE_WIDTH = 8
MAX_DEFAULT_TOKENS = 32768  # pages for so many tokens by default, or for one whole context if that is longer


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """How much an engine takes on at once, and how. `max_total_tokens` None is worked out.

    `token_budget` is tokens a step. `draft_length` is the draft tokens of a sequence, 0 for what suits the batch;
    `tree_width` how many first draft tokens to continue from, for a draft model only. `context_size`, `window` and
    `sinks` stand in for the model's own. `gpu_memory_utilization` is the share of a GPU's free memory that may be used.
    `kv_cache_dtype` is what keys and values are rounded to when they are stored (N1), those of a draft model too.
    """

    max_num_sequences: int = 16
    token_budget: int = 512
    max_total_tokens: int | None = None
    max_queue: int = 256
    prefill_mode: str = "hybrid"
    prefix_cache_mode: str = "radix"
    speculative_mode: str = "disable"
    draft_length: int = 0
    tree_width: int = 1
    context_size: int | None = None
    window: int | None = None
    sinks: int | None = None
    gpu_memory_utilization: float = 0.9
    kv_cache_dtype: str = "float32"

    def __post_init__(self):
        """Refuse limits under which nothing could run."""
        for name in ("max_num_sequences", "token_budget", "max_queue"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(0 < self.gpu_memory_utilization <= 1, "gpu_memory_utilization", self.gpu_memory_utilization,
                "above 0 and at most 1")  # fmt: skip
        require(self.kv_cache_dtype in KV_CACHE_DTYPES, "kv_cache_dtype", self.kv_cache_dtype,
                f"one of {', '.join(KV_CACHE_DTYPES)}")  # fmt: skip
        require(self.prefill_mode in PREFILL_MODES, "prefill_mode", self.prefill_mode,
                f"one of {', '.join(PREFILL_MODES)}")  # fmt: skip
        require(self.prefix_cache_mode in PREFIX_CACHE_MODES, "prefix_cache_mode", self.prefix_cache_mode,
                f"one of {', '.join(PREFIX_CACHE_MODES)}")  # fmt: skip
        require(self.speculative_mode in SPECULATIVE_MODES, "speculative_mode", self.speculative_mode,
                f"one of {', '.join(SPECULATIVE_MODES)}")  # fmt: skip
        require_integer("draft_length", self.draft_length, 0, MAX_DRAFT_LENGTH)
        require_integer("tree_width", self.tree_width, 1, MAX_TREE_WIDTH)
        require(
            self.tree_width == 1 or self.speculative_mode == "small_draft",
            "tree_width",
            self.tree_width,
            f"1 in speculative mode {self.speculative_mode}: only small_draft goes on from several guesses",
        )
        tokens = self.max_total_tokens
        require(tokens is None or tokens >= 1, "max_total_tokens", tokens, "at least 1")
        require(
            self.token_budget >= self.max_num_sequences,
            "token_budget",
            self.token_budget,
            f"at least max_num_sequences ({self.max_num_sequences}), so that every running sequence gets its token",
        )

    def reshape(self, config: ModelConfig) -> ModelConfig:
        """The model with a shorter context, or other sliding windows: those it has, or one a layer if it has none."""
        context_size = self.context_size or config.context_size
        if context_size > config.context_size:
            raise ModelError(
                f"context_window_size must be at most the model's own, {config.context_size}, not {context_size}"
            )
        has_windows = any(layer.window for layer in config.layers)
        layers = tuple(self._reshape_layer(layer, has_windows) for layer in config.layers)
        return replace(config, context_size=context_size, layers=layers)

    def _reshape_layer(self, layer: LayerConfig, has_windows: bool) -> LayerConfig:
        window = self.window if self.window and (layer.window or not has_windows) else layer.window
        if self.sinks and not (window or has_windows):
            raise ModelError(f"attention_sink_size {self.sinks} needs sliding windows: give a sliding_window_size, too")
        sinks = layer.sinks if self.sinks is None or window is None else self.sinks
        return replace(layer, window=window, sinks=sinks)

    def num_pages(self, config: ModelConfig, page_size: int) -> int:
        """How many pages an engine keeps for a model."""
        everything = self.max_num_sequences * config.context_size
        total = self.max_total_tokens or min(everything, max(config.context_size, MAX_DEFAULT_TOKENS))
        return -(-total // page_size)
