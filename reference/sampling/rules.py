"""Mirrored. From logits to a token: probabilities are integers, so every engine draws the same one (N10).

Each rule is a function; `names.RULES` lists them in order, and `weigh` applies them up to a given one, so that
`--explain` can show the effect of each.
"""

from typing import NamedTuple

import numpy as np

from verbatim.reference.numerics.arithmetic import LN2, exp2, log2
from verbatim.reference.records.errors import NumericsError
from verbatim.reference.records.request import SamplingParams
from verbatim.reference.sampling.names import RULES
from verbatim.reference.sampling.rng import random_bits

WEIGHT_BITS = 40  # weights are fixed-point numbers with this many binary places: the likeliest token weighs 2^40


class Sampled(NamedTuple):
    """A chosen token; log-probabilities of the raw logits where the request asked for them, best first."""

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def sample(
    logits, sampling: SamplingParams, *, prompt_ids, output_ids, position: int, choice: int, excluded=()
) -> Sampled:
    """The token at `position`: the largest logit at temperature 0, else a draw by integer weights.

    logits float32 (vocab,); prompt_ids and output_ids are what the penalties count; `excluded` ids cannot be drawn.
    """
    if not np.isfinite(logits).all():
        raise NumericsError(f"a logit for position {position} is not a finite number")
    adjusted = adjust(logits, sampling, prompt_ids=prompt_ids, output_ids=output_ids)
    if not np.isfinite(adjusted).all():
        raise NumericsError(f"a penalized logit for position {position} is not a finite number")
    if sampling.temperature == 0:
        token_id = greedy(adjusted, excluded)
    else:
        token_id = draw(weigh(adjusted, sampling, excluded), random_bits(sampling.seed, position, choice))
    return Sampled(token_id=token_id) if sampling.logprobs is None else score(logits, token_id, sampling.logprobs)


def score(logits, token_id: int, num_top: int) -> Sampled:
    """A token with its log-probability and those of the `num_top` most probable ones."""
    if not np.isfinite(logits).all():
        raise NumericsError("a logit of the prompt is not a finite number")
    logprobs = log_softmax(logits)
    top = np.lexsort((np.arange(len(logits)), -logits))[:num_top]  # ties to the lower id
    pairs = tuple((int(i), float(logprobs[i])) for i in top)
    return Sampled(token_id=token_id, logprob=float(logprobs[token_id]), top=pairs)


def adjust(logits, sampling: SamplingParams, *, prompt_ids, output_ids, last_rule: str = "penalties") -> np.ndarray:
    """Step 1: logit_bias, then repetition, frequency and presence penalties. float32 (vocab,)."""
    adjusted = logits.astype(np.float32)  # a copy
    if last_rule == "model":
        return adjusted
    for token_id, bias in sampling.logit_bias.items():
        adjusted[token_id] += np.float32(bias)
    return adjusted if last_rule == "logit_bias" else _penalize(adjusted, sampling, prompt_ids, output_ids)


def _penalize(adjusted, sampling, prompt_ids, output_ids):
    seen = np.unique(np.asarray([*prompt_ids, *output_ids], np.int64))
    if sampling.repetition_penalty != 1 and len(seen):
        penalty, values = np.float32(sampling.repetition_penalty), adjusted[seen]
        adjusted[seen] = np.where(values < 0, values * penalty, values / penalty)
    sampled, counts = np.unique(np.asarray(output_ids, np.int64), return_counts=True)
    if len(sampled):
        adjusted[sampled] -= counts.astype(np.float32) * np.float32(sampling.frequency_penalty)
        adjusted[sampled] -= np.float32(sampling.presence_penalty)
    return adjusted


def greedy(adjusted, excluded=()) -> int:
    """Step 2 at temperature 0: the largest logit, ties to the lowest id."""
    allowed = adjusted.copy()
    allowed[list(excluded)] = -np.inf
    return int(np.argmax(allowed))


def weigh(adjusted, sampling: SamplingParams, excluded=(), last_rule: str = "min_p") -> np.ndarray:
    """Steps 2 and 3: integer weights, uint64 (vocab,), after every rule up to `last_rule`; a dropped token weighs 0."""
    rules = RULES[: RULES.index(last_rule) + 1]
    allowed = np.ones(len(adjusted), bool)
    if "mask" in rules:
        allowed[list(excluded)] = False
    factor = temperature_factor(sampling.temperature if "temperature" in rules else 1.0)
    exponents = (adjusted - adjusted[allowed].max()) * factor
    scaled = exp2(np.minimum(exponents, np.float32(0))) * np.float32(2.0**WEIGHT_BITS)
    weights = np.where(allowed, scaled, np.float32(0)).astype(np.uint64)
    if "top_k" in rules and sampling.top_k is not None:
        weights = keep_top_k(weights, sampling.top_k)
    if "top_p" in rules and sampling.top_p < 1:
        weights = keep_top_p(weights, fixed_point(sampling.top_p))
    if "min_p" in rules and sampling.min_p > 0:
        weights = keep_min_p(weights, fixed_point(sampling.min_p))
    return weights


def temperature_factor(temperature: float) -> np.float32:
    """log2(e) / temperature as float32, at most 2^100 so that it is finite; temperature 0 counts as 1."""
    return np.float32(min(1.4426950408889634 / (temperature or 1.0), 2.0**100))


def fixed_point(probability: float) -> int:
    """A probability as an integer of 32 binary places."""
    return round(probability * 2**32)


def by_weight(weights) -> np.ndarray:
    """Token ids from the heaviest to the lightest, ties to the lower id."""
    return np.argsort(-weights.astype(np.int64), kind="stable")


def keep_top_k(weights, top_k: int) -> np.ndarray:
    """Keep the k heaviest tokens."""
    kept = np.zeros_like(weights)
    order = by_weight(weights)[:top_k]
    kept[order] = weights[order]
    return kept


def keep_top_p(weights, top_p: int) -> np.ndarray:
    """Keep the shortest run of heaviest tokens whose sum reaches top_p / 2^32 of the total; at least one."""
    order = by_weight(weights)
    running = np.cumsum(weights[order], dtype=np.uint64)
    needed = top_p * int(running[-1]) >> 32
    count = max(1, int(np.searchsorted(running, np.uint64(needed), side="left")) + 1)
    kept = np.zeros_like(weights)
    kept[order[:count]] = weights[order[:count]]
    return kept


def keep_min_p(weights, min_p: int) -> np.ndarray:
    """Keep the tokens that weigh at least min_p / 2^32 of the heaviest."""
    needed = min_p * int(weights.max()) >> 32
    return np.where(weights >= np.uint64(needed), weights, np.uint64(0))


def draw(weights, bits: int) -> int:
    """Step 4: the first token, in id order, whose running sum exceeds bits / 2^64 of the total."""
    running = np.cumsum(weights, dtype=np.uint64)
    threshold = bits * int(running[-1]) >> 64
    return int(np.searchsorted(running, np.uint64(threshold), side="right"))


def log_softmax(logits) -> np.ndarray:
    """Natural log-probabilities of the raw logits: their distance to the largest, less the log of an integer total."""
    from_peak = logits - logits.max()
    total = int((exp2(from_peak * temperature_factor(1.0)) * np.float32(2.0**WEIGHT_BITS)).astype(np.uint64).sum())
    log_total = log2(np.array([total], np.uint64).astype(np.float32) * np.float32(2.0**-WEIGHT_BITS))[0]
    return from_peak - log_total * LN2
