"""Generated answers against the words of docs/semantics.md, "Text" and "Stopping", taken literally and slowly.

After every token the text shown so far must be just what the words allow: all of it but the tail that could still
become a stop string or is half a character. Nothing here asks the code that is tested what it thinks.
"""

import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from verbatim.reference.records.request import FinishReason, Request, StoppingParams
from verbatim.reference.records.sequence import Sequence
from verbatim.reference.text.tokenizers import load_tokenizer
from verbatim.reference.text.tokenizers.piece_bytes import BYTE_OF_CHARACTER

# Tokens cut words and characters anywhere; some continue nothing.
PIECES = [
    b"a", b"b", b"ab", b"ba", b"aa", b"aab", b" ", b"b a", b"\xc3", b"\xa9", b"\xc3\xa9", b"b\xc3", b"\xa9a",
    b"\xe2\x82", b"\xe2", b"\x82", b"\xac", b"\x82\xacb", b"\xf0\x9f", b"\x98\x80", b"\xf0\x9f\x98\x80", b"\xff",
]  # fmt: skip
EOS = len(PIECES)
HALVES = {
    chr(code).encode()[:count]
    for code in range(0x80, 0x110000, 64) if not 0xD800 <= code < 0xE000
    for count in range(1, len(chr(code).encode()))
}  # fmt: skip
STRINGS = st.lists(st.text("ab é€😀", min_size=1, max_size=4), max_size=4).map(tuple)


class Expected:
    """What the words say of an answer: its text after every token, its end, and which tokens it shows."""

    def __init__(self, ids, stopping, budget):
        self.shown, self.finish_reason, self.stop_reason, self.entries = [], None, None, []
        self.held = []
        ends = set(stopping.token_ids) | (set() if stopping.ignore_eos else {EOS})
        max_tokens = min(stopping.max_tokens or budget, budget)
        text, starts = b"", []
        not_looked_for = 0  # bytes of the tokens below min_tokens
        for count, token_id in enumerate(ids, start=1):
            if token_id in ends:
                return self.finish(text, len(text), starts, FinishReason.STOP, token_id)
            starts.append(len(text))
            text += PIECES[token_id] if token_id != EOS else b""
            if count < stopping.min_tokens:
                not_looked_for = len(text)
            match = self.first_match(text, stopping.strings, not_looked_for)
            if match:
                end, start, string = match
                cut = end if stopping.include_stop_string else start
                return self.finish(text, cut, starts, FinishReason.STOP, string)
            if count == max_tokens:
                return self.finish(text, len(text), starts, FinishReason.LENGTH, None)
            counts = range(len(text) + 1)
            begun = max((n for n in counts for string in stopping.strings if begins(text, n, string)), default=0)
            open_text = text[: len(text) - begun]
            half = max((n for n in (1, 2, 3) if open_text[-n:] in HALVES and n <= len(open_text)), default=0)
            self.held.append(begun)
            self.shown.append(open_text[: len(open_text) - half].decode(errors="replace"))

    def first_match(self, text, strings, not_looked_for):
        """(end, start, string) of the match that ends first, and of those the longest."""
        found = [
            (start + len(string.encode()), start, string)
            for string in strings for start in range(len(text)) if text.startswith(string.encode(), start)
        ]  # fmt: skip
        return min((match for match in found if match[0] > not_looked_for), default=None)

    def finish(self, text, cut, starts, finish_reason, stop_reason):
        self.shown.append(text[:cut].decode(errors="replace"))
        self.finish_reason, self.stop_reason = finish_reason, stop_reason
        self.entries = [start for start in starts if start < cut or cut == len(text)]


def begins(text, count, string):
    """Whether the last `count` bytes are the beginning, but not all, of a stop string."""
    return 0 < count < len(string.encode()) and text.endswith(string.encode()[:count])


