"""Mirrored. Random bits without state: Philox4x32-10, a pure function of seed, position and choice (N10)."""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    ROUNDS = 10
    MULTIPLIER_0 = 0xD2511F53
    MULTIPLIER_1 = 0xCD9E8D57
    KEY_STEP_0 = 0x9E3779B9
    KEY_STEP_1 = 0xBB67AE85


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Four random 32-bit words from a counter of four words and a key of two."""
    return _philox(counter[0], counter[1], counter[2], counter[3], key[0], key[1])


cdef (uint32_t, uint32_t, uint32_t, uint32_t) _philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0,
                                                      uint32_t k1) noexcept nogil:
    cdef uint64_t product_0, product_1
    cdef int _round
    for _round in range(ROUNDS):
        product_0, product_1 = <uint64_t>c0 * <uint32_t>MULTIPLIER_0, <uint64_t>c2 * <uint32_t>MULTIPLIER_1
        c0, c1 = <uint32_t>(product_1 >> 32) ^ c1 ^ k0, <uint32_t>product_1
        c2, c3 = <uint32_t>(product_0 >> 32) ^ c3 ^ k1, <uint32_t>product_0
        k0, k1 = k0 + <uint32_t>KEY_STEP_0, k1 + <uint32_t>KEY_STEP_1
    return c0, c1, c2, c3


cpdef uint64_t random_bits(seed, position, choice) except? 0:
    """64 random bits for the token at `position` of `choice`; a negative seed counts modulo 2^64."""
    return bits_at(seed & 0xFFFFFFFFFFFFFFFF, position, choice)


cdef uint64_t bits_at(uint64_t key, uint32_t position, uint32_t choice) noexcept nogil:
    """64 random bits, with the seed as an unsigned key."""
    cdef (uint32_t, uint32_t, uint32_t, uint32_t) words
    words = _philox(position, choice, 0, 0, <uint32_t>key, <uint32_t>(key >> 32))
    return <uint64_t>words[0] | <uint64_t>words[1] << 32
