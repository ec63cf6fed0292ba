"""Structured output: a grammar says, token by token, what may come next.

JSON mode, JSON schemas, regular expressions and Lark grammars all compile to one thing, a mask of allowed tokens a
step, which N10 applies before anything is drawn. The work is `llguidance`'s (https://github.com/guidance-ai/llguidance),
under limits: a grammar that is wrong or too costly is refused for its request alone.
"""

import json
import re

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.reference.records.grammar_text import CANNOT_GO_ON, PREAMBLE, Grammar, GrammarSyntax, json_rule
from verbatim.reference.text.tokenizer import Tokenizer

MAX_CACHED = 64
NO_TEXT = "no text fits it"
LIMITS = LLParserLimits(
    max_grammar_size=200_000, initial_lexer_fuel=1_000_000, step_lexer_fuel=200_000, verbose_errors=False
)


class Guide:
    """The grammar's state for one choice: what may come next, what has come."""

    def __init__(self, matcher: LLMatcher, vocab_size: int):
        self._matcher, self.vocab_size = matcher, vocab_size
        self._excluded: np.ndarray | None = None  # until the next token

    def excluded_ids(self) -> np.ndarray:
        """Ids of all tokens that may not come next, ascending."""
        if self._excluded is None:
            self._excluded = self._find_excluded()
        return self._excluded

    def _find_excluded(self) -> np.ndarray:
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: self.vocab_size]
        self._check()
        padding = np.arange(len(allowed), self.vocab_size)
        return np.concatenate([np.flatnonzero(allowed == 0), padding])

    def push(self, token_id: int) -> bool:
        """Advance by an allowed token; True if nothing but the end can follow."""
        self._excluded = None
        self._matcher.consume_token(token_id)
        self._check()
        return self._matcher.is_stopped()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise RequestError(f"{CANNOT_GO_ON}: {first_line(self._matcher.get_error())}")


class GrammarCompiler:
    """Makes guides for one model's vocabulary; the last grammars are kept compiled."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_ids: tuple[int, ...]):
        if not eos_ids:
            raise UnsupportedError(
                "structured output needs a model with an end-of-sequence token", field="response_format"
            )
        self._vocab_size = vocab_size
        self._compiled: dict[Grammar, LLMatcher] = {}
        self._tokenizer = LLTokenizer(
            TokenizerWrapper(_Vocabulary(tokenizer, vocab_size, eos_ids[0])),
            n_vocab=vocab_size,
            eos_token=list(eos_ids),
        )

    def compile(self, grammar: Grammar) -> Guide:
        """A guide at the grammar's start; RequestError says why a grammar is refused."""
        matcher = self._compiled.get(grammar)
        if matcher is None:
            matcher = self._matcher(grammar)
            if len(self._compiled) >= MAX_CACHED:
                self._compiled.pop(next(iter(self._compiled)), None)
            self._compiled[grammar] = matcher
        return Guide(matcher.deep_copy(), self._vocab_size)

    def _matcher(self, grammar: Grammar) -> LLMatcher:
        try:
            matcher = LLMatcher(self._tokenizer, _text(grammar), log_level=0, limits=LIMITS)
        except ValueError as error:
            raise _refusal(grammar, str(error)) from None
        if matcher.is_error():
            raise _refusal(grammar, matcher.get_error())
        matcher.compute_bitmask()  # a grammar that nothing fits is found out here, not in the middle of a step
        if matcher.is_error() or matcher.is_stopped():
            raise _refusal(grammar, NO_TEXT)
        return matcher


def _text(grammar: Grammar) -> str:
    """The grammar as Lark, in which a model may cut its tokens as it likes ("no_forcing")."""
    if grammar.syntax is GrammarSyntax.JSON_SCHEMA:
        return f"{PREAMBLE}start: {json_rule(json.loads(grammar.source))}"
    if grammar.syntax is GrammarSyntax.REGEX:
        return f"{PREAMBLE}start: EXPRESSION\nEXPRESSION: /{_escaped(grammar.source)}/"
    return LLMatcher.grammar_from_lark(grammar.source)


def _escaped(expression: str) -> str:
    """A regular expression for between slashes, on one line."""
    signs = {"/": r"\/", "\n": r"\n"}
    return re.sub(r"\\.|/|\n", lambda found: signs.get(found[0], found[0]), expression, flags=re.DOTALL)


def _refusal(grammar: Grammar, reason: str) -> RequestError:
    message = f"{grammar.field} cannot be compiled: {first_line(reason)}"
    return RequestError(message, field=grammar.field, code="invalid_grammar")


def first_line(message: str) -> str:
    """Of what llguidance says of a grammar; the lines behind it repeat the grammar."""
    return message.strip().partition("\n")[0]


class _Vocabulary:
    """A tokenizer as llguidance wants to see it."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_id: int):
        self._tokenizer = tokenizer
        self.eos_token_id, self.bos_token_id = eos_id, None
        self.special_token_ids = sorted(i for i in tokenizer.control_ids.values() if i < vocab_size)
        self.tokens = [tokenizer.control_names.get(i, tokenizer.token_bytes(i)) for i in range(vocab_size)]

    def __call__(self, text: bytes | str) -> list[int]:
        return self._tokenizer.encode(text if isinstance(text, str) else text.decode(errors="replace"))
