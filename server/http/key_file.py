"""The file of `--api-key-file`: a key on each line, plain or by its digest, with a name and limits.

    # comments, empty lines
    sk-plain
    ada sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881 requests=60 tokens=100000 sequences=4
    ops sha256:fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9 admin

`requests` and `tokens` are those of a minute, `sequences` those at the same time, all of one model. `admin` lets a key
see the usage of all.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from verbatim.reference.records.errors import ModelError

OWNER_DIGITS, NAME_DIGITS = 32, 8
DIGEST = "sha256:"
ADMIN = "admin"
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
DIGEST_FORM = re.compile(rf"{DIGEST}([0-9a-f]{{64}})")
LIMIT = re.compile(r"(requests|tokens|sequences)=([0-9]{1,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a key may use of a model: requests and tokens in a minute, sequences at the same time; None for no bound."""

    requests: int | None = None
    tokens: int | None = None
    sequences: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key by its SHA-256 digest. `label` names it in metrics and in the log, never anything of the key itself."""

    digest: bytes
    name: str = ""
    is_admin: bool = False
    limits: Limits = Limits()

    @property
    def owner(self) -> str:
        """Whose requests these are: a digest of the digest, which is in paths and in salts."""
        return sha256(self.digest).hexdigest()[:OWNER_DIGITS]

    @property
    def label(self) -> str:
        """Its name, or some digits of its owner."""
        return self.name or self.owner[:NAME_DIGITS]


def digest_of(text: str) -> bytes:
    """The digest of a key as a client sends it."""
    return sha256(text.encode("utf-8", "surrogateescape")).digest()


def line_of(key: Key) -> str:
    """A key with a name as a line of the file."""
    limits = ((name, getattr(key.limits, name)) for name in ("requests", "tokens", "sequences"))
    words = [f"{name}={value}" for name, value in limits if value is not None]
    return " ".join([key.name, DIGEST + key.digest.hex(), *words, *([ADMIN] if key.is_admin else [])])


def read_keys(path: Path) -> list[Key]:
    """The keys of a file. ModelError if it cannot be read, has no key, or a line that cannot be; no line is quoted."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"--api-key-file {path} cannot be read: {type(error).__name__}") from None
    keys = [read_line(line, f"{path}, line {at}") for at, line in enumerate(lines, 1) if line and line[0] != "#"]
    if not keys:  # an empty file must not open the server to everybody
        raise ModelError(f"--api-key-file {path} holds no key")
    names = [key.name for key in keys if key.name]
    for name in names:
        if names.count(name) > 1:
            raise ModelError(f"--api-key-file {path} has two keys of the name {name!r}")
    return keys


def read_line(line: str, place: str) -> Key:
    """The key of a line; a line without a digest is a key itself."""
    name, *words = line.split()
    if not words or not words[0].startswith(DIGEST):
        return Key(digest=digest_of(line))
    digest = DIGEST_FORM.fullmatch(words[0])
    limits = [LIMIT.fullmatch(word) for word in words[1:] if word != ADMIN]
    if not NAME.fullmatch(name) or not digest or not all(limits):
        form = "NAME sha256:DIGITS [requests=N] [tokens=N] [sequences=N] [admin]"
        raise ModelError(f"--api-key-file {place}: a key by its digest is written {form}")
    values = {found[1]: int(found[2]) for found in limits if found}
    return Key(digest=bytes.fromhex(digest[1]), name=name, is_admin=ADMIN in words, limits=Limits(**values))
