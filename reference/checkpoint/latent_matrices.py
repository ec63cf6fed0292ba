"""The matrices of latent attention (N8a), as engines take them: rotated rows first, and two upward ones for each head.

Files have the rotated features last and, where they are pairs side by side, in turn: selecting rows puts the first
features of all pairs before the second ones, as in N6. `kv_b_proj` holds, for each head, what multiplies a query into
the space of latents, transposed, and what makes a value of a latent. Both stay floats in every format.
"""

import numpy as np

from verbatim.reference.checkpoint.layer_reader import LayerReader
from verbatim.reference.checkpoint.quantized.matrices import RoundedTensor
from verbatim.reference.checkpoint.tensors import LatentMatrices, Matrix
from verbatim.reference.checkpoint.weights import FLOATS, Tensor
from verbatim.reference.numerics.quantization import GGUF
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.latent import LatentAttention


def read_latent(config: ModelConfig, latent: LatentAttention, reader: LayerReader) -> dict:
    """The fields of a Layer that make queries, keys and values."""
    hidden, heads = config.hidden_size, config.num_heads
    name = "self_attn.q_b_proj" if latent.query_rank else "self_attn.q_proj"
    query = reader.matrix(name, heads * config.query_dim, latent.query_rank or hidden)
    key = reader.matrix("self_attn.kv_a_proj_with_mqa", config.head_dim, hidden)
    key_up, value_up = _upward(config, latent, reader)
    matrices = LatentMatrices(
        query_down=reader.matrix("self_attn.q_a_proj", latent.query_rank, hidden) if latent.query_rank else None,
        query_norm=reader.vector("self_attn.q_a_layernorm", latent.query_rank) if latent.query_rank else None,
        latent_norm=reader.vector("self_attn.kv_a_layernorm", latent.rank),
        key_up=key_up,
        value_up=value_up,
    )
    pairs = _pairs(latent)
    rows = np.arange(heads * config.query_dim).reshape(heads, -1)
    query_rows = np.concatenate([rows[:, latent.plain_dim + pairs], rows[:, : latent.plain_dim]], axis=1).reshape(-1)
    key_rows = np.concatenate([latent.rank + pairs, np.arange(latent.rank)])
    return {"query": _select(query, query_rows), "key": _select(key, key_rows), "value": None, "latent": matrices}


def _upward(config: ModelConfig, latent: LatentAttention, reader: LayerReader) -> tuple[tuple[Matrix, ...], ...]:
    """What multiplies queries, and what makes values, for each head; some GGUF files have them apart."""
    heads, plain = config.num_heads, latent.plain_dim
    if config.quantization == GGUF and f"{reader.prefix}self_attn.k_b_proj.weight" in reader.weights:
        keys = reader.floats("self_attn.k_b_proj", (heads, latent.rank, plain))
        values = reader.floats("self_attn.v_b_proj", (heads, latent.value_dim, latent.rank))
        parts = (_stretched(keys, heads * latent.rank), latent.rank), (_stretched(values, -1), latent.value_dim)
        return tuple(tuple(_part(x, i * size, (i + 1) * size) for i in range(heads)) for x, size in parts)
    each = plain + latent.value_dim
    up, starts = reader.floats("self_attn.kv_b_proj", (heads * each, latent.rank)), range(0, heads * each, each)
    return (
        tuple(_part(up, start, start + plain, is_transposed=True) for start in starts),
        tuple(_part(up, start + plain, start + each) for start in starts),
    )


def _stretched(stack: Tensor, outputs: int) -> Tensor:
    """The matrices of a stack below each other."""
    return Tensor(stack.name, stack.dtype, stack.bits.reshape(outputs, *stack.bits.shape[2:]))


def _pairs(latent: LatentAttention) -> np.ndarray:
    """The places of the rotated features in the file, in the order of N6."""
    places = np.arange(latent.rotated_dim)
    return places.reshape(-1, 2).T.reshape(-1) if latent.is_interleaved else places


def _select(matrix: Matrix, rows: np.ndarray) -> Matrix:
    """A matrix with its outputs in another order, copied or made so later."""
    weight = matrix.weight.select(f"{matrix.weight.name}[in order]", rows)
    scales = matrix.scales and matrix.scales.select(f"{matrix.scales.name}[in order]", rows)
    return Matrix(weight=weight, scales=scales, num_inputs=matrix.num_inputs)


def _part(whole: Tensor, start: int, stop: int, *, is_transposed: bool = False) -> Matrix:
    """Some rows as a matrix of floats: a view of floats in a file, else made of its numbers when they are wanted."""
    rows = whole.rows(start, stop)
    shape = (whole.shape[1], stop - start) if is_transposed else (stop - start, whole.shape[1])
    if type(whole) is Tensor and whole.dtype in FLOATS:
        bits = rows.bits.T if is_transposed else rows.bits
        return Matrix(weight=Tensor(rows.name, whole.dtype, bits), num_inputs=shape[1])
    is_float = whole.dtype in FLOATS

    def make(first: int, last: int) -> np.ndarray:
        numbers = rows.numbers() if is_float else _rounded(rows)
        return (numbers.T if is_transposed else numbers)[first:last]

    made = RoundedTensor(
        name=rows.name, dtype=whole.dtype if is_float else "F16", bits=whole.bits, num_inputs=shape[1],
        chosen=np.arange(shape[0]), make=make, is_sound=lambda: True,
    )  # fmt: skip
    return Matrix(weight=made, num_inputs=shape[1])


def _rounded(rows: Tensor) -> np.ndarray:
    """float16 numbers of a matrix of integers; ModelError where they do not fit."""
    with np.errstate(over="ignore"):
        numbers = rows.float32().astype(np.float16)
    if not np.isfinite(numbers).all():
        raise ModelError(f"weights: tensor {rows.name} is too large for float16")
    return numbers
