"""Shared. Where a thought ends and the answer begins: of text, of the tokens of a model, and of what may come next.

A thought is what stands between an opening mark and an ending, in front of the answer, or what stands in front of an
ending where the prompt has opened it. White space may come before the opening. An answer that begins in any other way
has no thought, and a mark behind the first ending is text. Marks are found as characters, also across tokens, and where
a control token has the mark's name.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from enum import Enum

import numpy as np

from verbatim.reference.records.thinking import Ending, Thinking
from verbatim.reference.text.grammar import Guide
from verbatim.reference.text.marks import num_undecided
from verbatim.reference.text.tokenizer import Tokenizer

SPACE = " \t\r\n"


class Phase(Enum):
    """Which part of an answer comes next."""

    BEGINNING = 0  # not known: white space, or the first characters of a mark, have come
    THOUGHT = 1
    ANSWER = 2


class ThoughtSplitter:
    """Splits text that comes in pieces. However it is cut, the parts joined are the same."""

    def __init__(self, thinking: Thinking):
        self._opening, self._endings = thinking.opening, thinking.endings
        self.phase = Phase.THOUGHT if thinking.is_open else Phase.BEGINNING
        self.held = ""  # what may become a mark
        self.is_behind_mark = thinking.is_open  # whether the text has or had a mark in front of it

    def push(self, text: str) -> tuple[str, str]:
        """What is known now of the thought, and of the answer."""
        self.held += text
        if self.phase is Phase.BEGINNING:
            self._begin()
        if self.phase is Phase.BEGINNING:
            return "", ""
        thought = self._think() if self.phase is Phase.THOUGHT else ""
        if self.phase is Phase.THOUGHT:
            return thought, ""
        answer, self.held = self.held, ""
        return thought, answer

    def finish(self) -> tuple[str, str]:
        """What was held back, once nothing more comes: a thought that never ended is a thought."""
        rest, self.held = self.held, ""
        return (rest, "") if self.phase is Phase.THOUGHT else ("", rest)

    def _begin(self) -> None:
        begun = self.held.lstrip(SPACE)
        if begun.startswith(self._opening):
            self.phase, self.held, self.is_behind_mark = Phase.THOUGHT, begun[len(self._opening) :], True
        elif ending := next((each for each in self._endings if begun.startswith(each.mark)), None):
            self.phase, self.held, self.is_behind_mark = Phase.ANSWER, begun[len(ending.dropped) :], True
        elif not any(mark.startswith(begun) for mark in (self._opening, *(each.mark for each in self._endings))):
            self.phase = Phase.ANSWER

    def _think(self) -> str:
        found = [(at, -len(each.mark), each) for each in self._endings if (at := self.held.find(each.mark)) >= 0]
        if found:  # the first, and of two that begin together the longer
            at, _, ending = min(found)
            thought, self.held = self.held[:at], self.held[at + len(ending.dropped) :]
            self.phase = Phase.ANSWER
            return thought
        safe = len(self.held) - max(num_undecided(self.held, each.mark) for each in self._endings)
        thought, self.held = self.held[:safe], self.held[safe:]
        return thought


def _latin(text: str) -> str:
    """The bytes of a text as characters."""
    return text.encode().decode("latin-1")


class TokenReader:
    """Tokens as the splitter sees them: bytes as characters of Latin 1, and control tokens by their names."""

    def __init__(self, tokenizer: Tokenizer, thinking: Thinking):
        self._names, self._bytes = tokenizer.control_names, tokenizer.token_bytes
        endings = tuple(Ending(*map(_latin, each)) for each in thinking.endings)
        self.thinking = replace(
            thinking, opening=_latin(thinking.opening), endings=endings, forced=_latin(thinking.forced)
        )

    def text(self, token_id: int) -> str:
        """What a token adds."""
        return (self._names.get(token_id) or self._bytes(token_id)).decode("latin-1")


class ThoughtCounter:
    """Counts the tokens of an answer's thought, its marks included."""

    def __init__(self, tokenizer: Tokenizer, thinking: Thinking):
        self._reader = TokenReader(tokenizer, thinking)
        self._splitter = ThoughtSplitter(self._reader.thinking)
        self._num_undecided = 0  # tokens that belong to the thought if one begins
        self.num_tokens = 0

    def push(self, token_ids: Iterable[int]) -> None:
        """The next tokens."""
        for token_id in token_ids:
            if self._splitter.phase is Phase.ANSWER:
                return
            self._num_undecided += 1
            was_open = self._splitter.phase is Phase.THOUGHT
            self._splitter.push(self._reader.text(token_id))
            if was_open or self._splitter.phase is Phase.THOUGHT:
                self.num_tokens += self._num_undecided
                self._num_undecided = 0


