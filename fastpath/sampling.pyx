"""Mirrored. From logits to a token: probabilities are integers, so every engine draws the same one (N10).

The rules that keep or draw by weight are in selection.pyx; this is the way from logits to weights, and round them.
"""

from typing import NamedTuple

import numpy as np

from fastpath.dispatch cimport table
from fastpath.rng cimport bits_at
from fastpath.selection cimport cut_min_p, cut_top_k, cut_top_p, draw as first_past, total_weight
from libc.limits cimport LONG_MAX
from libc.stdint cimport uint32_t, uint64_t

from fastpath.numerics import LN2, log2
from fastpath.selection import draw  # noqa: F401: a mirrored name
from reference.errors import NumericsError
from reference.sampling_rules import RULES

ONE = 40  # weights are fixed-point numbers with this many binary places: the likeliest token weighs 2^40

cdef enum:
    MAX_TOP = 64

cdef uint64_t CERTAIN = <uint64_t>1 << 32  # the probability 1 as fixed_point writes it


class Sampled(NamedTuple):
    """A chosen token; log-probabilities of the raw logits where the request asked for them, best first."""

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def sample(logits, sampling, *, prompt_ids, output_ids, position: int, choice: int, excluded=()):
    """The token at `position`: the largest logit at temperature 0, else a draw by integer weights.

    logits float32 (vocab,); prompt_ids and output_ids are what the penalties count; `excluded` ids cannot be drawn.
    """
    adjusted = logits = np.ascontiguousarray(logits, np.float32)  # once: a row may have to come from a GPU
    cdef const float[::1] row = logits
    if not is_finite(row):
        raise NumericsError(f"a logit for position {position} is not a finite number")
    if adjusts(sampling):
        row = adjusted = adjust(logits, sampling, prompt_ids=prompt_ids, output_ids=output_ids)
        if not is_finite(row):
            raise NumericsError(f"a penalized logit for position {position} is not a finite number")
    if len(excluded):
        row = _without(adjusted, excluded)
    cdef drawing how = drawing_of(sampling)
    token_id = choose(row, &how, position, choice, None if how.factor == 0 else np.empty(len(row), np.uint64))
    if sampling.logprobs is None:
        return tuple.__new__(Sampled, (token_id, None, ()))
    return score(logits, token_id, sampling.logprobs)


cdef drawing drawing_of(sampling) except *:
    """A request's settings as numbers, which change nothing where it asks for nothing."""
    cdef drawing how
    cdef double temperature = sampling.temperature
    how.factor = temperature_factor(temperature) if temperature else 0
    how.seed = sampling.seed & 0xFFFFFFFFFFFFFFFF
    how.top_k = min(sampling.top_k or 0, LONG_MAX)
    how.top_p, how.min_p = fixed_point(sampling.top_p), fixed_point(sampling.min_p)
    return how


cdef Py_ssize_t choose(const float[::1] row, const drawing *how, uint64_t position, long choice, uint64_t[::1] weights):
    """Steps 2 to 4 for adjusted logits without those excluded; `weights` (vocab,) is room for a draw."""
    cdef float peak = _peak(row)
    if how.factor == 0:
        return _first(row, peak)
    table().weigh(&row[0], row.shape[0], peak, how.factor, &weights[0])
    _cut(weights, how)
    return first_past(weights, bits_at(how.seed, position, choice))


def score(logits, token_id: int, num_top: int) -> Sampled:
    """A token with its log-probability and those of the `num_top` most probable ones."""
    logits = np.ascontiguousarray(logits, np.float32)
    if not is_finite(logits):
        raise NumericsError("a logit of the prompt is not a finite number")
    logprobs = log_softmax(logits)
    pairs = tuple([(i, float(logprobs[i])) for i in _largest(logits, num_top)])
    return Sampled(token_id=token_id, logprob=float(logprobs[token_id]), top=pairs)


cdef bint is_finite(const float[::1] logits) noexcept:
    """An exponent of all ones is infinite or no number; no early end, so that several are looked at together."""
    cdef const uint32_t *bits = <const uint32_t *>&logits[0]
    cdef uint32_t is_any = 0
    cdef Py_ssize_t i
    for i in range(logits.shape[0]):
        is_any |= (bits[i] & 0x7F800000) == 0x7F800000
    return not is_any


def _largest(const float[::1] logits, Py_ssize_t count) -> list[int]:
    """The ids of the largest logits, best first, ties to the lower id; by insertion into a short list."""
    cdef Py_ssize_t best[MAX_TOP]
    cdef Py_ssize_t found = 0, i, at
    if count > MAX_TOP:
        raise ValueError(f"logprobs must be at most {MAX_TOP}, not {count}")
    for i in range(logits.shape[0] if count > 0 else 0):
        if found == count and logits[i] <= logits[best[found - 1]]:
            continue
        found += found < count
        at = found - 1
        while at > 0 and logits[i] > logits[best[at - 1]]:
            best[at] = best[at - 1]
            at -= 1
        best[at] = i
    return [best[i] for i in range(found)]


cdef bint adjusts(sampling) except -1:
    """Whether a request changes logits at all."""
    cdef double repetition = sampling.repetition_penalty
    cdef double frequency = sampling.frequency_penalty, presence = sampling.presence_penalty
    return repetition != 1 or frequency != 0 or presence != 0 or bool(sampling.logit_bias)


