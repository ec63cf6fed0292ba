"""How much an engine takes on at once, and by which means: the settings of the loop, whatever the model."""

from dataclasses import dataclass

from reference.config import ModelConfig
from reference.request import require, require_integer

PREFIX_CACHE_MODES = ("disable", "radix")
SPECULATIVE_MODES = ("disable", "ngram", "small_draft")
MAX_DRAFT_LENGTH = 16
MAX_DEFAULT_TOKENS = 32768  # pages for so many tokens by default, or for one whole context if that is longer


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """How much an engine takes on at once, and how. `max_total_tokens` None is worked out.

    `token_budget` is tokens a step. `draft_length` is how many tokens to guess ahead, 0 for what suits the batch.
    """

    max_num_sequences: int = 16
    token_budget: int = 512
    max_total_tokens: int | None = None
    max_queue: int = 256
    prefix_cache_mode: str = "radix"
    speculative_mode: str = "disable"
    draft_length: int = 0

    def __post_init__(self):
        """Refuse limits under which nothing could run."""
        for name in ("max_num_sequences", "token_budget", "max_queue"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.prefix_cache_mode in PREFIX_CACHE_MODES, "prefix_cache_mode", self.prefix_cache_mode,
                f"one of {', '.join(PREFIX_CACHE_MODES)}")  # fmt: skip
        require(self.speculative_mode in SPECULATIVE_MODES, "speculative_mode", self.speculative_mode,
                f"one of {', '.join(SPECULATIVE_MODES)}")  # fmt: skip
        require_integer("draft_length", self.draft_length, 0, MAX_DRAFT_LENGTH)
        tokens = self.max_total_tokens
        require(tokens is None or tokens >= 1, "max_total_tokens", tokens, "at least 1")
        require(
            self.token_budget >= self.max_num_sequences,
            "token_budget",
            self.token_budget,
            f"at least max_num_sequences ({self.max_num_sequences}), so that every running sequence gets its token",
        )

    def num_pages(self, config: ModelConfig, page_size: int) -> int:
        """How many pages an engine keeps for a model."""
        everything = self.max_num_sequences * config.context_size
        total = self.max_total_tokens or min(everything, max(config.context_size, MAX_DEFAULT_TOKENS))
        return -(-total // page_size)
