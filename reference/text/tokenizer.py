"""Text to ids and ids to bytes, for the two formats that models come with.

`tokenizer.model` is read by the `sentencepiece` library, `tokenizer.json` by `tokenizers`. Both are used for
splitting only: text never turns into control tokens here. Those come as ids, from a chat template's own marks.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from verbatim.reference.records.config import read_json
from verbatim.reference.records.errors import ModelError

BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Tokenizer(ABC):
    """A vocabulary. `control_ids` maps the marks that only a template may write (`<s>`, `<|im_end|>`) to their ids."""

    vocab_size: int
    control_ids: dict[str, int]
    bos_ids: tuple[int, ...] = ()  # what a raw prompt starts with
    strips_first_space: bool = False  # the first piece of a text carries a space that the text does not have

    @abstractmethod
    def encode(self, text: str, *, is_first: bool = True) -> list[int]:
        """The ids of plain text; `is_first` is False for text that goes on after a control token."""

    @abstractmethod
    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token adds to the text: none for control tokens, ids without a token, and padding."""

    def encode_prompt(self, text: str) -> list[int]:
        """The ids of a raw prompt, begun as the tokenizer's own configuration asks for."""
        return [*self.bos_ids, *self.encode(text)]

    def encode_pieces(self, pieces: Sequence[str | int]) -> list[int]:
        """The ids of a rendered chat: text is encoded, ids of control tokens stand as they are."""
        ids: list[int] = []
        for piece in pieces:
            ids.extend([piece] if isinstance(piece, int) else self.encode(piece, is_first=not ids))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, for people: broken characters become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode(errors="replace")


class SentencePieceTokenizer(Tokenizer):
    """A `tokenizer.model`, and what `tokenizer_config.json` says about its start."""

    def __init__(self, directory: Path, settings: dict):
        import sentencepiece  # here, so that a model with tokenizer.json needs only the other library

        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
        except (RuntimeError, OSError) as error:
            raise ModelError(f"{directory / 'tokenizer.model'} cannot be read: {error}") from None
        processor = self._processor
        self.vocab_size = processor.get_piece_size()
        self._bytes = [self._piece_bytes(i) for i in range(self.vocab_size)]
        marked = {processor.id_to_piece(i): i for i in range(self.vocab_size) if processor.is_control(i)}
        self.control_ids = {**marked, **_added_control_ids(settings)}
        self._adds_space = processor.id_to_piece(processor.encode("a")[0]).startswith("▁")
        self._is_legacy = settings.get("legacy", True)
        self.strips_first_space = self._adds_space
        if settings.get("add_bos_token", True) and processor.bos_id() >= 0:
            self.bos_ids = (processor.bos_id(),)

    def _piece_bytes(self, token_id: int) -> bytes:
        processor = self._processor
        if processor.is_control(token_id) or processor.is_unused(token_id):
            return b""
        piece = processor.id_to_piece(token_id)
        if processor.is_byte(token_id):
            found = BYTE_PIECE.fullmatch(piece)
            assert found
            return bytes([int(found[1], 16)])
        return b"" if processor.is_unknown(token_id) else piece.replace("▁", " ").encode()

    def encode(self, text: str, *, is_first: bool = True) -> list[int]:
        """Sentencepiece's own encoding; after a control token only old ("legacy") models put a space in front."""
        if is_first or self._is_legacy or not self._adds_space:
            return self._processor.encode(text)
        # A mark that the model knows keeps the space away from the text; its own pieces are cut off again.
        mark = self._processor.encode("\n")
        return self._processor.encode("\n" + text)[len(mark) :]

    def token_bytes(self, token_id: int) -> bytes:
        """The piece's bytes."""
        return self._bytes[token_id] if token_id < self.vocab_size else b""


class JsonTokenizer(Tokenizer):
    """A `tokenizer.json` of byte-level BPE (GPT-2, Llama 3, Qwen) or BPE with byte fallback (Llama 2, Mistral)."""

    def __init__(self, directory: Path, settings: dict):
        import tokenizers

        path = directory / "tokenizer.json"
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"{path} cannot be read: {error}") from None
        self._tokenizer.encode_special_tokens = True  # special tokens in text are text
        raw = read_json(path)
        is_byte_level = _names_byte_level(raw.get("decoder")) or _names_byte_level(raw.get("pre_tokenizer"))
        added = {token["id"]: token for token in raw.get("added_tokens", [])}
        self.vocab_size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.control_ids = {token["content"]: i for i, token in added.items() if token.get("special")}
        to_bytes = _byte_level if is_byte_level else _byte_fallback
        self._bytes = {}
        for piece, i in self._tokenizer.get_vocab(with_added_tokens=True).items():
            content = added[i]["content"].encode() if i in added else to_bytes(piece)
            self._bytes[i] = b"" if i in added and added[i].get("special") else content
        first = self._tokenizer.encode("a", add_special_tokens=False).tokens
        self.strips_first_space = not is_byte_level and bool(first) and first[0].startswith("▁")
        start = self._tokenizer.encode("", add_special_tokens=True).ids
        bos_token = token_content(settings.get("bos_token"))
        bos = None if bos_token is None else self.control_ids.get(bos_token)
        self.bos_ids = (bos,) if bos is not None and (settings.get("add_bos_token") or bos in start) else ()

    def encode(self, text: str, *, is_first: bool = True) -> list[int]:
        """The library's encoding, without any special token."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def token_bytes(self, token_id: int) -> bytes:
        """The piece's bytes."""
        return self._bytes.get(token_id, b"")


def load_tokenizer(directory: str | Path) -> Tokenizer:
    """The tokenizer of a model directory; `tokenizer.json` wins where both are there, as in transformers."""
    directory = Path(directory)
    settings = read_settings(directory)
    if (directory / "tokenizer.json").exists():
        return JsonTokenizer(directory, settings)
    if (directory / "tokenizer.model").exists():
        return SentencePieceTokenizer(directory, settings)
    raise ModelError(f"{directory} has no tokenizer: neither tokenizer.json nor tokenizer.model")


def read_settings(directory: Path) -> dict:
    """`tokenizer_config.json`, or nothing."""
    path = directory / "tokenizer_config.json"
    return read_json(path) if path.exists() else {}


def token_content(token) -> str | None:
    """The text of a special token, which transformers writes as a string or as an object with `content`."""
    return token.get("content") if isinstance(token, dict) else token


def _added_control_ids(settings: dict) -> dict[str, int]:
    added = settings.get("added_tokens_decoder", {})
    return {token["content"]: int(i) for i, token in added.items() if token.get("special")}


def _names_byte_level(part) -> bool:
    if not isinstance(part, dict):
        return False
    inner = [*part.get("decoders", []), *part.get("pretokenizers", [])]
    return part.get("type") == "ByteLevel" or any(map(_names_byte_level, inner))


def _byte_fallback(piece: str) -> bytes:
    match = BYTE_PIECE.fullmatch(piece)
    return bytes([int(match[1], 16)]) if match else piece.replace("▁", " ").encode()


def _byte_level(piece: str) -> bytes:
    return bytes(BYTE_OF_CHARACTER[character] for character in piece)


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for characters from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


BYTE_OF_CHARACTER = _byte_alphabet()