def adjust(logits, sampling, *, prompt_ids, output_ids, last_rule: str = "penalties"):
    """Step 1: logit_bias, then repetition, frequency and presence penalties. float32 (vocab,)."""
    adjusted = np.array(logits, np.float32)  # a copy
    if last_rule == "model":
        return adjusted
    for token_id, bias in sampling.logit_bias.items():
        adjusted[token_id] += np.float32(bias)
    return adjusted if last_rule == "logit_bias" else _penalize(adjusted, sampling, prompt_ids, output_ids)


def _penalize(adjusted, sampling, prompt_ids, output_ids):
    if sampling.repetition_penalty != 1:
        seen = np.unique(np.asarray([*prompt_ids, *output_ids], np.int64))
        penalty, values = np.float32(sampling.repetition_penalty), adjusted[seen]
        adjusted[seen] = np.where(values < 0, values * penalty, values / penalty)
    if sampling.frequency_penalty != 0 or sampling.presence_penalty != 0:  # else x - 0 twice
        said, counts = np.unique(np.asarray(output_ids, np.int64), return_counts=True)
        adjusted[said] -= counts.astype(np.float32) * np.float32(sampling.frequency_penalty)
        adjusted[said] -= np.float32(sampling.presence_penalty)
    return adjusted


def greedy(adjusted, excluded=()) -> int:
    """Step 2 at temperature 0: the largest logit, ties to the lowest id."""
    cdef const float[::1] row = np.ascontiguousarray(_without(adjusted, excluded), np.float32)
    return _first(row, _peak(row))


cdef Py_ssize_t _first(const float[::1] row, float value) noexcept:
    """Where a value stands first; sixteen are looked at together."""
    cdef Py_ssize_t i = 0, j
    cdef bint is_there
    while i + 16 <= row.shape[0]:
        is_there = False
        for j in range(16):
            is_there |= row[i + j] == value
        if is_there:
            break
        i += 16
    while i < row.shape[0] - 1 and row[i] != value:
        i += 1
    return i


def _without(adjusted, excluded):
    """The logits with those of excluded tokens at minus infinity."""
    if not len(excluded):
        return adjusted
    allowed = adjusted.copy()
    allowed[list(excluded)] = -np.inf
    return allowed


def weigh(adjusted, sampling, excluded=(), last_rule: str = "min_p"):
    """Steps 2 and 3: integer weights, uint64 (vocab,), after every rule up to `last_rule`; a dropped token weighs 0."""
    rules = RULES[: RULES.index(last_rule) + 1]
    allowed = np.ascontiguousarray(_without(adjusted, excluded if "mask" in rules else ()), np.float32)
    weights = _weights(allowed, temperature_factor(sampling.temperature if "temperature" in rules else 1.0))
    cdef drawing how = drawing_of(sampling)
    how.top_k = how.top_k if "top_k" in rules else 0
    how.top_p = how.top_p if "top_p" in rules else CERTAIN
    how.min_p = how.min_p if "min_p" in rules else 0
    _cut(weights, &how)
    return np.asarray(weights)


cdef _cut(uint64_t[::1] weights, const drawing *how):
    """The rules of step 3, those that are asked for."""
    if how.top_k:
        cut_top_k(weights, how.top_k)
    if how.top_p < CERTAIN:
        cut_top_p(weights, how.top_p)
    if how.min_p:
        cut_min_p(weights, how.min_p)


cdef uint64_t[::1] _weights(const float[::1] logits, float factor):
    """floor(2^40 * exp2((logit - largest) * factor)); minus infinity weighs 0."""
    cdef uint64_t[::1] weights = np.empty(logits.shape[0], np.uint64)
    table().weigh(&logits[0], logits.shape[0], _peak(logits), factor, &weights[0])
    return weights


cdef float _peak(const float[::1] logits) noexcept:
    """The largest; sixteen at a time, which a compiler takes side by side."""
    cdef float[16] best
    cdef Py_ssize_t i, j, count = logits.shape[0]
    for j in range(16):
        best[j] = logits[0]
    for i in range(0, count - 15, 16):
        for j in range(16):
            best[j] = logits[i + j] if logits[i + j] > best[j] else best[j]
    for i in range(count - count % 16, count):
        best[0] = logits[i] if logits[i] > best[0] else best[0]
    for j in range(1, 16):
        best[0] = best[j] if best[j] > best[0] else best[0]
    return best[0]


cpdef float temperature_factor(double temperature) noexcept:
    """log2(e) / temperature as float32, held at 2^100 so that it stays finite; 1 stands in at temperature 0."""
    return <float>min(1.4426950408889634 / (temperature if temperature else 1.0), 2.0**100)


def fixed_point(probability: float) -> int:
    """A probability as an integer of 32 binary places."""
    return round(probability * 2**32)


def keep_top_k(weights, top_k: int):
    """Keep the k heaviest tokens, ties to the lower id."""
    kept = np.array(weights, np.uint64)
    cut_top_k(kept, top_k)
    return kept


def keep_top_p(weights, top_p: int):
    """Keep the shortest run of heaviest tokens whose sum reaches top_p / 2^32 of the total; at least one."""
    kept = np.array(weights, np.uint64)
    cut_top_p(kept, top_p)
    return kept


def keep_min_p(weights, min_p: int):
    """Keep the tokens that weigh at least min_p / 2^32 of the heaviest."""
    kept = np.array(weights, np.uint64)
    cut_min_p(kept, min_p)
    return kept


def log_softmax(logits):
    """Natural log-probabilities of the raw logits: distances to the largest, less the log of an integer total."""
    total = total_weight(_weights(np.ascontiguousarray(logits, np.float32), temperature_factor(1.0)))
    log_total = log2(np.array([total], np.uint64).astype(np.float32) * np.float32(2.0**-ONE))[0]
    return logits - logits.max() - log_total * LN2
