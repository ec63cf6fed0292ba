"""What fits into the memory that is free now: sequences at once, tokens in the cache, tokens a step.

`--mode` is for the number of users: `local` a few, `interactive` a single user, `server` many. Sizes that are given as
options stay; the rest follows from the mode, the model and the memory (docs/server.md, "Memory", has the formula). It
is estimated from the sizes in the model's files before anything is loaded: a model too large is refused with the
reasons and not ended by the system. Once worked out it stays: a restarted engine is like the engine before.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from verbatim.reference.checkpoint.lora.adapter import A_MATRIX, WEIGHTS
from verbatim.reference.checkpoint.quantized.matrices import GroupedTensor, RoundedTensor
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.checkpoint.stems import text_tensors
from verbatim.reference.checkpoint.tensors import EMBEDDING, HEAD, LAYER_INPUTS
from verbatim.reference.checkpoint.weights import STORED_AS, Tensor, map_file
from verbatim.reference.numerics.blocks import BLOCK_FORMATS
from verbatim.reference.numerics.quantization import MIXED, MXFP4
from verbatim.reference.records.cache_layout import cache_layout
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.limits import KV_CACHE_DTYPES, EngineLimits
from verbatim.server.engine.cgroups import rest_of_limits
from verbatim.server.errors import NotEnoughMemoryError
from verbatim.server.settings.options import Options

SHARE = 0.85  # of the free memory
PROCESSES_BYTES = 192 << 20  # Python, libraries and HTTP workers
LOCAL_TOKENS = 8192
DEFAULT_CHUNK = 512  # tokens a step: a long prompt holds up running streams no longer than that takes
NUM_SEQUENCES = {"local": 4, "interactive": 1, "server": 128}
ADVICE = (
    "lower --max-total-seq-length, --prefill-chunk-size or --max-num-sequence, use --quantization w8a8 or w4a8 "
    "or --kv-cache-dtype bfloat16, or take a smaller model"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Bytes: the weights, what a step works in, and each token in the cache."""

    weights: int
    scratch: int
    token: int


