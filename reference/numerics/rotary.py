"""The rotary embedding's table: cosines and sines of every position, from float64 + - * / only (N6).

A library's cos or pow differs between platforms in the last bit; this table does not, since each step is one correctly
rounded IEEE operation. All engines use this table. (RoFormer, https://arxiv.org/abs/2104.09864.)
"""

from dataclasses import replace

import numpy as np

from verbatim.reference.records.rope import PositionScale, Rope, RopeScaling

LN2 = 0.6931471805599453
PI = 3.141592653589793
# π/2 in three parts; the first two have 33 bits, so that multiples up to 2^20 are exact in float64 (Cody and Waite).
HALF_PI = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)


def rotary_table(rope: Rope, num_positions: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of the rotated features, each float32 (num_positions, rotary_dim / 2)."""
    angles = np.arange(num_positions, dtype=np.float64)[:, None] * inverse_frequencies(rope)[None, :]
    factor = rope.scaling.attention_factor if rope.scaling else 1.0
    cosines, sines = cos_sin(angles)
    return (cosines * factor).astype(np.float32), (sines * factor).astype(np.float32)


def position_scales(scale: PositionScale, num_positions: int) -> np.ndarray:
    """The factor of the queries at each position, float32 (num_positions,), from float64 (N8)."""
    whole = (np.arange(num_positions) + scale.offset) // scale.length
    steps = [1.0 + scale.beta * natural_log(1.0 + step) for step in range(int(whole[-1]) + 1)]
    return np.array(steps).astype(np.float32)[whole]


def inverse_frequencies(rope: Rope) -> np.ndarray:
    """theta^(-2i / rotary_dim) in float64, scaled as the model's config says."""
    exponents = np.arange(0, rope.rotary_dim, 2, dtype=np.float64) / rope.rotary_dim
    frequencies = 1.0 / power(rope.theta, exponents)
    return frequencies if rope.scaling is None else SCALINGS[rope.scaling.rope_type](frequencies, rope, rope.scaling)


def _linear(frequencies: np.ndarray, rope: Rope, scaling: RopeScaling) -> np.ndarray:
    return frequencies / scaling.factor


def _dynamic(frequencies: np.ndarray, rope: Rope, scaling: RopeScaling) -> np.ndarray:
    """A larger base for a served context beyond the original one ("NTK-aware", https://arxiv.org/abs/2309.00071)."""
    if scaling.context <= scaling.original_context:
        return frequencies
    ratio = scaling.factor * scaling.context / scaling.original_context - (scaling.factor - 1.0)
    growth = power(ratio, np.array([rope.rotary_dim / (rope.rotary_dim - 2)]))[0]
    return inverse_frequencies(replace(rope, theta=float(rope.theta * growth), scaling=None))


def _llama3(frequencies: np.ndarray, rope: Rope, scaling: RopeScaling) -> np.ndarray:
    """Divide low frequencies by `factor`, keep high ones, blend those between by their number of rotations."""
    rotations = scaling.original_context * frequencies / (2 * PI)  # within the original context
    width = scaling.high_frequency_factor - scaling.low_frequency_factor
    above = rotations - scaling.low_frequency_factor
    blend = np.clip(above / width, 0.0, 1.0) if width else (above >= 0).astype(np.float64)  # Llama 4: nothing between
    return (1 - blend) * (frequencies / scaling.factor) + blend * frequencies


def _yarn(frequencies: np.ndarray, rope: Rope, scaling: RopeScaling) -> np.ndarray:
    """Like llama3, but blended by the index of the frequency (https://arxiv.org/abs/2309.00071)."""
    size = rope.rotary_dim

    def index(rotations: float) -> float:  # of the frequency with so many rotations within the original context
        return size * natural_log(scaling.original_context / (rotations * 2 * PI)) / (2 * natural_log(rope.theta))

    low, high = index(scaling.beta_fast), index(scaling.beta_slow)
    if scaling.truncates:
        low, high = np.floor(low), np.ceil(high)
    low, high = max(low, 0.0), min(high, size - 1.0)
    blend = 1 - np.clip((np.arange(size // 2) - low) / ((high - low) or 0.001), 0.0, 1.0)
    return (1 - blend) * (frequencies / scaling.factor) + blend * frequencies


def _longrope(frequencies: np.ndarray, rope: Rope, scaling: RopeScaling) -> np.ndarray:
    """Divide each frequency by a factor of its own (https://arxiv.org/abs/2402.13753)."""
    return frequencies / np.array(scaling.factors)


def _proportional(frequencies: np.ndarray, rope: Rope, scaling: RopeScaling) -> np.ndarray:
    """Keep the first frequencies, those of the whole head, and turn the rest by nothing (Gemma 4)."""
    return np.where(np.arange(len(frequencies)) < scaling.num_frequencies, frequencies / scaling.factor, 0.0)


SCALINGS = {
    "linear": _linear, "dynamic": _dynamic, "llama3": _llama3, "yarn": _yarn, "longrope": _longrope,
    "proportional": _proportional,
}  # fmt: skip


def natural_log(value: float) -> float:
    """The natural logarithm of a positive number."""
    return _log2(value) * LN2


def power(base: float, exponents: np.ndarray) -> np.ndarray:
    """base^exponents for base > 0, as 2^(exponents * log2(base)), to about 1e-14 relative."""
    exact = exponents * _log2(base)
    whole = np.rint(exact)
    fraction = (exact - whole) * LN2
    series = np.ones_like(fraction)
    for n in range(18, 0, -1):  # e^x = 1 + x/1 (1 + x/2 (1 + x/3 ...
        series = 1.0 + fraction / n * series
    return np.ldexp(series, whole.astype(np.int32))


def _log2(value: float) -> float:
    """log2 of a positive number: the exponent, plus the series of 2 artanh((m - 1) / (m + 1))."""
    mantissa, exponent = np.frexp(np.float64(value))
    t = (mantissa * 2 - 1) / (mantissa * 2 + 1)  # 2m in [1, 2), so t in [0, 1/3)
    series = np.float64(0)
    for n in range(61, 0, -2):
        series = series * (t * t) + 1.0 / n
    return float(exponent - 1 + 2 * t * series / LN2)


def cos_sin(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine in float64 of angles up to about 1.6 million, by reduction to ±π/4 and Taylor series."""
    quarters = np.rint(angles / (PI / 2))
    x = angles
    for part in HALF_PI:
        x = x - quarters * part
    square = x * x
    cosine, sine = np.ones_like(x), np.ones_like(x)
    for n in range(20, 0, -2):  # cos x = 1 - x²/(1·2) (1 - x²/(3·4) (...
        cosine = 1.0 - square / ((n - 1) * n) * cosine
        sine = 1.0 - square / (n * (n + 1)) * sine
    sine = sine * x
    quadrant = quarters.astype(np.int64) % 4
    cosines = np.choose(quadrant, [cosine, -sine, -cosine, sine])
    sines = np.choose(quadrant, [sine, cosine, -sine, -cosine])
    return cosines, sines