class ThoughtVocabulary:
    """The tokens of a model that matter where a mark may stand. Made once for a model and its marks."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, thinking: Thinking):
        self.reader, self.vocab_size = TokenReader(tokenizer, thinking), vocab_size
        self.forced = encode_mark(tokenizer, thinking.forced)
        marks = self.reader.thinking
        texts = [(i, self.reader.text(i)) for i in range(vocab_size)]
        self._openers = [(i, text) for i, text in texts if text.strip(SPACE) and _overlaps(text, marks.opening)]
        self._enders = [(i, text) for i, text in texts if any(_runs_over(text, each) for each in marks.endings)]
        self._whole = self.overlong("", self._enders)

    def openers(self, held: str) -> list[int]:
        """Tokens that begin the opening mark behind `held`, or continue it."""
        opening = self.reader.thinking.opening
        begun = [(i, (held + text).lstrip(SPACE)) for i, text in self._openers]
        return [i for i, text in begun if opening.startswith(text) or text.startswith(opening)]

    def overlong(self, held: str, enders: list | None = None) -> list[int]:
        """Tokens that would end the thought behind `held` and begin the answer at once."""
        if not held and enders is None:
            return self._whole
        endings = self.reader.thinking.endings
        return [i for i, text in enders or self._enders if any(_rest(held + text, each) for each in endings)]


def _overlaps(text: str, mark: str) -> bool:
    """Whether a token's text may be a part of a mark, or hold its end."""
    text = text.lstrip(SPACE)
    return any(mark[at:].startswith(text) or text.startswith(mark[at:]) for at in range(len(mark)))


def _runs_over(text: str, ending: Ending) -> bool:
    """Whether a token's text may hold the end of an ending with more behind it."""
    return any(text.startswith(ending.mark[at:]) and _rest(ending.mark[:at] + text, ending) != ""
               for at in range(1, len(ending.mark))) or _rest(text, ending) != ""  # fmt: skip


def _rest(text: str, ending: Ending) -> str:
    """What stands behind an ending, but for white space; "" where there is none."""
    _, found, rest = text.partition(ending.mark)
    return (ending.kept + rest).strip(SPACE) if found else ""


class ThoughtGuide:
    """Which tokens may come next of an answer that thinks: all of them within a thought, and at its bound the ending.

    Behind the thought, and where there is none, the guide that `new_guide` makes decides, if there is one. With it a
    thought cannot be the end, and nothing but white space may stand behind an ending in its last token, as a guide
    starts with a whole token.
    """

    def __init__(
        self, thinking: Thinking, vocabulary: ThoughtVocabulary, eos_ids: tuple[int, ...],
        new_guide: Callable[[], Guide] | None,
    ):  # fmt: skip
        self.vocab_size, self._vocabulary, self._eos_ids = vocabulary.vocab_size, vocabulary, eos_ids
        self._splitter = ThoughtSplitter(replace(vocabulary.reader.thinking, is_open=thinking.is_open))
        self._new_guide = new_guide
        self._guide = new_guide() if new_guide and not thinking.is_open else None  # None within a thought, too
        self._num_left, self._forced = thinking.budget, deque(vocabulary.forced)
        self._is_forcing = thinking.is_open and thinking.budget == 0
        self._nothing = np.empty(0, np.int64)

    def excluded_ids(self) -> np.ndarray:
        """Ids of all tokens that may not come next, ascending."""
        held = self._splitter.held
        match self._splitter.phase:
            case Phase.ANSWER:
                return self._guide.excluded_ids() if self._guide else self._nothing
            case Phase.THOUGHT if self._is_forcing:
                return np.delete(np.arange(self.vocab_size), self._forced[0])
            case Phase.THOUGHT if self._new_guide:
                return np.array(sorted({*self._eos_ids, *self._vocabulary.overlong(held)}), np.int64)
            case Phase.BEGINNING if self._new_guide:
                openers = self._vocabulary.openers(held)
                if self._guide is None:
                    return np.delete(np.arange(self.vocab_size), openers)
                return np.setdiff1d(self._guide.excluded_ids(), openers)
        return self._nothing

    def push(self, token_id: int) -> bool:
        """Advance by an allowed token; True if nothing but the end can follow."""
        before = self._splitter.phase
        is_done = self._guide is not None and self._push_guide(token_id)
        if before is Phase.ANSWER:
            return is_done
        if self._is_forcing:
            self._forced.popleft()
        self._splitter.push(self._vocabulary.reader.text(token_id))
        match self._splitter.phase:
            case Phase.BEGINNING:
                return False
            case Phase.THOUGHT:
                self._guide = None
                self._count(before)
                return False
        if self._new_guide and self._guide is None:
            self._guide = self._new_guide()
        return is_done

    def _push_guide(self, token_id: int) -> bool:
        """Advance the answer's guide, or drop it where the token can only belong to a mark."""
        assert self._guide is not None
        if self._splitter.phase is Phase.BEGINNING and _holds(self._guide.excluded_ids(), token_id):
            self._guide = None
            return False
        return self._guide.push(token_id)

    def _count(self, before: Phase) -> None:
        """One token less of the budget; those of the opening mark are free."""
        if self._num_left is not None and before is Phase.THOUGHT and not self._is_forcing:
            self._num_left -= 1
        self._is_forcing = self._is_forcing or self._num_left == 0


def _holds(ids: np.ndarray, token_id: int) -> bool:
    at = int(np.searchsorted(ids, token_id))
    return at < len(ids) and ids[at] == token_id


def encode_mark(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text in which control tokens stand by their names."""
    names = sorted(filter(None, tokenizer.control_ids), key=len, reverse=True)
    for name in names:
        before, found, after = text.partition(name)
        if found:
            ends = (encode_mark(tokenizer, part) if part else [] for part in (before, after))
            return [*next(ends), tokenizer.control_ids[name], *next(ends)]
    return tokenizer.encode(text, is_first=False)
