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
UNBOUNDED = 1 << 30
ADAPTIVE_LENGTH = 4  # the most draft tokens of spec_draft_length 0
MIN_KEPT_STATES = 16  # of earlier texts, for the prefix cache
MAX_TREE_WIDTH = 8
MAX_DEFAULT_TOKENS = 32768  # pages for so many tokens by default, or for one whole context if that is longer


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """How much an engine takes on at once, and how. `max_total_seq_length` None is worked out.

    The names are those of the server's options. `prefill_chunk_size` is tokens a step. `spec_draft_length` is how many
    draft tokens to propose, 0 for what suits the batch; `spec_tree_width` how many branches of them, more than 1 with a
    draft model only. `context_window_size`, `sliding_window_size` and `attention_sink_size` stand in for the model's
    own. `prefix_cache_max_num_recycling_seqs` bounds the ended sequences that the prefix cache keeps; -1 is no bound.
    `max_history_size` is how many tokens a state (N14) can be rolled back, which bounds draft tokens of models with
    states; None for as many as there are draft tokens, 0 without speculation.
    `gpu_memory_utilization` is the share of a GPU's free memory that may be used. `kv_cache_dtype` is what keys and
    values are rounded to when they are stored (N1), those of a draft model too.
    """

    max_num_sequence: int = 16
    prefill_chunk_size: int = 512
    max_total_seq_length: int | None = None
    max_queue: int = 256
    prefill_mode: str = "hybrid"
    prefix_cache_mode: str = "radix"
    prefix_cache_max_num_recycling_seqs: int = -1
    speculative_mode: str = "disable"
    spec_draft_length: int = 0
    spec_tree_width: int = 1
    context_window_size: int | None = None
    sliding_window_size: int | None = None
    attention_sink_size: int | None = None
    max_history_size: int | None = None
    gpu_memory_utilization: float = 0.9
    kv_cache_dtype: str = "float32"

    def __post_init__(self):
        """Refuse limits under which nothing could run."""
        for name in ("max_num_sequence", "prefill_chunk_size", "max_queue"):
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
        most_ended = self.prefix_cache_max_num_recycling_seqs
        require(most_ended >= -1, "prefix_cache_max_num_recycling_seqs", most_ended, "at least -1")
        require_integer("spec_draft_length", self.spec_draft_length, 0, MAX_DRAFT_LENGTH)
        require_integer("max_history_size", self.max_history_size or 0, 0, MAX_DRAFT_LENGTH)
        require_integer("spec_tree_width", self.spec_tree_width, 1, MAX_TREE_WIDTH)
        require(
            self.spec_tree_width == 1 or self.speculative_mode == "small_draft",
            "spec_tree_width",
            self.spec_tree_width,
            f"1 in speculative mode {self.speculative_mode}: only small_draft goes on from several guesses",
        )
        tokens = self.max_total_seq_length
        require(tokens is None or tokens >= 1, "max_total_seq_length", tokens, "at least 1")
        require(
            self.prefill_chunk_size >= self.max_num_sequence,
            "prefill_chunk_size",
            self.prefill_chunk_size,
            f"at least max_num_sequence ({self.max_num_sequence}), so that every running sequence gets its token",
        )

    def reshape(self, config: ModelConfig) -> ModelConfig:
        """The model with a context and positions for it, or other sliding windows: its own, or one a layer if none."""
        context_size = self.context_window_size or config.context_size
        if context_size > config.longest_context:
            raise ModelError(
                f"context_window_size must be at most the model's own, {config.longest_context}, not {context_size}"
            )
        has_windows = any(layer.window for layer in config.layers)
        reshaped = [self._reshape_layer(layer, has_windows) for layer in config.layers]
        layers = tuple(replace(layer, rope=layer.rope and layer.rope.served(context_size)) for layer in reshaped)
        return replace(config, context_size=context_size, layers=layers)

    def _reshape_layer(self, layer: LayerConfig, has_windows: bool) -> LayerConfig:
        window = (
            self.sliding_window_size if self.sliding_window_size and (layer.window or not has_windows) else layer.window
        )
        if self.attention_sink_size and not (window or has_windows):
            raise ModelError(
                f"attention_sink_size {self.attention_sink_size} needs sliding windows: give a sliding_window_size, too"
            )
        own = self.attention_sink_size
        sinks = layer.sinks if own is None or window is None else own
        return replace(layer, window=window, sinks=sinks)

    def num_pages(self, config: ModelConfig, page_size: int) -> int:
        """How many pages an engine keeps for a model."""
        everything = self.max_num_sequence * config.context_size
        total = self.max_total_seq_length or min(everything, max(config.context_size, MAX_DEFAULT_TOKENS))
        return -(-total // page_size)

    def history(self, config: ModelConfig) -> int:
        """How many draft tokens can be taken back: any number where there are no states."""
        if not config.num_stateful_layers:
            return UNBOUNDED
        if self.speculative_mode == "disable":  # requests may bring draft tokens
            return self.max_history_size or 0
        return self.max_history_size if self.max_history_size is not None else self.spec_draft_length or ADAPTIVE_LENGTH

    def num_slots(self, config: ModelConfig) -> int:
        """How many slots an engine keeps for a model's states: those of running sequences, and as many to return to."""
        if not config.num_stateful_layers:
            return 0
        num_kept = max(self.max_num_sequence, MIN_KEPT_STATES) if self.prefix_cache_mode == "radix" else 1
        return self.max_num_sequence * (1 + self.history(config)) + num_kept
