"""Quantiles of the normal distribution, from float64 + - * / only, as those of the rotary table (N6)."""

import numpy as np

from verbatim.reference.numerics.rotary import PI, power

E = 2.718281828459045
FARTHEST = 8.0  # standard deviations
STEPS = 64  # of bisection


def normal_quantile(share: float) -> float:
    """How many standard deviations above the mean a normal variable is exceeded by all but this `share` (0 to 1)."""
    low, high = -FARTHEST, FARTHEST
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _share_below(middle) < share else (low, middle)
    return (low + high) / 2


def _share_below(x: float) -> float:
    """1/2 + density * (x + x³/3 + x⁵/(3·5) + ...)."""
    density = float(power(E, np.array([-x * x / 2]))[0]) / (2 * PI) ** 0.5
    term = total = x
    for n in range(3, 301, 2):
        term = term * x * x / n
        total = total + term
    return 0.5 + density * total
