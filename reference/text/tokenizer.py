"""A vocabulary: text to ids, and ids to bytes. `tokenizers/` reads the files that models come with.

Text never turns into control tokens. Those come as ids, from a chat template's own marks.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from verbatim.reference.records.config import read_json


class Tokenizer(ABC):
    """A vocabulary. `control_ids` maps the marks that only a template may write (`<s>`, `<|im_end|>`) to their ids.

    `added_ids` are further tokens that were added to the vocabulary by name, and are visible text: `<think>`, or a run
    of spaces. Those that a chat template writes are marks in a chat, too.
    """

    vocab_size: int
    control_ids: dict[str, int]
    added_ids: dict[str, int] = {}  # noqa: RUF012  # none
    bos_ids: tuple[int, ...] = ()  # what a raw prompt starts with
    strips_first_space: bool = False  # the first piece of a text carries a space that the text does not have

    @cached_property
    def control_names(self) -> dict[int, bytes]:
        """The names of control tokens by their ids, in bytes."""
        return {i: name.encode() for name, i in self.control_ids.items()}

    @cached_property
    def longest_bytes(self) -> int:
        """The bytes of the longest token."""
        return max(len(self.token_bytes(i)) for i in range(self.vocab_size))

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
        """The ids of a rendered chat: text is encoded, ids of marks stand as they are. Two texts that follow each other
        are encoded apart: together they would be a mark that somebody has only spelled out.
        """
        ids: list[int] = []
        for piece in pieces:
            ids.extend([piece] if isinstance(piece, int) else self.encode(piece, is_first=not ids))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, for people: broken characters become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode(errors="replace")


def read_settings(directory: Path) -> dict:
    """`tokenizer_config.json`, or nothing."""
    path = directory / "tokenizer_config.json"
    return read_json(path) if path.exists() else {}


def token_content(token) -> str | None:
    """The text of a special token, which transformers writes as a string or as an object with `content`."""
    return token.get("content") if isinstance(token, dict) else token
