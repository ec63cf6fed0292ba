"""Mirrored. Random bits without state: Philox4x32-10, a pure function of seed, position and choice (N10).

The counter is (position of the token, choice, 0, 0) and the key is the seed, so a token's draw is reproducible in any
batch, on any engine. (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011.)
"""

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
MASK_32 = 0xFFFFFFFF


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Four random 32-bit words from a counter of four words and a key of two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        product_0, product_1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product_1 >> 32) ^ c1 ^ k0,
            product_1 & MASK_32,
            (product_0 >> 32) ^ c3 ^ k1,
            product_0 & MASK_32,
        )
        k0, k1 = (k0 + KEY_STEPS[0]) & MASK_32, (k1 + KEY_STEPS[1]) & MASK_32
    return c0, c1, c2, c3


def random_bits(seed: int, position: int, choice: int) -> int:
    """64 random bits for the token at `position` of `choice`; a negative seed counts modulo 2^64."""
    words = philox((position, choice, 0, 0), (seed & MASK_32, seed >> 32 & MASK_32))
    return words[0] | words[1] << 32
