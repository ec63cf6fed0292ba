"""A `tekken.json`, Mistral's own file, read by the `tiktoken` library.

It has a pattern that cuts text into words, byte pieces in the order of their merges, and in front of them a fixed
number of places for control tokens.
"""

import base64
import binascii
from pathlib import Path

from verbatim.reference.records.config import read_json
from verbatim.reference.records.errors import ModelError
from verbatim.reference.text.tokenizer import Tokenizer

NAME = "tekken.json"
# The first control tokens of files that do not list them.
FIRST = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
         "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]",
         "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]")  # fmt: skip


class TekkenTokenizer(Tokenizer):
    """The vocabulary of a file; ModelError if it cannot be read."""

    def __init__(self, directory: Path):
        path = directory / NAME
        raw = read_json(path)
        try:
            import tiktoken
        except ImportError:
            raise ModelError(f"{path} needs the package tiktoken: pip install tiktoken") from None
        try:
            config = raw["config"]
            num_control, size = int(config["default_num_special_tokens"]), int(config["default_vocab_size"])
            pieces = [base64.b64decode(item["token_bytes"]) for item in raw["vocab"][: size - num_control]]
            listed = {int(token["rank"]): token["token_str"] for token in raw.get("special_tokens") or ()}
            self._encoding = tiktoken.Encoding(
                name="tekken", pat_str=config["pattern"], special_tokens={},
                mergeable_ranks={piece: rank for rank, piece in enumerate(pieces)},
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            raise ModelError(f"{path} is no tekken.json: {type(error).__name__} {error}") from None
        names = listed or dict(enumerate(FIRST))
        self.control_ids = {names.get(i, f"<SPECIAL_{i}>"): i for i in range(num_control)}
        self._pieces, self._num_control = pieces, num_control
        self.vocab_size = num_control + len(pieces)
        self.bos_ids = (self.control_ids["<s>"],) if "<s>" in self.control_ids else ()

    def encode(self, text: str, *, is_first: bool = True) -> list[int]:
        """Byte pieces, behind the control tokens' places."""
        return [self._num_control + rank for rank in self._encoding.encode_ordinary(text)]

    def token_bytes(self, token_id: int) -> bytes:
        """The piece's bytes."""
        place = token_id - self._num_control
        return self._pieces[place] if 0 <= place < len(self._pieces) else b""
