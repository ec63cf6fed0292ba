"""Tokens that were added to a vocabulary by name, and what they do to the text beside them.

A mark that is `rstrip` takes the white space behind it, one that is `lstrip` that before it; one that is `single_word`
counts only where no letter, digit or underscore stands beside it.
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
    flags = {name: bool(token.get(name, False)) for name in ("lstrip", "rstrip", "single_word")}
    content = token_content(token)
    if not content:
        raise ValueError(f"a token without content: {token!r}")
    return AddedToken(content, is_special=bool(token.get("special", False)), **flags)


def without_joined(parts: Parts, tokens: Mapping[int, AddedToken]) -> list[str | int | None]:
    """The parts of a text, where a `single_word` mark that stands beside a word is the text of its name."""

    def name(part: str | int | None) -> str:
        if isinstance(part, str):
            return part
        return "" if part is None or part not in tokens else tokens[part].content

    found: list[str | int | None] = []
    is_joined = False  # whether the next text continues the last one
    for i, part in enumerate(parts):
        token = None if part is None or isinstance(part, str) else tokens.get(part)
        before, behind = name(parts[i - 1]) if i else "", name(parts[i + 1]) if i + 1 < len(parts) else ""
        is_text = token is not None and token.single_word
        is_text = is_text and bool(WORD_ENDS.search(before) or WORD_BEGINS.match(behind))
        part = token.content if token is not None and is_text else part
        if isinstance(part, str) and found and isinstance(found[-1], str) and (is_text or is_joined):
            found[-1] += part
        else:
            found.append(part)
        is_joined = is_text
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
