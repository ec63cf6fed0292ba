"""A `tokenizer.json`, or `vocab.json` with `merges.txt`, read by the `tokenizers` library.

A chat is encoded in one go, so that the library itself decides what a mark does to the text beside it: `lstrip` and
`rstrip` take white space, `Prepend` and `Metaspace` add it. For that the library knows every mark by a second, random
name (an alias), which no text can hold. A mark's own name in a text stays text.
"""

import json
import secrets
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from verbatim.reference.records.config import read_json
from verbatim.reference.records.errors import ModelError
from verbatim.reference.text.tokenizer import Tokenizer, token_content
from verbatim.reference.text.tokenizers.added_tokens import WORD_BEGINS, WORD_ENDS, AddedToken, joined, without_joined
from verbatim.reference.text.tokenizers.piece_bytes import names_byte_level, piece_decoder

OF_WORDS = ("WordPiece", "WordLevel")  # models whose text cannot be told from their pieces
VOCABULARY, MERGES = "vocab.json", "merges.txt"
# How the families that ship these two files cut text into words, and put it into a normal form.
WORDS = {
    "GPT2Tokenizer": (None, None),
    "Qwen2Tokenizer": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+",
        "NFC",
    ),
}


class JsonTokenizer(Tokenizer):
    """Byte-level BPE (GPT-2, Llama 3, Qwen) or BPE with byte fallback (Llama 2, Mistral, Gemma).

    `content` is the text of a tokenizer.json, `name` what errors call it.
    """

    def __init__(self, content: str, settings: dict, name: str):
        import tokenizers

        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(content)
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"{name} cannot be read: {error}") from None
        self._tokenizer.encode_special_tokens = True  # special tokens in text are text
        raw = json.loads(content)
        if (model := (raw.get("model") or {}).get("type")) in OF_WORDS:
            raise ModelError(f"{name}: a model of type {model!r} is not supported; supported: BPE, Unigram")
        added = {token["id"]: token for token in raw.get("added_tokens", [])}
        self.vocab_size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.control_ids = {token["content"]: i for i, token in added.items() if token.get("special")}
        self.added_ids = {token["content"]: i for i, token in added.items() if not token.get("special")}
        to_bytes = piece_decoder(raw, name)
        self._bytes = {}
        for piece, i in self._tokenizer.get_vocab(with_added_tokens=True).items():
            if i not in added:
                self._bytes[i] = to_bytes(piece)
            else:
                self._bytes[i] = b"" if added[i].get("special") else self._decoded(added[i]["content"])
        first = self._tokenizer.encode("a", add_special_tokens=False).ids[:1]
        is_byte_level = names_byte_level(raw.get("decoder")) or names_byte_level(raw.get("pre_tokenizer"))
        self.strips_first_space = not is_byte_level and b"".join(map(self.token_bytes, first))[:1] == b" "
        start = self._tokenizer.encode("", add_special_tokens=True).ids
        bos_token = token_content(settings.get("bos_token"))
        bos = None if bos_token is None else self.control_ids.get(bos_token)
        self.bos_ids = (bos,) if bos is not None and (settings.get("add_bos_token") or bos in start) else ()
        self._add_aliases()

    def _add_aliases(self) -> None:
        """Give each mark a second name of the same settings; `_real_ids` maps the ids of these names to the marks'."""
        import tokenizers as library

        salt = secrets.token_hex(8)
        added = self._tokenizer.get_added_tokens_decoder()
        self._aliases = {i: _alike(token.content, f"mark{salt}n{i}n") for i, token in added.items()}
        self._border = f"<mark{salt}border>"  # stands between two texts, and for an id that is no mark
        self._marks = {
            i: AddedToken(t.content, single_word=t.single_word, normalized=t.normalized) for i, t in added.items()
        }
        tokens = [library.AddedToken(name, special=False, **_settings(added[i])) for i, name in self._aliases.items()]
        self._tokenizer.add_tokens([*tokens, library.AddedToken(self._border, special=False, normalized=False)])
        self._real_ids = {self._tokenizer.token_to_id(name): i for i, name in self._aliases.items()}
        self._border_id = self._tokenizer.token_to_id(self._border)
        self._controls = {i: name for name, i in self.control_ids.items()}

    def encode(self, text: str, *, is_first: bool = True) -> list[int]:
        """The library's encoding, without any special token."""
        return self._encoded([text] if is_first else [None, text])

    def encode_pieces(self, pieces: Sequence[str | int]) -> list[int]:
        """The library's encoding of the whole rendered text; no token is formed from two texts in a row."""
        parts: list[str | int | None] = []
        for piece in pieces:
            parts += [None, piece] if parts and isinstance(piece, str) and isinstance(parts[-1], str) else [piece]
        return self._encoded(parts)

    def _encoded(self, parts: Sequence[str | int | None]) -> list[int]:
        """The ids of text and of marks; None is a border, which has no id in the result."""
        parts = without_joined(parts, self._marks)
        while True:
            names = [part if isinstance(part, str) else self._alias(part) for part in parts]
            encoded = self._tokenizer.encode("".join(names), add_special_tokens=False)
            found = encoded.ids
            if unread := self._unread(parts, names, encoded):
                parts = joined(parts, {at: self._marks[mark].content for at, mark in unread.items()})
                continue
            spelled = {self._controls[i] for i in found if i in self._controls}
            cut = [piece for part in parts for piece in _cut(part, spelled)]
            if len(cut) == len(parts):
                break
            parts = cut
        others = iter([part for part in parts if not isinstance(part, str) and part not in self._aliases])
        ids = [next(others) if i == self._border_id else self._real_ids.get(i, i) for i in found]
        return [i for i in ids if i is not None]

    def _unread(self, parts: Sequence[str | int | None], names: list[str], encoded) -> dict[int, int]:
        """Marks that the library does not read where they stand, by their places among the parts.

        It looks for a `normalized` mark by its name in normal form, which may begin with a space ("Prepend").
        """
        places = {at: mark for at, mark in enumerate(parts) if isinstance(mark, int) and mark in self._aliases}
        if not places:
            return {}
        spans = [span for i, span in zip(encoded.ids, encoded.offsets, strict=True) if i in self._real_ids]
        if len(spans) == len(places):
            return {}
        starts = list(accumulate(map(len, names), initial=0))
        return {at: mark for at, mark in places.items() if not any(a <= starts[at] < b for a, b in spans)}

    def _alias(self, mark: int | None) -> str:
        return self._border if mark is None else self._aliases.get(mark, self._border)

    def _decoded(self, content: str) -> bytes:
        """What the tokenizer's own decoder makes of an added token behind other text."""
        decoder = self._tokenizer.decoder
        if decoder is None:
            return content.encode()
        before = decoder.decode(["a"])
        return decoder.decode(["a", content]).removeprefix(before).encode()

    def token_bytes(self, token_id: int) -> bytes:
        """The piece's bytes."""
        return self._bytes.get(token_id, b"")


