"""A `tokenizer.model`, read by the `sentencepiece` library."""

import re
from pathlib import Path

from verbatim.reference.records.errors import ModelError
from verbatim.reference.text.tokenizer import Tokenizer

BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class SentencePieceTokenizer(Tokenizer):
    """A sentencepiece model, given as bytes, and what `tokenizer_config.json` says about its start.

    `name` is what errors call it.
    """

    def __init__(self, content: bytes, settings: dict, name: str):
        import sentencepiece  # here, so that a model with tokenizer.json needs only the other library

        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=content)
        except (RuntimeError, OSError) as error:
            raise ModelError(f"{name} cannot be read: {error}") from None
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


def read_sentencepiece(directory: Path, settings: dict) -> SentencePieceTokenizer:
    """From tokenizer.model."""
    path = directory / "tokenizer.model"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    return SentencePieceTokenizer(content, settings, str(path))


def _added_control_ids(settings: dict) -> dict[str, int]:
    added = settings.get("added_tokens_decoder", {})
    return {token["content"]: int(i) for i, token in added.items() if token.get("special")}
