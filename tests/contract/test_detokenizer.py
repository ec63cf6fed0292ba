"""Bytes to text: never half a character, and the same text however the bytes arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st


def decode(part, pieces):
    detokenizer = part("text.detokenizer").Detokenizer()
    return [*map(detokenizer.push, pieces), detokenizer.finish()]


def test_a_character_waits_for_its_last_byte(part):
    assert decode(part, [b"a\xe2", b"\x82", b"\xac!"]) == ["a", "", "€!", ""]


@pytest.mark.parametrize(
    ("pieces", "texts"),
    [
        ([b"\xff", b"a"], ["\ufffd", "a", ""]),  # can begin nothing
        ([b"\xe2\x82", b"a"], ["", "\ufffda", ""]),  # broken off by what comes next
        ([b"\xf0\x9f\x98"], ["", "\ufffd"]),  # broken off by the end: once
        ([b"\xc0\x80"], ["\ufffd\ufffd", ""]),  # overlong
        ([b"\xed\xa0\x80"], ["\ufffd\ufffd\ufffd", ""]),  # a surrogate
        ([], [""]),
    ],
)
def test_broken_bytes_become_replacement_characters(part, pieces, texts):
    assert decode(part, pieces) == texts


@given(data=st.one_of(st.binary(max_size=40), st.text(max_size=15).map(str.encode)), size=st.integers(1, 7))
def test_deltas_joined_are_the_whole_text(part, data, size):
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    assert "".join(decode(part, pieces)) == data.decode(errors="replace")
