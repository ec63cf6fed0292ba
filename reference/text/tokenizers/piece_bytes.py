"""The bytes that each piece of a `tokenizer.json` adds to a text, by the decoder that the file names.

An answer is streamed piece by piece, so a decoder must treat each piece for itself. One that needs the pieces before or
behind it is refused by name; what a decoder does to the first space of a text alone is `drops_first_space`.
"""

import re
from collections.abc import Callable, Iterator

from verbatim.reference.records.errors import ModelError

BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
SPACE = "▁"
PIECEWISE = ("ByteFallback", "ByteLevel", "Fuse", "Metaspace", "Replace", "Strip")
# What a file without a decoder means: pieces as sentencepiece has them.
USUAL = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Metaspace", "replacement": SPACE}]}
Step = Callable[[str], str]


def piece_decoder(raw: dict, name: str) -> Callable[[str], bytes]:
    """A function from a piece to its bytes. `raw` is a tokenizer.json, `name` what errors call it."""
    decoders = list(_flat(raw.get("decoder") or USUAL))
    types = [decoder.get("type") for decoder in decoders]
    if unknown := [found for found in types if found not in PIECEWISE]:
        raise ModelError(f"{name}: decoder {unknown[0]!r} is not supported; supported: {', '.join(PIECEWISE)}")
    is_byte_level = "ByteLevel" in types or (raw.get("decoder") is None and names_byte_level(raw.get("pre_tokenizer")))
    if is_byte_level:
        decoders = decoders[: types.index("ByteLevel")] if "ByteLevel" in types else []
    steps = list(_steps(decoders, name))

    def to_bytes(piece: str) -> bytes:
        for step in steps:
            if step is not None:
                piece = step(piece)
            elif match := BYTE_PIECE.fullmatch(piece):
                return bytes([int(match[1], 16)])
        return _byte_level(piece) if is_byte_level else piece.encode()

    return to_bytes


def names_byte_level(part) -> bool:
    """Whether a decoder or pre-tokenizer is that of bytes in GPT-2's alphabet, or has it in it."""
    if not isinstance(part, dict):
        return False
    inner = [*part.get("decoders", []), *part.get("pretokenizers", [])]
    return part.get("type") == "ByteLevel" or any(map(names_byte_level, inner))


def _flat(decoder: dict) -> Iterator[dict]:
    if decoder.get("type") == "Sequence":
        for part in decoder.get("decoders", []):
            yield from _flat(part)
    else:
        yield decoder


def _steps(decoders: list[dict], name: str) -> Iterator[Step | None]:
    """What happens to each piece; None where names of bytes become bytes.

    Behind `Fuse` a decoder sees the whole text, so that not all of them can be done piece by piece.
    """
    is_fused = False
    for decoder in decoders:
        match decoder["type"]:
            case "ByteFallback":
                yield None
            case "Fuse":
                is_fused = True
            case "Metaspace":
                yield _replacing(decoder.get("replacement", SPACE), " ")
            case "Replace":
                pattern = decoder["pattern"]
                if is_fused and len(pattern.get("String", "  ")) != 1:
                    raise ModelError(f"{name}: decoder 'Replace' of {pattern!r} behind 'Fuse' is not supported")
                yield _replacement(pattern, decoder["content"])
            case "Strip":
                start, stop = decoder.get("start", 0), decoder.get("stop", 0)
                if not is_fused:
                    yield _stripping(decoder["content"], start, stop)
                elif stop or start > 1 or decoder["content"] != " ":
                    raise ModelError(f"{name}: decoder 'Strip' of more than the first space of a text is not supported")


def _replacing(old: str, new: str) -> Step:
    return lambda piece: piece.replace(old, new)


def _replacement(pattern: dict, content: str) -> Step:
    if "String" in pattern:
        return _replacing(pattern["String"], content)
    from tokenizers import Regex, decoders

    library = decoders.Replace(Regex(pattern["Regex"]), content)
    return lambda piece: library.decode([piece])


def _stripping(character: str, start: int, stop: int) -> Step:
    """Up to so many of the character at the beginning, and at the end, of each piece."""

    def step(piece: str) -> str:
        begin, end = 0, len(piece)
        while begin < min(start, end) and piece[begin] == character:
            begin += 1
        while end > max(begin, len(piece) - stop) and piece[end - 1] == character:
            end -= 1
        return piece[begin:end]

    return step


def _byte_level(piece: str) -> bytes:
    """As the library: a piece with a character that stands for no byte is its own text."""
    try:
        return bytes(BYTE_OF_CHARACTER[character] for character in piece)
    except KeyError:
        return piece.encode()


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for characters from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


BYTE_OF_CHARACTER = _byte_alphabet()
