"""Who may ask: with API keys set, every path but the two about health wants a key.

The key is checked before the body is read and before the URL is. Keys are compared as digests, all of them, so
that the time it takes reveals nothing about any. No key is ever part of a message. Programs send a key as a Bearer
token, those made for Anthropic's API in the header `x-api-key`; a browser that opens our pages asks its user for a
password, and the key is that (RFC 7617).
"""

import binascii
from base64 import b64decode
from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from sanic import Request

from verbatim.reference.records.errors import ModelError
from verbatim.server.errors import UnauthorizedError
from verbatim.server.http.cors import is_preflight
from verbatim.server.settings.options import Options

OWNER_DIGITS = 32
OPEN_PATHS = ("/health", "/ready", "/ping", "/version", "/load")


class KeyRing:
    """The keys that clients may send; without any, everybody may ask."""

    def __init__(self, keys: Sequence[str]):
        self._digests = [_digest(key) for key in keys]

    @property
    def is_empty(self) -> bool:
        """Whether requests need no key."""
        return not self._digests

    def check(self, request: Request) -> None:
        """Raise UnauthorizedError unless the request may proceed; `request.ctx.owner` is then whose it is."""
        request.ctx.owner = ""
        if not self._digests or request.path in OPEN_PATHS or is_preflight(request):
            return
        sent = (_key_in(request.headers.get("authorization", "")), request.headers.get("x-api-key"))
        keys = [key for key in sent if key is not None]
        if not keys:
            raise UnauthorizedError("This server wants an API key, in a header: Authorization: Bearer KEY")
        matches = [digest for digest in map(_digest, keys) for known in self._digests if compare_digest(digest, known)]
        if not matches:
            raise UnauthorizedError("The API key of this request is not one of this server's.")
        request.ctx.owner = sha256(matches[0]).hexdigest()[:OWNER_DIGITS]


def load_keys(options: Options) -> KeyRing:
    """The keys of the command line or environment, and those of the file."""
    keys = list(options.api_key)
    if options.api_key_file:
        keys += _read_keys(options.api_key_file)
    return KeyRing(keys)


def _read_keys(path: Path) -> list[str]:
    """One key a line; empty lines and those that begin with # do not count."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"--api-key-file {path} cannot be read: {type(error).__name__}") from None
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:  # an empty file must not open the server to everybody
        raise ModelError(f"--api-key-file {path} holds no key")
    return keys


def _key_in(header: str) -> str | None:
    scheme, _, text = header.partition(" ")
    if scheme.lower() == "bearer":
        return text.strip()
    if scheme.lower() == "basic":
        try:
            return b64decode(text.strip()).decode("utf-8", "surrogateescape").partition(":")[2]
        except (binascii.Error, ValueError):
            pass
    return None


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()