def fit_all(
    lineup: Sequence[tuple[Options, ModelConfig]],
    free: int,
    *,
    share: float = SHARE,
    needs_of: Callable[[Options, ModelConfig, int, int], Needs] | None = None,
) -> list[Options]:
    """The options of each model with all three sizes filled in.

    Of `free` bytes all of them together may use a `share`: weights and scratch, and for the caches equal parts of the
    rest. `needs_of` says what is needed, as `estimate` does. ValueError or NotEnoughMemoryError if it cannot be.
    """
    plans = [_plan(options, config, needs_of or estimate) for options, config in lineup]
    part = (share * free - sum(needs.weights + needs.scratch for _, _, needs in plans)) / len(plans)
    fitted = []
    for (options, _), (sizes, total, needs) in zip(lineup, plans, strict=True):
        room = int(part // max(needs.token, 1))  # a model of states alone has no keys and values
        if room < 1 or (options.max_total_seq_length or 1) > room:
            others = sum(other.weights + other.scratch for _, _, other in plans if other is not needs)
            what = f"the memory does not suffice{f' for {options.model_id}' if others else ''}"
            parts = _parts(needs, options.max_total_seq_length or total, others)
            limit = f"{share:.0%} of the free {_size(free)} may be used"
            raise NotEnoughMemoryError(f"{what}: {', '.join(parts)}; {limit}; {ADVICE}")
        fitted.append(replace(options, **sizes, max_total_seq_length=min(total, room)))
    return fitted


def _plan(options: Options, config: ModelConfig, needs_of: Callable) -> tuple[dict[str, Any], int, Needs]:
    """Two sizes, the tokens that the cache would have if there is room, and what all that needs."""
    sequences = options.max_num_sequence or NUM_SEQUENCES[options.mode]
    single = config.context_size
    most = {"local": min(single, LOCAL_TOKENS), "interactive": single, "server": sequences * single}[options.mode]
    total = options.max_total_seq_length or most
    chunk = options.prefill_chunk_size or max(min(DEFAULT_CHUNK, total, single), sequences)
    if chunk < sequences:
        raise ValueError(
            f"--prefill-chunk-size must be at least --max-num-sequence ({sequences}), "
            f"so that every running sequence gets its token, not {chunk}"
        )
    sizes = {"max_num_sequence": sequences, "prefill_chunk_size": chunk}
    return sizes, total, needs_of(options, config, sequences, chunk)


def estimate(options: Options, config: ModelConfig, sequences: int, chunk: int) -> Needs:
    """The memory of a model and its draft model, the way that the backend holds them."""
    quantization = options.quantization or config.quantization
    weights = _weights(options.model, options.backend, quantization)
    token = _cache_bytes(config, options.kv_cache_dtype)
    if options.draft:
        weights += _weights(options.draft, options.backend, None)
        if options.speculative_mode == "small_draft":
            token += _cache_bytes(open_source(options.draft).config(), options.kv_cache_dtype)
        elif options.speculative_mode == "eagle":  # its head is one layer
            token += _cache_bytes(config, options.kv_cache_dtype) // config.num_layers
    adapters, rank = _adapters(options)
    weights += adapters
    scratch = 4 * chunk * (_width(config) + 3 * rank) + 16 * sequences * config.vocab_size + PROCESSES_BYTES
    limits = EngineLimits(
        max_num_sequence=sequences, prefill_chunk_size=max(chunk, sequences), max_history_size=options.max_history_size,
        prefix_cache_mode=options.prefix_cache_mode, speculative_mode=options.speculative_mode,
        spec_draft_length=options.spec_draft_length,
    )  # fmt: skip
    scratch += limits.num_slots(config) * config.state_bytes
    return Needs(weights=weights, scratch=scratch, token=token)


def _width(config: ModelConfig) -> int:
    """Numbers that a step keeps of a token."""
    shapes = [config.heads_of(index) for index in range(config.num_layers)]
    queries = config.num_heads * max(head_dim for _, head_dim in shapes)
    keys = max(num_kv_heads * head_dim for num_kv_heads, head_dim in shapes)
    inner = max(layer.intermediate_size or config.intermediate_size for layer in config.layers)
    width = 4 * config.hidden_size + 3 * queries + 2 * keys + 4 * inner + config.vocab_size
    if config.latent:  # each head's queries and values, which are not those that attention takes
        width += config.latent.query_rank + config.num_heads * (config.query_dim + config.value_dim)
    if config.layer_inputs:  # while they are made, there are three of them
        width += 3 * config.num_layers * config.layer_inputs.size
    if config.streams:
        width += (3 * config.streams.count + 1) * config.hidden_size
    return width


def free_bytes() -> int:
    """What this process may still take: of the machine, or less where a control group has a limit."""
    import psutil  # by the main process alone

    return min([psutil.virtual_memory().available, *rest_of_limits()])


def _cache_bytes(config: ModelConfig, dtype: str) -> int:
    """Keys and values of a token as they are stored, values filled up to sixteen; of latent attention keys alone."""
    numbers = 0
    for group in cache_layout(config).groups:
        padded = 0 if config.latent else -(-group.head_dim // 16) * 16
        numbers += group.num_layers * group.num_kv_heads * (group.head_dim + padded)
    return KV_CACHE_DTYPES[dtype].itemsize * numbers


def _weights(directory: Path | str, backend: str, quantization: str | None) -> int:
    """All tensors; embeddings' rows as they are stored, and once more as the head where there is no other."""
    tensors = dict(text_tensors(open_source(directory).tensors()))
    is_tied = EMBEDDING in tensors and HEAD not in tensors
    embedded = [tensors[EMBEDDING] if is_tied else tensors.pop(EMBEDDING, None), tensors.pop(LAYER_INPUTS, None)]
    total = sum(_tensor_bytes(tensor, backend, quantization) for tensor in tensors.values())
    return total + sum(_rows_bytes(rows) for rows in embedded if rows)


def _adapters(options: Options) -> tuple[int, int]:
    """The bytes of the LoRA adapters of `--lora`, each directory once, and their largest rank."""
    total, rank = 0, 0
    for place in {Path(place) for place in options.adapters.values()}:
        if (file := place / WEIGHTS).is_file():
            for name, tensor in map_file(file).items():
                total += _tensor_bytes(tensor, options.backend, None)
                rank = max(rank, tensor.shape[0] if A_MATRIX in name else 0)
    return total, rank


def _rows_bytes(rows: Tensor) -> int:
    """An embedding: as it is stored, but for rounded floats."""
    return _rounded_bytes(rows) if isinstance(rows, RoundedTensor) else rows.bits.nbytes


def _rounded_bytes(tensor: RoundedTensor) -> int:
    return math.prod(tensor.shape) * STORED_AS[tensor.dtype].itemsize


def _tensor_bytes(tensor: Tensor, backend: str, quantization: str | None) -> int:
    """The reference widens floats to float32 and keeps four bits in eight; the fast path keeps both as they are."""
    is_narrow, count = backend == "fastpath", math.prod(tensor.shape)
    if isinstance(tensor, GroupedTensor):
        return tensor.num_bytes if is_narrow else count * 5 // 4
    if isinstance(tensor, RoundedTensor):
        return _rounded_bytes(tensor) if is_narrow else 4 * count
    if tensor.dtype in BLOCK_FORMATS:  # the fast path's strips are hardly larger than the file's blocks
        return tensor.bits.nbytes * 17 // 16 if is_narrow else math.prod(tensor.shape) * 5 // 4
    if tensor.dtype == "U8" and quantization == MXFP4:  # of MXFP4, kept as 8 bits
        return count * 9 // 4
    if tensor.dtype in ("I8", "U8"):
        return count if is_narrow or tensor.dtype == "I8" else 2 * count
    if quantization not in (None, *MIXED) and tensor.bits.ndim == 2:
        integers = 2 * count if quantization == "w16a16" else count
        return count // 16 + (count // 2 if quantization.startswith("w4") and is_narrow else integers)
    return tensor.bits.nbytes if is_narrow else 4 * count


def _parts(needs: Needs, num_tokens: int, others: int) -> list[str]:
    parts = [
        f"weights {_size(needs.weights)}",
        f"a cache of {num_tokens} tokens {_size(num_tokens * needs.token)}",
        f"scratch {_size(needs.scratch)}",
    ]
    return parts + ([f"the other models {_size(others)} beside their caches"] if others else [])


def _size(count: int) -> str:
    return f"{count / (1 << 30):.2f} GiB"


def load_shape(options: Options) -> ModelConfig:
    """The model as the options change it."""
    limits = EngineLimits(
        context_window_size=options.context_window_size,
        sliding_window_size=options.sliding_window_size,
        attention_sink_size=options.attention_sink_size,
    )
    return limits.reshape(open_source(options.model).config())


def served_shape(options: Options) -> ModelConfig:
    """The model as clients see it: what the cache cannot hold, no answer can have."""
    config = load_shape(options)
    most = options.max_total_seq_length
    if most is None or config.window is not None:
        return config
    return replace(config, context_size=min(config.context_size, most))