def _alike(content: str, name: str) -> str:
    """A name that begins and ends as the content does: in a word, or not."""
    return f"{'' if WORD_BEGINS.match(content) else '<'}{name}{'' if WORD_ENDS.search(content) else '>'}"


def _settings(token) -> dict[str, bool]:
    return {name: getattr(token, name) for name in ("lstrip", "rstrip", "normalized")}


def _cut(part: str | int | None, names: set[str]) -> list[str | int | None]:
    """The part, or a text cut behind the first character of every name in it.

    Some vocabularies hold a mark among their ordinary pieces, too, and would read it from a text.
    """
    if not isinstance(part, str):
        return [part]
    for name in names:
        at = part.find(name)
        if at >= 0 and len(name) > 1:
            return [*_cut(part[: at + 1], names), None, *_cut(part[at + 1 :], names)]
    return [part]


def read_json_tokenizer(directory: Path, settings: dict) -> JsonTokenizer:
    """From tokenizer.json."""
    path = directory / "tokenizer.json"
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    return JsonTokenizer(content, settings, str(path))


def read_vocabulary(directory: Path, settings: dict) -> JsonTokenizer:
    """From vocab.json and merges.txt; the class that tokenizer_config.json names says how text is cut into words."""
    from tokenizers import AddedToken as LibraryToken
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    class_name = str(settings.get("tokenizer_class", "GPT2Tokenizer")).removesuffix("Fast")
    if class_name not in WORDS:
        raise ModelError(
            f"{directory / VOCABULARY}: tokenizer_class {class_name!r} is known with tokenizer.json only; "
            f"with this file: {', '.join(WORDS)}"
        )
    pattern, form = WORDS[class_name]
    try:
        tokenizer = Tokenizer(models.BPE.from_file(str(directory / VOCABULARY), str(directory / MERGES)))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{directory / VOCABULARY} and {MERGES} cannot be read: {error}") from None
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    words = [] if pattern is None else [pre_tokenizers.Split(Regex(pattern), "isolated")]
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Sequence([*words, byte_level]), decoders.ByteLevel()
    if form == "NFC":
        tokenizer.normalizer = normalizers.NFC()
    for _, token in sorted(_added_tokens(directory, settings).items()):
        kept = {name: token[name] for name in ("lstrip", "rstrip", "single_word", "normalized") if name in token}
        adds = tokenizer.add_special_tokens if token.get("special", True) else tokenizer.add_tokens
        adds([LibraryToken(token["content"], special=token.get("special", True), **kept)])
    return JsonTokenizer(tokenizer.to_str(), settings, str(directory / VOCABULARY))


def _added_tokens(directory: Path, settings: dict) -> dict[int, dict]:
    """Tokens beside the vocabulary, by their ids."""
    if found := settings.get("added_tokens_decoder"):
        return {int(i): token for i, token in found.items()}
    path = directory / "added_tokens.json"
    names = read_json(path) if path.exists() else {}
    specials = [token_content(value) for name, value in settings.items() if name.endswith("_token")]
    known = read_json(directory / VOCABULARY)
    found = {known[name]: {"content": name} for name in specials if name in known}
    return found | {i: {"content": name, "special": True} for name, i in names.items()}
