"""The plan of the GPU's memory: weights, scratch, and as many KV pages as fit.

Sizes come from the files before anything is loaded: the error for a model that is too large lists each part's needs.
"""

from dataclasses import dataclass, replace

from verbatim.fastpath.cache.pages import PAGE_SIZE
from verbatim.fastpath.gpu.cache import page_bytes
from verbatim.fastpath.gpu.decoder import PARTS_BYTES, scratch_sizes
from verbatim.fastpath.gpu.formats import FLOATS, tensor_bytes
from verbatim.fastpath.gpu.operations import ROW_STATE_BYTES
from verbatim.fastpath.gpu.sampling import MOST_DRAWN
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.checkpoint.tensors import EMBEDDING, HEAD
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.errors import BackendError
from verbatim.reference.records.limits import EngineLimits

MODULE_BYTES = 64 << 20  # kernels, graphs, and the driver's own memory
MAX_ADAPTIVE_LENGTH = 4  # draft tokens where the length adapts to the batch (reference/speculation/speculators.py)
SAMPLING_BYTES = 32  # for each sampled row and token of the vocabulary: edited logits, weights, lists at their longest


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Bytes of each part, and the share of `free` that may be used."""

    weights: int
    scratch: int
    page: int
    free: int
    share: float

    @property
    def num_pages(self) -> int:
        """The number of pages that fit; may be negative."""
        return int((self.free * self.share - self.weights - self.scratch) // self.page)

    def limit(self, limits: EngineLimits, config: ModelConfig) -> EngineLimits:
        """The limits with as many cached tokens as are wanted and fit; BackendError if too few fit."""
        wanted = limits.num_pages(config, PAGE_SIZE)
        least = wanted if limits.max_total_seq_length else 1
        if self.num_pages < least:
            raise BackendError(self._shortage(least * PAGE_SIZE))
        return replace(limits, max_total_seq_length=min(wanted, self.num_pages) * PAGE_SIZE)

    def _shortage(self, tokens: int) -> str:
        parts = {
            "weights": self.weights, "scratch": self.scratch,
            f"cache of {tokens} tokens": tokens // PAGE_SIZE * self.page,
        }  # fmt: skip
        needs = ", ".join(f"{name} {size / 2**20:.1f} MiB" for name, size in parts.items())
        return (
            f"the model does not fit into {self.share:.0%} of the GPU's {self.free / 2**20:.1f} MiB of free memory: "
            f"{needs}; raise gpu_memory_utilization, lower the tokens in the cache or a step, store keys and values in "
            "16 bits, or quantise to w4a8"
        )


def make_plan(config: ModelConfig, directories, quantization, limits: EngineLimits, *, free: int) -> Plan:
    """The plan of the model in the first directory, with the draft model or heads in the others."""
    share = limits.gpu_memory_utilization
    rows = limits.prefill_chunk_size
    scratch = sum(scratch_sizes(config, rows).values()) + 4 * rows * config.vocab_size + PARTS_BYTES + MODULE_BYTES
    weights = [weights_bytes(place, quantization if number == 0 else None) for number, place in enumerate(directories)]
    drafts = 0 if limits.speculative_mode == "disable" else limits.spec_draft_length or MAX_ADAPTIVE_LENGTH
    drawn = min(MOST_DRAWN, 2 * limits.max_num_sequence * (1 + drafts))  # in powers of two
    return Plan(
        weights=sum(weights), scratch=scratch + drawn * (SAMPLING_BYTES * config.vocab_size + ROW_STATE_BYTES),
        page=page_bytes(config, limits.kv_cache_dtype) + _draft_page_bytes(config, directories, limits),
        free=free, share=share,
    )  # fmt: skip


def _draft_page_bytes(config: ModelConfig, directories, limits: EngineLimits) -> int:
    """Bytes of the draft model's page, or of the eagle head's single layer, for each page."""
    if limits.speculative_mode == "small_draft":
        return page_bytes(open_source(directories[1]).config(), limits.kv_cache_dtype)
    is_eagle = limits.speculative_mode == "eagle"
    return page_bytes(config, limits.kv_cache_dtype) // config.num_layers if is_eagle else 0


def weights_bytes(directory, quantization: str | None) -> int:
    """Bytes of all tensors on the device; a tied embedding of floats counts twice, as embedding and as head."""
    tensors = open_source(directory).tensors()
    is_tied = EMBEDDING in tensors and HEAD not in tensors and tensors[EMBEDDING].dtype in FLOATS
    total = sum(tensor_bytes(n, tensor, None if n == EMBEDDING else quantization) for n, tensor in tensors.items())
    return total + (tensor_bytes(HEAD, tensors[EMBEDDING], quantization) if is_tied else 0)
