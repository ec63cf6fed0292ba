"""The vocabulary of a GGUF file, read by the same libraries as others: sentencepiece, or `tokenizers` for byte pairs.

Pieces, their types, and scores or merges lie in the file. How text is cut into words before merging is only a name
there (`tokenizer.ggml.pre`); an unknown name is refused, since any other cut gives other tokens.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np

from verbatim.reference.records.errors import ModelError
from verbatim.reference.text.tokenizer import Tokenizer
from verbatim.reference.text.tokenizers.added_tokens import AddedToken
from verbatim.reference.text.tokenizers.json_file import JsonTokenizer
from verbatim.reference.text.tokenizers.piece_bytes import BYTE_OF_CHARACTER
from verbatim.reference.text.tokenizers.sentencepiece_file import SentencePieceTokenizer

PREFIX = "tokenizer.ggml."
NORMAL_FORM = f"{PREFIX}precompiled_charsmap"
TRAINERS = {"llama": 2, "t5": 1}  # of sentencepiece: byte pairs, or Unigram
UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4  # types of pieces, as sentencepiece numbers them
TYPES = frozenset(range(1, 7))
ALPHABET = BYTE_OF_CHARACTER.keys()  # a token with other characters is none that merges make
SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
# Control tokens that end an answer, whatever the file names as its end.
ENDS = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "<|end_of_text|>")
LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = rf"{SHORT}|{LETTERS}|\p{{N}}{{1,3}}|{REST}"
QWEN2 = rf"{SHORT}|{LETTERS}|\p{{N}}|{REST}"
SLASHES = REST.replace(r"+[\r\n]*", r"+[\r\n/]*")
TEKKEN = "|".join(
    (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*", r"\p{N}", SLASHES)
)
GPT4O = "|".join((
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{SHORT}?", rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{SHORT}?",
    r"\p{N}{1,3}", SLASHES,
))  # fmt: skip
SEED = rf"{SHORT}|{LETTERS}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
DIGITS = (r"\p{N}", GPT2)
DEEPSEEK3 = (
    r"\p{N}{1,3}",
    r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+",  # Chinese and Japanese
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
# Name -> patterns that cut a text one after another; the words that a pattern finds, and what lies between them.
PATTERNS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("gpt-2", "phi-2", "olmo", "mpt", "roberta-bpe", "exaone4"), (GPT2,)),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "dbrx", "smaug-bpe"), (LLAMA3,)),
    **dict.fromkeys(("chatglm-bpe", "glm4"), (LLAMA3,)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"), (QWEN2,)),
    **dict.fromkeys(("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"), DIGITS),
    "tekken": (TEKKEN,),
    **dict.fromkeys(("gpt-4o", "llama4"), (GPT4O,)),
    "seed-coder": (SEED,),
    "deepseek-v3": DEEPSEEK3,
}
# A word that is a piece is not merged from parts; a text begins with the first token where the file does not say.
WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3", "falcon3", "tekken")
NFC = ("qwen2", "deepseek-r1-qwen", "stablelm2")


def read_gguf_tokenizer(name: str, values: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a file's metadata; `name` is what errors call it."""
    model, pieces = values.get(f"{PREFIX}model"), _pieces(values)
    if not pieces:
        raise ModelError(f"{name} has no tokenizer: {PREFIX}tokens is missing or no list of texts")
    types = _numbers(name, values, "token_type", len(pieces), [1] * len(pieces))
    if not set(types) <= TYPES:
        raise ModelError(f"{name}: {PREFIX}token_type holds {min(set(types) - TYPES)}; types are 1 to 6")
    model = model if isinstance(model, str) else None
    if model == "t5" and np.size(values.get(NORMAL_FORM, ())):  # which llama.cpp heeds in these alone
        raise ModelError(f"{name}: {NORMAL_FORM}, a normal form of its own, is not supported")
    if model in TRAINERS:
        scores = _numbers(name, values, "scores", len(pieces), None)
        content = _sentencepiece_model(pieces, list(map(float, scores)), list(map(int, types)), values)
        found = SentencePieceTokenizer(content, _settings(values, begins=True), name, _marks(pieces, types, values))
        # Marks that a template may write; runs of spaces, which some vocabularies have as such tokens, are none.
        visible = (i for i, type_ in enumerate(types) if type_ == USER_DEFINED and pieces[i].strip("▁ \t\r\n"))
        found.added_ids = {pieces[i]: i for i in visible}
        return found
    if model == "gpt2":
        text, begins = _json(name, pieces, types, values)
        return JsonTokenizer(text, _settings(values, begins=begins), name)
    raise ModelError(
        f"{name}: {PREFIX}model {str(model)[:50]!r} is not supported; supported: gpt2, {', '.join(TRAINERS)}"
    )


def _pieces(values: Mapping[str, Any]) -> list[str]:
    """The tokens; none where they are no list of texts."""
    found = values.get(f"{PREFIX}tokens")
    return found if isinstance(found, list) else []


def _is_id(number: Any, pieces: list[str]) -> TypeGuard[int]:
    return isinstance(number, int) and 0 <= number < len(pieces)


