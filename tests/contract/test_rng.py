"""Random bits: the published Philox4x32-10, and a draw that is a pure function of seed, position and choice (N10)."""

import pytest

ONES = 0xFFFFFFFF
DIGITS_OF_PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # Random123's own known answers (kat_vectors, philox4x32 10)
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((ONES,) * 4, (ONES,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (DIGITS_OF_PI[:4], DIGITS_OF_PI[4:], "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)  # fmt: skip
def test_philox_gives_the_published_words(part, counter, key, words):
    assert " ".join(f"{word:08x}" for word in part("sampling.rng").philox(counter, key)) == words


def test_bits_are_the_first_two_words_low_word_first(part):
    rng = part("sampling.rng")
    words = rng.philox((12, 3, 0, 0), (0x89ABCDEF, 0x01234567))
    assert rng.random_bits(0x0123456789ABCDEF, 12, 3) == words[0] | words[1] << 32


def test_a_negative_seed_counts_modulo_two_to_the_64(part):
    bits = part("sampling.rng").random_bits
    assert bits(-1, 5, 0) == bits(2**64 - 1, 5, 0)
    assert bits(-(2**63), 5, 0) == bits(2**63, 5, 0)


def test_seed_position_and_choice_all_matter(part):
    bits = part("sampling.rng").random_bits
    draws = {bits(seed, position, choice) for seed in (0, 1, 2**32) for position in (0, 1) for choice in (0, 1)}
    assert len(draws) == 12
