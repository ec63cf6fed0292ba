"""Mirrored. From logits to a token: probabilities are integers, so every engine draws the same one (N10).

selection.pyx has the rules that keep or draw tokens by weight; this module computes the weights and applies the rules.
"""

from typing import NamedTuple

import numpy as np

from verbatim.fastpath.machine.dispatch cimport table
from verbatim.fastpath.sampling.rng cimport bits_at
from verbatim.fastpath.sampling.selection cimport cut_min_p, cut_top_k, cut_top_p
from libc.limits cimport LONG_MAX
from libc.stdint cimport uint64_t

from verbatim.fastpath.numerics.arithmetic import LN2, log2
from verbatim.fastpath.sampling.selection import draw  # no-cython-lint: a mirrored name
from verbatim.reference.records.errors import NumericsError
from verbatim.reference.sampling.names import RULES

WEIGHT_BITS = 40  # weights are fixed-point numbers with this many binary places: the likeliest token weighs 2^40

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
    adjusted = logits = np.ascontiguousarray(logits, np.float32)  # once: this may copy a row from a GPU
    cdef const float[::1] row = logits
    cdef int is_finite
    cdef float peak = table().peak(&row[0], row.shape[0], &is_finite)
    if not is_finite:
        raise NumericsError(f"a logit for position {position} is not a finite number")
    if adjusts(sampling):
        row = adjusted = adjust(logits, sampling, prompt_ids=prompt_ids, output_ids=output_ids)
        peak = table().peak(&row[0], row.shape[0], &is_finite)
        if not is_finite:
            raise NumericsError(f"a penalized logit for position {position} is not a finite number")
    if len(excluded):
        row = _without(adjusted, excluded)
        peak = table().peak(&row[0], row.shape[0], &is_finite)
    cdef draw_params params = draw_params_of(sampling)
    cdef uint64_t[::1] scratch = np.empty(2 * len(row) if params.factor else 1, np.uint64)
    token_id = choose(&row[0], row.shape[0], peak, &params, position, choice, &scratch[0])
    if sampling.logprobs is None:
        return tuple.__new__(Sampled, (token_id, None, ()))
    return score(logits, token_id, sampling.logprobs)


cdef draw_params draw_params_of(sampling) except *:
    """Convert a request's sampling parameters; a parameter that it does not set has no effect."""
    cdef draw_params params
    cdef double temperature = sampling.temperature
    params.factor = temperature_factor(temperature) if temperature else 0
    params.seed = sampling.seed & 0xFFFFFFFFFFFFFFFF
    params.top_k = min(sampling.top_k or 0, LONG_MAX)
    params.top_p, params.min_p = fixed_point(sampling.top_p), fixed_point(sampling.min_p)
    return params


cdef long choose(const float *row, long n, float peak, const draw_params *params, uint64_t position, long choice,
                 uint64_t *scratch) noexcept nogil:
    """Steps 2 to 4 for n adjusted logits, of which `peak` is the largest; `scratch` holds 2n integers."""
    if params.factor == 0:
        return table().find(row, n, peak)
    table().weigh(row, n, peak, params.factor, scratch)
    _cut(scratch, n, params, scratch + n)
    return table().draw(scratch, n, bits_at(params.seed, position, choice))


def score(logits, token_id: int, num_top: int) -> Sampled:
    """A token with its log-probability and those of the `num_top` most probable ones."""
    logits = np.ascontiguousarray(logits, np.float32)
    cdef const float[::1] row = logits
    cdef int is_finite
    table().peak(&row[0], row.shape[0], &is_finite)
    if not is_finite:
        raise NumericsError("a logit of the prompt is not a finite number")
    logprobs = log_softmax(logits)
    pairs = tuple([(i, float(logprobs[i])) for i in _largest(logits, num_top)])
    return Sampled(token_id=token_id, logprob=float(logprobs[token_id]), top=pairs)


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
    """Whether a request changes logits: by penalties or by a bias."""
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
        sampled, counts = np.unique(np.asarray(output_ids, np.int64), return_counts=True)
        adjusted[sampled] -= counts.astype(np.float32) * np.float32(sampling.frequency_penalty)
        adjusted[sampled] -= np.float32(sampling.presence_penalty)
    return adjusted


def greedy(adjusted, excluded=()) -> int:
    """Step 2 at temperature 0: the largest logit, ties to the lowest id."""
    cdef const float[::1] row = np.ascontiguousarray(_without(adjusted, excluded), np.float32)
    return table().find(&row[0], row.shape[0], _peak(row))


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
    cdef draw_params params = draw_params_of(sampling)
    return _keep(
        weights, params.top_k if "top_k" in rules else 0, params.top_p if "top_p" in rules else CERTAIN,
        params.min_p if "min_p" in rules else 0,
    )


cdef _keep(weights, long top_k, uint64_t top_p, uint64_t min_p):
    """A copy of the weights after the rules of step 3."""
    kept = np.array(weights, np.uint64)
    cdef uint64_t[::1] view = kept, scratch = np.empty_like(kept)
    cdef draw_params params = draw_params(factor=0, seed=0, top_p=top_p, min_p=min_p, top_k=top_k)
    _cut(&view[0], view.shape[0], &params, &scratch[0])
    return kept


cdef void _cut(uint64_t *weights, long n, const draw_params *params, uint64_t *scratch) noexcept nogil:
    """Apply the rules of step 3 that the request sets."""
    if params.top_k:
        cut_top_k(weights, n, params.top_k, scratch)
    if params.top_p < CERTAIN:
        cut_top_p(weights, n, params.top_p, scratch)
    if params.min_p:
        cut_min_p(weights, n, params.min_p)


cdef uint64_t[::1] _weights(const float[::1] logits, float factor):
    """floor(2^40 * exp2((logit - largest) * factor)); minus infinity weighs 0."""
    cdef uint64_t[::1] weights = np.empty(logits.shape[0], np.uint64)
    table().weigh(&logits[0], logits.shape[0], _peak(logits), factor, &weights[0])
    return weights


cdef float _peak(const float[::1] logits) noexcept:
    """The largest logit."""
    cdef int is_finite
    return table().peak(&logits[0], logits.shape[0], &is_finite)


cpdef float temperature_factor(double temperature) noexcept:
    """log2(e) / temperature as float32, at most 2^100 so that it is finite; temperature 0 counts as 1."""
    return <float>min(1.4426950408889634 / (temperature if temperature else 1.0), 2.0**100)


def fixed_point(probability: float) -> int:
    """A probability as an integer of 32 binary places."""
    return round(probability * 2**32)


def keep_top_k(weights, top_k: int):
    """Keep the k heaviest tokens, ties to the lower id."""
    return _keep(weights, min(top_k, len(weights)), CERTAIN, 0)


def keep_top_p(weights, top_p: int):
    """Keep the shortest run of heaviest tokens whose sum reaches top_p / 2^32 of the total; at least one."""
    return _keep(weights, 0, top_p, 0)


def keep_min_p(weights, min_p: int):
    """Keep the tokens that weigh at least min_p / 2^32 of the heaviest."""
    return _keep(weights, 0, CERTAIN, min_p)


def log_softmax(logits):
    """Natural log-probabilities of the raw logits: distances to the largest, less the log of an integer total."""
    cdef uint64_t[::1] weights = _weights(np.ascontiguousarray(logits, np.float32), temperature_factor(1.0))
    total = table().total(&weights[0], weights.shape[0])
    log_total = log2(np.array([total], np.uint64).astype(np.float32) * np.float32(2.0**-WEIGHT_BITS))[0]
    return logits - logits.max() - log_total * LN2