def special_tokens(values: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token` and the others that a template may name."""
    pieces = _pieces(values)
    ids = {name: values.get(f"{PREFIX}{theirs}_token_id") for name, theirs in SPECIAL.items()}
    return {name: pieces[i] for name, i in ids.items() if _is_id(i, pieces)}


def end_ids(values: Mapping[str, Any]) -> list[int]:
    """The ids of control tokens that end an answer by their names."""
    pieces, types = _pieces(values), values.get(f"{PREFIX}token_type")
    if not isinstance(types, np.ndarray) or len(types) != len(pieces):
        return []
    return [i for i, piece in enumerate(pieces) if piece in ENDS and types[i] == CONTROL]


def _settings(values: Mapping[str, Any], *, begins: bool) -> dict:
    """What tokenizer_config.json would say."""
    found = values.get(f"{PREFIX}add_bos_token")
    return special_tokens(values) | {"add_bos_token": found if isinstance(found, bool) else begins}


def _marks(pieces: list[str], types: list, values: Mapping[str, Any]) -> dict[int, AddedToken]:
    """Control tokens that take the white space behind them: Phi 3's do, and the file does not say it."""
    if str(values.get("general.architecture")) != "phi3":
        return {}
    return {
        i: AddedToken(piece, rstrip=True)
        for i, piece in enumerate(pieces)
        if types[i] == CONTROL and piece not in ("<s>", "<|endoftext|>")
    }


def _numbers(name: str, values: Mapping[str, Any], field: str, count: int, default: list | None) -> list:
    found = values.get(f"{PREFIX}{field}")
    if found is None and default is not None:
        return default
    if not isinstance(found, np.ndarray) or len(found) != count:
        raise ModelError(f"{name}: {PREFIX}{field} must hold {count} numbers, one for each token")
    return found.tolist()


def _sentencepiece_model(pieces: list[str], scores: list[float], types: list[int], values: Mapping[str, Any]) -> bytes:
    """A `tokenizer.model`: protocol buffers of pieces, a trainer (its type, fallback to bytes), and a normaliser.

    The fields are numbered in https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto.
    """
    parts = [
        _field(1, _field(1, piece.encode() or f"[empty {i}]".encode()) + _float(2, score) + _number(3, type_))
        for i, (piece, score, type_) in enumerate(zip(pieces, scores, types, strict=True))
    ]
    ids = {field: values.get(f"{PREFIX}{name}_token_id") for field, name in ((41, "bos"), (42, "eos"))}
    unknown = types.index(UNKNOWN) if UNKNOWN in types else 0
    trainer = _number(3, TRAINERS[values[f"{PREFIX}model"]]) + _number(35, 1) + _number(40, unknown)
    for field, number in ids.items():
        if _is_id(number, pieces):  # its id, and its name, by which the library finds it
            trainer += _number(field, number) + _field(field + 5, pieces[number].encode())
    adds_space = values.get(f"{PREFIX}add_space_prefix")
    spaces = _number(3, adds_space is not False)
    spaces += _number(4, values.get(f"{PREFIX}remove_extra_whitespaces") is True) + _number(5, 1)
    return b"".join(parts) + _field(2, trainer) + _field(3, _field(1, b"identity") + spaces)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _float(number: int, value: float) -> bytes:
    return _varint(number << 3 | 5) + struct.pack("<f", value)


def _json(name: str, pieces: list[str], types: list, values: Mapping[str, Any]) -> tuple[str, bool]:
    """A tokenizer.json, and whether a text begins with the first token."""
    pre = values.get(f"{PREFIX}pre", "default")
    if not isinstance(pre, str) or pre not in PATTERNS:
        raise ModelError(
            f"{name}: {PREFIX}pre {str(pre)[:50]!r} is not supported; supported: {', '.join(sorted(PATTERNS))}"
        )
    merges = values.get(f"{PREFIX}merges")
    if not isinstance(merges, list):
        raise ModelError(f"{name}: {PREFIX}merges is missing or no list of texts")
    pairs = [_pair(name, merge) for merge in merges]
    added = [
        {"id": i, "content": piece, "special": types[i] == CONTROL, "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False}
        for i, piece in enumerate(pieces) if types[i] in (CONTROL, USER_DEFINED) or not set(piece) <= ALPHABET
    ]  # fmt: skip
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in PATTERNS[pre]
    ]
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    content = {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if pre in NFC else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, bytes_of]},
        "post_processor": None,
        "decoder": bytes_of,
        "model": {
            "type": "BPE", "vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": pairs,
            "ignore_merges": pre in WHOLE_WORDS, "unk_token": None, "dropout": None,
            "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
        },
    }  # fmt: skip
    return json.dumps(content, ensure_ascii=False), pre in WHOLE_WORDS


def _pair(name: str, merge: str) -> list[str]:
    """The two parts of a merge: cut at the space, of which neither part holds any."""
    parts = merge.split(" ") if isinstance(merge, str) else []
    if len(parts) != 2:
        raise ModelError(f"{name}: {PREFIX}merges holds {str(merge)[:50]!r}, which is no pair")
    return parts
