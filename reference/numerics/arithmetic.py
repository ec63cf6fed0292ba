"""Mirrored. The arithmetic of the contract: sums with one stated order, products, norms, exponentials (N0 to N7).

Every operation is float32, rounded to nearest-even, never fused. NumPy's own `sum`, `@` and `exp` promise no order
and no bits, so they appear here only where the result is exact. docs/numerics.md is the specification.
"""

import numpy as np

from verbatim.reference.numerics.quantization import GROUP_SIZE, QuantizedTensor, SuperblockTensor

LANES = 32
BLOCK = 256
GROUPS_PER_BLOCK = BLOCK // GROUP_SIZE
LOG2E = np.float32(1.4426950408889634)
TWO_LOG2E = np.float32(2.8853900817779268)
LN2 = np.float32(0.6931471805599453)

# Near-minimax polynomials (Chebyshev fits in float64, rounded): 2^f on [-1/2, 1/2], at most 1.2 ulp off;
# log2(1 + t) / t for 1 + t in [sqrt(1/2), sqrt(2)), at most 2.2 ulp off. Lowest power first.
EXP2_COEFFICIENTS = tuple(map(np.float32, (
    1.0, 0.6931471824645996, 0.24022650718688965, 0.055503569543361664, 0.009618056938052177,
    0.0013390866806730628, 0.00015461447765119374,
)))  # fmt: skip
LOG2_COEFFICIENTS = tuple(map(np.float32, (
    1.4426950216293335, -0.7213473320007324, 0.48091059923171997, -0.36070483922958374, 0.2879183292388916,
    -0.23892034590244293, 0.21566985547542572, -0.20742103457450867, 0.12614846229553223,
)))  # fmt: skip
SQRT_HALF_BITS = 0x3F3504F3  # the float32 next above sqrt(1/2)


def narrow(x: np.ndarray, dtype: str) -> np.ndarray:
    """Round x float32 to nearest-even in a dtype (N1): float32, float16, or bfloat16, whose 16 bits are uint16.

    Overflow gives an infinity. NaN stays a NaN, of any payload.
    """
    if dtype == "bfloat16":
        bits = x.view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16
        return np.where(np.isnan(x), np.uint32(0x7FC0), rounded).astype(np.uint16)
    with np.errstate(over="ignore"):
        return x.astype(dtype, copy=False)


def widen(stored: np.ndarray) -> np.ndarray:
    """Convert what `narrow` returned to float32, exactly (N1)."""
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32, copy=False)


