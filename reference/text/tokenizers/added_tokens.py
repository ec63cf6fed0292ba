"""Tokens that were added to a vocabulary by name, and what they do to the text beside them.

A mark that is `rstrip` takes the white space behind it, one that is `lstrip` that before it; one that is `single_word`
counts only where no letter, digit or underscore stands beside it; one that is `normalized` is read after the others.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from verbatim.reference.records.config import read_json
from verbatim.reference.records.errors import ModelError
from verbatim.reference.text.tokenizer import token_content

NAMED = "added_tokens.json"
WORD_ENDS, WORD_BEGINS = re.compile(r"\w\Z"), re.compile(r"\w")
Parts = Sequence[str | int | None]


@dataclass(frozen=True, slots=True)
class AddedToken:
    """One of them, as tokenizer_config.json describes it; `is_special` ones are control tokens."""

    content: str
    is_special: bool = True
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False


def read_added_tokens(directory: Path, settings: dict) -> dict[int, AddedToken]:
    """Those beside a vocabulary by their ids: of tokenizer_config.json, or else of added_tokens.json."""
    try:
        if found := settings.get("added_tokens_decoder"):
            return {int(i): _described(token) for i, token in found.items()}
        path = directory / NAMED
        names = read_json(path) if path.exists() else {}
        return {int(i): AddedToken(name) for name, i in names.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{directory}: the added tokens cannot be read: {type(error).__name__} {error}") from None


def _described(token: dict) -> AddedToken:
    flags = {name: bool(token.get(name, False)) for name in ("lstrip", "rstrip", "single_word", "normalized")}
    content = token_content(token)
    if not content:
        raise ValueError(f"a token without content: {token!r}")
    return AddedToken(content, is_special=bool(token.get("special", False)), **flags)


def without_joined(parts: Parts, tokens: Mapping[int, AddedToken]) -> list[str | int | None]:
    """The parts of a text, where a `single_word` mark that stands beside a word is the text of its name."""

    def name(at: int, beside: AddedToken) -> str:
        part = parts[at] if 0 <= at < len(parts) else None
        if part is None or isinstance(part, str):
            return part or ""
        token = tokens.get(part)
        is_border = token is None or (beside.normalized and not token.normalized)  # those are read first
        return "" if token is None or is_border else token.content

    texts = {}
    for at, part in enumerate(parts):
        token = None if part is None or isinstance(part, str) else tokens.get(part)
        if token is not None and token.single_word:
            before, behind = name(at - 1, token), name(at + 1, token)
            if WORD_ENDS.search(before) or WORD_BEGINS.match(behind):
                texts[at] = token.content
    return joined(parts, texts)


def joined(parts: Parts, texts: Mapping[int, str]) -> list[str | int | None]:
    """The parts with some of them, by their places, as texts, which are one with the texts beside them."""
    found: list[str | int | None] = []
    for at, part in enumerate(parts):
        part = texts.get(at, part)
        is_one = at in texts or at - 1 in texts
        if is_one and isinstance(part, str) and found and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return found


def stripped(parts: Parts, tokens: Mapping[int, AddedToken]) -> list[str | int | None]:
    """The parts of a text, without the white space that the marks beside it take; empty texts are left out."""
    found: list[str | int | None] = []
    for i, part in enumerate(parts):
        if isinstance(part, str):
            left, right = (parts[i - 1] if i else None), (parts[i + 1] if i + 1 < len(parts) else None)
            if isinstance(left, int) and left in tokens and tokens[left].rstrip:
                part = part.lstrip()
            if isinstance(right, int) and right in tokens and tokens[right].lstrip:
                part = part.rstrip()
        if part != "":
            found.append(part)
    return found


def cut_at_names(text: str, names: Mapping[str, int]) -> list[str | int]:
    """A text with the ids of the tokens that it names, the longest name first where several begin."""
    if not names or not any(name in text for name in names):
        return [text] if text else []
    pattern = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))
    found: list[str | int] = []
    end = 0
    for match in pattern.finditer(text):
        found += [text[end : match.start()], names[match[0]]]
        end = match.end()
    return [part for part in (*found, text[end:]) if part != ""]