def new_tokenizer(directory):
    """A tokenizer.json whose tokens are the pieces, with an end behind them."""
    characters = {byte: character for character, byte in BYTE_OF_CHARACTER.items()}
    names = ["".join(characters[byte] for byte in piece) for piece in PIECES]
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens(["<eos>"])
    made.save(str(directory / "tokenizer.json"))
    tokenizer = load_tokenizer(directory)
    assert [tokenizer.token_bytes(i) for i in range(EOS + 1)] == [*PIECES, b""]
    return tokenizer


@st.composite
def answers(draw):
    """(ids, stopping, budget): what a model says, when it is to end, and what is left of the context."""
    strings = draw(STRINGS)
    ids = draw(st.lists(st.integers(0, EOS), max_size=20))
    for string in strings:  # so that matches are common, whatever the tokens
        if draw(st.booleans()):
            at = draw(st.integers(0, len(ids)))
            ids[at:at] = spelled(draw, string.encode())
    max_tokens = draw(st.sampled_from([None, 1, 5, 15, 40]))
    stopping = StoppingParams(
        max_tokens=max_tokens, min_tokens=min(draw(st.integers(0, 8)), max_tokens or 99), strings=strings,
        token_ids=draw(st.sampled_from([(), (), (0,), (3, 9)])), ignore_eos=draw(st.booleans()),
        include_stop_string=draw(st.booleans()),
    )  # fmt: skip
    return ids, stopping, draw(st.sampled_from([3, 12, 1000, 1000]))


def spelled(draw, data):
    """The ids of pieces that make up some bytes, cut at random."""
    ids = []
    while data:
        fitting = [i for i, piece in enumerate(PIECES) if data.startswith(piece)]
        if not fitting:
            return ids
        ids.append(draw(st.sampled_from(fitting)))
        data = data[len(PIECES[ids[-1]]) :]
    return ids


def check(backend, tokenizer, ids, stopping, budget):
    """Push the tokens as an engine does and compare after each; what the answer came to."""
    parts, num_prompt = backend.PARTS, 4
    stopper = parts.Stopper(stopping, eos_ids=(EOS,), num_prompt=num_prompt, context_size=num_prompt + budget)
    request = Request(request_id="a", prompt_ids=(0,) * num_prompt, stopping=stopping)
    answer = parts.Answer(Sequence(request=request), tokenizer, parts.sample, stopper, parts.Detokenizer())
    expected = Expected(ids, stopping, budget)
    text, entries, output = "", [], None
    for number, token_id in enumerate(ids[: len(expected.shown)]):
        output = answer.push(Sampled(token_id))
        text += output.text
        entries += output.logprobs
        assert text == expected.shown[number], f"after token {number}"
        if number < len(expected.held):
            assert output.finish_reason is None
            assert len(stopper.held) == expected.held[number]
    if expected.finish_reason:
        assert (output.finish_reason, output.stop_reason) == (expected.finish_reason, expected.stop_reason)
        assert len(entries) == len(expected.entries)
    return expected


class Sampled:
    """A token as a sampler hands it on, with a log-probability that does not matter here."""

    logprob, top = -1.0, ()

    def __init__(self, token_id):
        self.token_id = token_id


def test_answers_are_what_the_words_say(backend, tmp_path_factory):
    tokenizer, ends = new_tokenizer(tmp_path_factory.mktemp("pieces")), []

    @settings(deadline=None, print_blob=True, max_examples=1500, database=None)
    @given(answer=answers())
    @example(answer=([2, 6], StoppingParams(min_tokens=2, strings=("ab", "ab a")), 1000))
    @example(answer=([EOS, 0], StoppingParams(token_ids=(0,), ignore_eos=True), 1000))
    def run(answer):
        ends.append(check(backend, tokenizer, *answer))

    run()
    assert len(ends) >= 1500
    for reason in (FinishReason.STOP, FinishReason.LENGTH, None):
        assert sum(end.finish_reason is reason for end in ends) > 20
    assert sum(isinstance(end.stop_reason, str) for end in ends) > 100
    assert sum(any(end.held) for end in ends) > 100
    assert sum("\ufffd" in end.shown[-1] for end in ends if end.shown) > 20
