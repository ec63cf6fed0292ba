"""A `tokenizer.model`, read by the `sentencepiece` library, with the tokens that were added beside it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from verbatim.reference.records.errors import ModelError
from verbatim.reference.text.tokenizer import Tokenizer
from verbatim.reference.text.tokenizers.added_tokens import (
    AddedToken,
    cut_at_names,
    read_added_tokens,
    stripped,
    without_joined,
)

NONE: Mapping[int, AddedToken] = MappingProxyType({})
# Appended to a model (protobuf merges what is there twice): normalizer_spec { add_dummy_prefix: false }.
NO_SPACE_IN_FRONT = b"\x1a\x02\x18\x00"
BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class SentencePieceTokenizer(Tokenizer):
    """A sentencepiece model, given as bytes, and what `tokenizer_config.json` says about its start.

    `name` is what errors call it; `added` are the tokens beside it by their ids.
    """

    def __init__(self, content: bytes, settings: dict, name: str, added: Mapping[int, AddedToken] = NONE):
        import sentencepiece  # here, so that a model with tokenizer.json needs only the other library

        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=content)
        except (RuntimeError, OSError) as error:
            raise ModelError(f"{name} cannot be read: {error}") from None
        processor = self._processor
        num_pieces = processor.get_piece_size()
        self._added = added
        self._bytes = dict(enumerate(map(self._piece_bytes, range(num_pieces))))
        marked = {processor.id_to_piece(i): i for i in range(num_pieces) if processor.is_control(i)}
        self.control_ids = marked | {token.content: i for i, token in self._added.items() if token.is_special}
        # What the library itself reads from a text ("user-defined" pieces) stays with it.
        others = {i: token for i, token in self._added.items() if not token.is_special and i >= num_pieces}
        self.added_ids = {token.content: i for i, token in others.items()}
        self._bytes |= {i: b"" if token.is_special else token.content.encode() for i, token in self._added.items()}
        self.vocab_size = max(num_pieces, *(i + 1 for i in self._added)) if self._added else num_pieces
        self._adds_space = processor.id_to_piece(processor.encode("a")[0]).startswith("▁")
        self._is_legacy = settings.get("legacy", True)
        self._unknown, self._inner = processor.id_to_piece(processor.unk_id()), processor
        if self._adds_space and not self._is_legacy:
            self._inner = sentencepiece.SentencePieceProcessor(model_proto=content + NO_SPACE_IN_FRONT)
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
        """Sentencepiece's own encoding of what stands between the added tokens that a text names."""
        return self._encoded(cut_at_names(text, self.added_ids), is_first=is_first)

    def encode_pieces(self, pieces: Sequence[str | int]) -> list[int]:
        """The same of a chat, whose marks take the white space beside them that they are declared to take.

        Names of marks that the template knows are parted already where a message spells them.
        """
        parts: list[str | int] = []
        for piece in pieces:
            parts += [piece] if isinstance(piece, int) else cut_at_names(piece, self.added_ids)
        return self._encoded(parts, is_first=True)

    def _encoded(self, parts: Sequence[str | int], *, is_first: bool) -> list[int]:
        ids: list[int] = []
        for part in stripped(without_joined(parts, self._added), self._added):
            if isinstance(part, str):
                ids += self._text_ids(part, is_first=is_first and not ids)
            elif part is not None:
                ids.append(part)
        return ids

    def _text_ids(self, text: str, *, is_first: bool) -> list[int]:
        """After a control token only old ("legacy") models put a space in front."""
        if is_first or self._is_legacy or not self._adds_space:
            return self._processor.encode(text)
        if not text.startswith((" ", "▁")):
            return self._inner.encode(text)
        # Models may cut off spaces where a text begins: it gets another beginning, whose pieces are cut off again.
        return self._inner.encode(self._unknown + text)[len(self._inner.encode(self._unknown)) :]

    def token_bytes(self, token_id: int) -> bytes:
        """The piece's bytes."""
        return self._bytes.get(token_id, b"")


def read_sentencepiece(directory: Path, settings: dict) -> SentencePieceTokenizer:
    """From tokenizer.model."""
    path = directory / "tokenizer.model"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    return SentencePieceTokenizer(content, settings, str(path), read_added_tokens(directory, settings))
