"""The vocabulary of a model directory as metadata of a GGUF file: the other direction of gguf_file.py.

What is written is read back at once, and has to give the same ids of texts that show where vocabularies differ. How
text is cut into words is only a name in a GGUF file: the name is searched among those known, by these ids.
"""

import json
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from verbatim.reference.records.errors import ModelError
from verbatim.reference.text.tokenizer import Tokenizer, read_settings, token_content
from verbatim.reference.text.tokenizers.added_tokens import read_added_tokens
from verbatim.reference.text.tokenizers.gguf_file import (
    CONTROL,
    NFC,
    PATTERNS,
    PREFIX,
    SPECIAL,
    TRAINERS,
    UNKNOWN,
    USER_DEFINED,
    WHOLE_WORDS,
    read_gguf_tokenizer,
)
from verbatim.reference.text.tokenizers.piece_bytes import names_byte_level
from verbatim.reference.text.tokenizers.sentencepiece_file import BYTE_PIECE

NORMAL, UNUSED, BYTE = 1, 5, 6
MOST_NAMES = 200  # of added tokens, that are tried in a text
PROBES = (
    "Hello World's 12345 times, don't DON'T I'LL", "naïve  spaces\n\n\ttabs \r\n  end  ", "漢字 kana カタカナ 🙂 été́",
    "a/b//c x_y=1; (foo) <s> ▁ -- ...", " leading", "\n", "١٢٣ ½ ① Ⅷ", "", "e\u0301 \u1100\u1161 ﬁ",
    "CamelCaseWord ABCdef",
)  # fmt: skip


def describe_vocabulary(directory: Path, tokenizer: Tokenizer, vocab_size: int, architecture: str) -> dict[str, Any]:
    """Metadata under `tokenizer.ggml.`; ModelError for a vocabulary that GGUF has no way to say."""
    settings = read_settings(directory)
    for found in _candidates(directory, settings):
        pieces, types = found["tokens"], found["token_type"]
        if len(pieces) > vocab_size:
            raise ModelError(
                f"{directory} has {len(pieces)} tokens, and the model {vocab_size}: GGUF needs as many of both"
            )
        found["tokens"] = [*pieces, *(f"[PAD{i}]" for i in range(len(pieces), vocab_size))]
        found["token_type"] = np.array([*types, *[UNUSED] * (vocab_size - len(pieces))], np.int32)
        if "scores" in found:
            found["scores"] = np.array([*found["scores"], *[0.0] * (vocab_size - len(pieces))], np.float32)
        values = {f"{PREFIX}{name}": value for name, value in (found | _ids(tokenizer, settings, pieces)).items()}
        if _is_same(tokenizer, values | {"general.architecture": architecture}):
            return values
    raise ModelError(
        f"{directory}: its vocabulary cannot be written as GGUF: read back, it gives other ids "
        "(its cut into words, its normal form or its white space has no name there)"
    )


def _candidates(directory: Path, settings: dict) -> Iterator[dict[str, Any]]:
    """What the vocabulary may be in GGUF's words, the likeliest first."""
    path = directory / "tokenizer.json"
    if path.exists():
        raw = json.loads(path.read_text(encoding="utf-8"))
        if (raw.get("model") or {}).get("type") != "BPE":
            raise ModelError(f"{path}: a model other than BPE cannot be written as GGUF")
        if names_byte_level(raw.get("decoder")) or names_byte_level(raw.get("pre_tokenizer")):
            yield from _byte_pairs(raw)
        else:
            yield from _fallback_pairs(raw)
    elif (directory / "tokenizer.model").exists():
        yield _sentencepiece(directory, settings)
    else:
        raise ModelError(f"{directory}: only tokenizer.json and tokenizer.model can be written as GGUF")


def _pieces(raw: dict) -> tuple[list[str], list[int]]:
    """Tokens by their ids, and their types, with unused ones where an id has no token."""
    added = {token["id"]: token for token in raw.get("added_tokens") or ()}
    by_id = {i: piece for piece, i in raw["model"]["vocab"].items()} | {
        i: token["content"] for i, token in added.items()
    }
    count, unknown = max(by_id) + 1, raw["model"].get("unk_token")
    types = [NORMAL if i in by_id else UNUSED for i in range(count)]
    for i, token in added.items():
        types[i] = UNKNOWN if token["content"] == unknown else CONTROL if token.get("special") else USER_DEFINED
    return [by_id.get(i, f"[PAD{i}]") for i in range(count)], types


def _merges(raw: dict) -> list[str]:
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in raw["model"]["merges"]]