def lane_sum(x: np.ndarray) -> np.ndarray:
    """Sum over the last axis (N2): lane j adds x[j], x[j+32], ... in order, then lanes fold 16, 8, 4, 2, 1."""
    *outer, size = x.shape
    rounds = -(-size // LANES)
    x = np.concatenate([x, np.zeros((*outer, rounds * LANES - size), np.float32)], axis=-1)
    x = x.reshape(*outer, rounds, LANES)
    lanes = np.zeros((*outer, LANES), np.float32)
    for i in range(rounds):
        lanes = lanes + x[..., i, :]
    for half in (16, 8, 4, 2, 1):
        lanes = lanes[..., :half] + lanes[..., half : 2 * half]
    return lanes[..., 0]


def linear(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """y[m,n] = sum over k of x[m,k] * weight[n,k] (N3): in order inside blocks of 256, then the blocks in order.

    x float32 (rows, inputs), weight float32 (outputs, inputs); returns float32 (rows, outputs).
    """
    rows, num_inputs = x.shape
    total = np.zeros((rows, weight.shape[0]), np.float32)
    columns = np.ascontiguousarray(weight.T)  # (inputs, outputs)
    product = np.empty_like(total)
    for start in range(0, num_inputs, BLOCK):
        block = np.zeros_like(total)
        for k in range(start, min(start + BLOCK, num_inputs)):
            np.multiply(x[:, k, None], columns[k], out=product)
            block += product
        total += block
    return total


def quantize_activations(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round rows to int8 in groups of 32 (N4): integers (rows, groups, 32) and their float32 scales (rows, groups)."""
    rows, num_inputs = x.shape
    padded = np.concatenate([x, np.zeros((rows, -num_inputs % GROUP_SIZE), np.float32)], axis=1)
    groups = padded.reshape(rows, padded.shape[1] // GROUP_SIZE, GROUP_SIZE)  # (rows, groups, 32), also of no rows
    largest = np.abs(groups).max(axis=-1)
    is_zero = largest < np.float32(2.0**-100)
    divisor = np.where(is_zero, np.float32(1), largest)
    scales = np.where(is_zero, np.float32(0), largest / np.float32(127))
    factors = np.where(is_zero, np.float32(0), np.float32(127) / divisor)
    return np.rint(groups * factors[..., None]).astype(np.int8), scales


def linear_quantized(x: np.ndarray, weight: QuantizedTensor) -> np.ndarray:
    """The product of int8 activations and weights (N4, N4g): exact integer dots of 32, scaled, then summed as in N3.

    x float32 (rows, inputs); returns float32 (rows, outputs).
    """
    integers, scales = quantize_activations(x)
    weight_scales = weight.scales.astype(np.float32)
    total = np.zeros((x.shape[0], weight.integers.shape[0]), np.float32)
    num_groups = scales.shape[1]
    sums = _scaled_sums(integers, scales, 1)
    for start in range(0, num_groups, GROUPS_PER_BLOCK):
        block = np.zeros_like(total)
        for g in range(start, min(start + GROUPS_PER_BLOCK, num_groups)):
            block += _dot(integers[:, g], weight.integers[:, g]) * (scales[:, g, None] * weight_scales[None, :, g])
            if weight.minimums is not None:
                block += sums[:, g] * weight.minimums[None, :, g]
        total += block
    return total


def linear_superblocks(x: np.ndarray, weight: SuperblockTensor) -> np.ndarray:
    """The same for scales that are integers times one number a block of 256 (N4g): a group's sum is an exact integer.

    x float32 (rows, inputs); returns float32 (rows, outputs).
    """
    integers, scales = quantize_activations(x)
    factors, parts = weight.factors.astype(np.float32), weight.factors.shape[2]
    sums = _scaled_sums(integers, scales, parts)
    total = np.zeros((x.shape[0], len(factors)), np.float32)
    size = GROUP_SIZE // parts
    for index in range(weight.scales.shape[1]):
        block = np.zeros_like(total)
        groups = range(index * GROUPS_PER_BLOCK, (index + 1) * GROUPS_PER_BLOCK)
        for g in groups:
            halves = [slice(part * size, (part + 1) * size) for part in range(parts)]
            dots = [_dot(integers[:, g, at], weight.integers[:, g, at]) for at in halves]
            # The sum of both halves stays below 2^24, so float32 holds it exactly.
            block += sum(dot * factors[None, :, g, part] for part, dot in enumerate(dots)) * scales[:, g, None]
        block = block * weight.scales[None, :, index]
        if weight.minimums is not None and weight.minimum_factors is not None:
            below = np.zeros_like(total)
            for g in groups:
                for part in range(parts):
                    below += sums[:, g, part, None] * weight.minimum_factors[None, :, g, part].astype(np.float32)
            block = block - below * weight.minimums[None, :, index]
        total += block
    return total


def _dot(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Integer products, int8 (rows, n) by (outputs, n). A dot of 32 products of int8 stays below 2^24, so float32
    holds it exactly in whatever order BLAS adds.
    """
    return x.astype(np.float32) @ weights.astype(np.float32).T


def _scaled_sums(integers: np.ndarray, scales: np.ndarray, parts: int) -> np.ndarray:
    """The exact sum of each part of a group's integers times the group's scale, float32 (rows, groups, parts)."""
    sums = integers.reshape(*scales.shape, parts, GROUP_SIZE // parts).sum(axis=-1, dtype=np.int32)
    return sums.astype(np.float32) * scales[..., None]


def rms_norm(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    """X * (1 / sqrt(mean(x²) + epsilon)) * weight over the last axis, left to right (N5)."""
    mean = lane_sum(x * x) / np.float32(x.shape[-1])
    scale = np.float32(1) / np.sqrt(mean + np.float32(epsilon))
    return x * scale[..., None] * weight


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, epsilon: float) -> np.ndarray:
    """C * (1 / sqrt(mean(c²) + epsilon)) * weight + bias, c = x - mean(x), over the last axis, left to right (N5)."""
    size = np.float32(x.shape[-1])
    centred = x - (lane_sum(x) / size)[..., None]
    scale = np.float32(1) / np.sqrt(lane_sum(centred * centred) / size + np.float32(epsilon))
    normed = centred * scale[..., None] * weight
    return normed if bias is None else normed + bias


def rotate(x: np.ndarray, cosines: np.ndarray, sines: np.ndarray) -> np.ndarray:
    """Rotate the two halves (a, b) of each head to (a c - b s, b c + a s); further features stay unchanged (N6).

    x (tokens, heads, head_dim); cosines and sines (tokens, half), of each token's position.
    """
    half = cosines.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    c, s = cosines[:, None, :], sines[:, None, :]
    return np.concatenate([a * c - b * s, b * c + a * s, rest], axis=-1)


def exp2(x: np.ndarray) -> np.ndarray:
    """2^x (N7): the nearest whole n, a polynomial of the rest, times 2^n. Below -126 it is 0; above 127, 2^127."""
    clamped = np.minimum(np.maximum(x, np.float32(-126)), np.float32(127))
    whole = np.rint(clamped)
    fraction = clamped - whole
    result = np.full_like(fraction, EXP2_COEFFICIENTS[-1])
    for coefficient in EXP2_COEFFICIENTS[-2::-1]:
        result = result * fraction + coefficient
    power = ((whole.astype(np.int32) + 127) << 23).view(np.float32)
    return np.where(x < np.float32(-126), np.float32(0), result * power)


def log2(x: np.ndarray) -> np.ndarray:
    """log2 of positive normal numbers (N7): the exponent, plus t times a polynomial of t for the mantissa 1 + t."""
    shifted = x.view(np.int32) - SQRT_HALF_BITS
    exponent = shifted >> 23
    mantissa = ((shifted & 0x007FFFFF) + SQRT_HALF_BITS).view(np.float32)  # in [sqrt(1/2), sqrt(2))
    t = mantissa - np.float32(1)
    result = np.full_like(t, LOG2_COEFFICIENTS[-1])
    for coefficient in LOG2_COEFFICIENTS[-2::-1]:
        result = result * t + coefficient
    return exponent.astype(np.float32) + t * result


def silu(x: np.ndarray) -> np.ndarray:
    """x / (1 + 2^(-x * log2(e))) (N7)."""
    return x / (np.float32(1) + exp2(-x * LOG2E))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + 2^(-x * log2(e))) (N7)."""
    return np.float32(1) / (np.float32(1) + exp2(-x * LOG2E))


def tanh(x: np.ndarray) -> np.ndarray:
    """1 - 2 / (1 + 2^(x * 2 log2(e))) (N7)."""
    return np.float32(1) - np.float32(2) / (np.float32(1) + exp2(x * TWO_LOG2E))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """x / 2 * (1 + tanh(sqrt(2/π) * (x + 0.044715 x³))) (N7), the form of GELU that Gemma uses."""
    cubic = x + np.float32(0.044715) * x * x * x
    return np.float32(0.5) * x * (np.float32(1) + tanh(np.float32(0.7978845608028654) * cubic))


def relu2(x: np.ndarray) -> np.ndarray:
    """The square of what is above 0 (N7)."""
    above = np.maximum(x, np.float32(0))
    return above * above


def clamped_gate(gate: np.ndarray, up: np.ndarray, alpha: float, limit: float) -> np.ndarray:
    """(up + 1) * (gate * sigmoid(gate * alpha)), gate clamped to at most `limit`, up to -limit and limit (N9a)."""
    bound = np.float32(limit)
    gate, up = np.minimum(gate, bound), np.maximum(np.minimum(up, bound), -bound)
    return (up + np.float32(1)) * (gate * sigmoid(gate * np.float32(alpha)))


def above_cutoff(gate: np.ndarray, cutoff: float) -> np.ndarray:
    """max(gate - (mean + deviation * cutoff), 0) over the last axis (N9a): what lies far above its row's mean."""
    size = np.float32(gate.shape[-1])
    mean = lane_sum(gate) / size
    centred = gate - mean[..., None]
    deviation = np.sqrt(lane_sum(centred * centred) / size)
    return np.maximum(gate - (mean + deviation * np.float32(cutoff))[..., None], np.float32(0))


ACTIVATIONS = {"silu": silu, "gelu_tanh": gelu_tanh, "relu2": relu2}
