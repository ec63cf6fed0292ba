"""Keep and draw tokens by their integer weights (N10, steps 3 and 4).

The reference sorts the whole vocabulary; this module counts. A rule that keeps the heaviest tokens needs the weight of
the last token kept, which a radix search over the digits of the few heaviest weights finds. Rules work in place.
"""

from verbatim.fastpath.machine.dispatch cimport table
from libc.stdint cimport UINT64_MAX, uint64_t

cdef extern from *:
    """
    typedef unsigned __int128 uint128_t;
    static inline uint64_t product_high(uint64_t a, uint64_t b, int shift) {
        return (uint64_t)((uint128_t)a * b >> shift);
    }
    """
    uint64_t product_high(uint64_t a, uint64_t b, int shift) noexcept nogil  # (a * b) >> shift, in 128 bits

cdef enum:
    DIGIT_BITS = 8
    NUM_DIGITS = 6  # 48 bits hold every weight up to 2^40
    NUM_VALUES = 1 << DIGIT_BITS


cdef long _heaviest(const uint64_t *weights, long n, uint64_t needed, bint by_count, uint64_t *found) noexcept nogil:
    """Copy enough of the heaviest weights to reach `needed` tokens or weight: few, as few tokens are probable."""
    cdef uint64_t bound, reached, count
    cdef long i, at = 0
    cdef int bits
    for bits in range(30, -1, -10):
        bound, count, reached = <uint64_t>1 << bits, 0, 0
        for i in range(n):
            count += weights[i] >= bound
            reached += weights[i] if weights[i] >= bound else 0
        if (count if by_count else reached) >= needed:
            break
    for i in range(n):
        if weights[i] >= bound:
            found[at] = weights[i]
            at += 1
    return at


cdef uint64_t _lightest_kept(const uint64_t *weights, long n, uint64_t needed, bint by_count, uint64_t *heaviest,
                             uint64_t *missing) noexcept nogil:
    """The weight of the last token kept so that the heaviest reach `needed` tokens or, not `by_count`, `needed` weight.

    Sets `missing` to the part of `needed` that tokens of exactly this weight must supply. One pass for each digit: the
    leading digit first, then the next among the weights that share the digits found. 0 if all do not reach `needed`.
    """
    cdef uint64_t amounts[NUM_VALUES]
    cdef uint64_t prefix = 0
    cdef int digit, shift, value
    cdef long i, count = _heaviest(weights, n, needed, by_count, heaviest)
    for digit in range(NUM_DIGITS):
        shift = DIGIT_BITS * (NUM_DIGITS - 1 - digit)
        for value in range(NUM_VALUES):
            amounts[value] = 0
        for i in range(count):
            if heaviest[i] >> (shift + DIGIT_BITS) == prefix:
                amounts[heaviest[i] >> shift & (NUM_VALUES - 1)] += 1 if by_count else heaviest[i]
        value = NUM_VALUES - 1
        while value > 0 and amounts[value] < needed:
            needed -= amounts[value]
            value -= 1
        prefix = prefix << DIGIT_BITS | <uint64_t>value
    missing[0] = needed
    return prefix


cdef void _cut(uint64_t *weights, long n, uint64_t lightest, uint64_t num_ties) noexcept nogil:
    """Drop tokens lighter than `lightest`; of those that weigh exactly as much, keep the first `num_ties` by id."""
    cdef long i
    for i in range(n):
        if weights[i] <= lightest:
            if weights[i] < lightest or num_ties == 0:
                weights[i] = 0
            else:
                num_ties -= 1


cdef void cut_top_k(uint64_t *weights, long n, uint64_t top_k, uint64_t *scratch) noexcept nogil:
    """Keep the k heaviest tokens, ties to the lower id; `scratch` holds as many integers as there are weights."""
    cdef uint64_t num_ties, lightest
    lightest = _lightest_kept(weights, n, min(top_k, <uint64_t>n), True, scratch, &num_ties)
    _cut(weights, n, lightest, num_ties)


cdef void cut_top_p(uint64_t *weights, long n, uint64_t top_p, uint64_t *scratch) noexcept nogil:
    """Keep the shortest run of heaviest tokens whose sum reaches top_p / 2^32 of the total; at least one."""
    cdef uint64_t missing, lightest
    cdef uint64_t needed = max(product_high(top_p, table().total(weights, n), 32), <uint64_t>1)
    lightest = _lightest_kept(weights, n, needed, False, scratch, &missing)
    _cut(weights, n, lightest, (missing + lightest - 1) // lightest if lightest else 0)


cdef void cut_min_p(uint64_t *weights, long n, uint64_t min_p) noexcept nogil:
    """Keep the tokens that weigh at least min_p / 2^32 of the heaviest."""
    cdef uint64_t heaviest = 0
    cdef long i
    for i in range(n):
        heaviest = max(heaviest, weights[i])
    _cut(weights, n, product_high(min_p, heaviest, 32), UINT64_MAX)


def draw(const uint64_t[::1] weights, uint64_t bits) -> int:
    """Step 4: the first token, in id order, whose running sum exceeds bits / 2^64 of the total."""
    return table().draw(&weights[0], weights.shape[0], bits)