def _byte_pairs(raw: dict) -> Iterator[dict[str, Any]]:
    """Once for each known way to cut into words; those that are alike to what the file says come first."""
    pieces, types = _pieces(raw)
    text, form = (json.dumps(raw.get(name), ensure_ascii=False) for name in ("pre_tokenizer", "normalizer"))
    ways: dict[tuple, str] = {}
    for name, patterns in PATTERNS.items():
        ways.setdefault((patterns, name in WHOLE_WORDS, name in NFC), name)

    def distance(name: str) -> tuple[bool, int]:
        is_other_form = (name in NFC) != ('"NFC"' in form)
        is_other_merging = (name in WHOLE_WORDS) != bool(raw["model"].get("ignore_merges"))
        return json.dumps(PATTERNS[name][-1], ensure_ascii=False) not in text, is_other_form + is_other_merging

    for name in sorted(ways.values(), key=distance):
        yield {"model": "gpt2", "pre": name, "tokens": pieces, "token_type": types, "merges": _merges(raw)}


def _fallback_pairs(raw: dict) -> Iterator[dict[str, Any]]:
    """Pairs with fallback to bytes are sentencepiece's: a piece's score is the place of the merge that makes it."""
    pieces, types = _pieces(raw)
    types = [
        BYTE if BYTE_PIECE.fullmatch(piece) and type_ == NORMAL else type_
        for piece, type_ in zip(pieces, types, strict=True)
    ]
    places: dict[str, int] = {}
    for place, merge in enumerate(_merges(raw)):
        places.setdefault(merge.replace(" ", ""), place)
    scores = [-float(places.get(piece, len(places))) for piece in pieces]
    for adds_space in (True, False):
        yield {
            "model": "llama", "pre": "default", "tokens": pieces, "scores": scores, "token_type": types,
            "add_space_prefix": adds_space, "remove_extra_whitespaces": False,
        }  # fmt: skip


def _sentencepiece(directory: Path, settings: dict) -> dict[str, Any]:
    """Pieces, scores and types as the model file has them, and what was added beside them."""
    path = directory / "tokenizer.model"
    pieces, scores, types, normalizer, trainer = [], [], [], {}, {}
    try:
        for field, content in _messages(path.read_bytes()):
            if field == 1:
                part = dict(_messages(content))
                pieces.append(bytes(part.get(1, b"")).decode())
                scores.append(struct.unpack("<f", part.get(2, bytes(4)))[0])
                types.append(part.get(3, NORMAL))
            elif field == 2:
                trainer = dict(_messages(content))
            elif field == 3:
                normalizer = dict(_messages(content))
    except (ValueError, IndexError, struct.error, TypeError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    for i, token in sorted(read_added_tokens(directory, settings).items()):
        while len(pieces) <= i:
            pieces.append(f"[PAD{len(pieces)}]")
            scores.append(0.0)
            types.append(UNUSED)
        if types[i] in (NORMAL, UNUSED, USER_DEFINED):
            pieces[i], types[i] = token.content, CONTROL if token.is_special else USER_DEFINED
    model = next((name for name, number in TRAINERS.items() if number == trainer.get(3, 1)), "llama")
    return {
        "model": model, "pre": "default", "tokens": pieces, "scores": scores, "token_type": types,
        "add_space_prefix": bool(normalizer.get(3, 1)), "remove_extra_whitespaces": bool(normalizer.get(4, 1)),
    }  # fmt: skip


def _messages(content: bytes) -> Iterator[tuple[int, Any]]:
    """Fields of protocol buffers: their numbers, with whole numbers or bytes."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = content[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(content):
        field, form = divmod(number(), 8)
        if form == 0:
            yield field, number()
            continue
        size = number() if form == 2 else {1: 8, 5: 4}[form]
        at += size
        yield field, content[at - size : at]


def _ids(tokenizer: Tokenizer, settings: dict, pieces: list[str]) -> dict[str, Any]:
    """Special tokens by their ids, and whether a text begins with the first."""
    found: dict[str, Any] = {}
    for name, theirs in SPECIAL.items():
        content = token_content(settings.get(name))
        if content in pieces:
            found[f"{theirs}_token_id"] = pieces.index(content)
    if tokenizer.bos_ids:
        found["bos_token_id"] = tokenizer.bos_ids[0]
    return found | {"add_bos_token": bool(tokenizer.bos_ids), "add_eos_token": False}


def _is_same(tokenizer: Tokenizer, values: dict[str, Any]) -> bool:
    try:
        read = read_gguf_tokenizer("GGUF", values)
    except ModelError:
        return False
    names = islice(tokenizer.added_ids, MOST_NAMES)
    texts = [*PROBES, *(f"a {name.replace('▁', ' ')} b" for name in names)]
    same = all(
        read.encode(text, is_first=first) == tokenizer.encode(text, is_first=first)
        for text in texts
        for first in (True, False)
    )
    types = values[f"{PREFIX}token_type"]
    controls = {name: i for name, i in tokenizer.control_ids.items() if types[i] != UNKNOWN}
    marks = [piece for i in controls.values() for piece in (i, "\n a")]
    return (
        same and read.control_ids == controls and read.bos_ids == tokenizer.bos_ids
        and read.encode_pieces(marks) == tokenizer.encode_pieces(marks)
    )  # fmt: skip
