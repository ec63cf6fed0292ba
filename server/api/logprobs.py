"""Log-probabilities in OpenAI's two shapes: a list of entries for chat, four parallel arrays for completions.

Natural logarithms, of the raw logits. JSON has no infinity: OpenAI writes -9999.0 for what cannot happen.
"""

import codecs
import math

from verbatim.reference.records.request import Candidate, TokenLogprob

IMPOSSIBLE = -9999.0


def finite(logprob: float) -> float:
    """The number, or OpenAI's stand-in for minus infinity."""
    return logprob if math.isfinite(logprob) else IMPOSSIBLE


def chat_entry(entry: TokenLogprob) -> dict:
    """One token of `logprobs.content`."""
    return _chat_candidate(entry.chosen) | {"top_logprobs": [_chat_candidate(item) for item in entry.top]}


def _chat_candidate(candidate: Candidate) -> dict:
    text = candidate.token.decode(errors="replace")
    return {"token": text, "logprob": finite(candidate.logprob), "bytes": list(candidate.token)}


def entries_of(logprobs: tuple[TokenLogprob, ...]) -> list[tuple[bytes, TokenLogprob | None]]:
    """Tokens with their log-probabilities, as `CompletionLogprobs.add` takes them."""
    return [(entry.chosen.token, entry) for entry in logprobs]


def prompt_entries(tokens: list[bytes], scores: list[TokenLogprob]) -> list[tuple[bytes, TokenLogprob | None]]:
    """The same for a prompt: nothing comes before its first token, so that one has no probability."""
    return list(zip(tokens, [None, *scores], strict=True)) if scores or len(tokens) == 1 else []


class CompletionLogprobs:
    """The four arrays of one choice; `text_offset` counts the characters of the text before each token."""

    def __init__(self):
        self.arrays: dict[str, list] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._num_characters = 0

    def add(self, entries: list[tuple[bytes, TokenLogprob | None]]) -> dict:
        """The arrays for these tokens only; the chosen token is always among the alternatives."""
        new: dict[str, list] = {name: [] for name in self.arrays}
        for token, entry in entries:
            new["tokens"].append(completion_token(token))
            new["token_logprobs"].append(entry and finite(entry.chosen.logprob))
            new["top_logprobs"].append(entry and _by_text(entry))
            new["text_offset"].append(self._offset(token))
            self._num_characters += len(self._decoder.decode(token))
        for name, values in new.items():
            self.arrays[name] += values
        return new

    def _offset(self, token: bytes) -> int:
        """A token that continues a character has that one's place; a broken character before it takes up a place."""
        has_part, _ = self._decoder.getstate()
        continues = token[:1] != b"" and token[0] & 0xC0 == 0x80  # RFC 3629: 10xxxxxx continues
        return self._num_characters + bool(has_part and not continues)


def _by_text(entry: TokenLogprob) -> dict[str, float]:
    """The alternatives and the chosen token by their texts; of tokens with the same text (a letter and its byte, in
    SentencePiece) the chosen token counts, else the likeliest.
    """
    found: dict[str, float] = {}
    for candidate in entry.top:
        found.setdefault(completion_token(candidate.token), finite(candidate.logprob))
    return found | {completion_token(entry.chosen.token): finite(entry.chosen.logprob)}


def completion_token(token: bytes) -> str:
    """A token's text; one that holds part of a character is written as its bytes, as OpenAI does."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)
