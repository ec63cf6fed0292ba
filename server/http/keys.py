"""Who may ask: with API keys set, every path but the two about health wants a key.

The key is checked before the body is read and before the URL is. Keys are compared as digests, all of them, so
that the time it takes reveals nothing about any. No key is ever part of a message. Programs send a key as a Bearer
token, those made for Anthropic's API in the header `x-api-key`; a browser that opens our pages asks its user for a
password, and the key is that (RFC 7617).
"""

import binascii
import signal
from base64 import b64decode
from collections.abc import Sequence
from hmac import compare_digest
from pathlib import Path
from typing import Protocol

from sanic import Request, Sanic
from sanic.log import logger

from verbatim.reference.records.errors import ModelError
from verbatim.server.errors import UnauthorizedError
from verbatim.server.http.cors import is_preflight
from verbatim.server.http.key_file import Key, digest_of, read_keys

OPEN_PATHS = ("/health", "/ready", "/ping", "/version", "/load")


class KeyRing:
    """The keys that clients may send; without any, everybody may ask."""

    def __init__(self, keys: Sequence[Key]):
        self.keys = tuple(keys)

    @property
    def is_empty(self) -> bool:
        """Whether requests need no key."""
        return not self.keys

    def check(self, request: Request) -> None:
        """Raise UnauthorizedError unless the request may proceed; `request.ctx.key` is then its key, if it has one."""
        request.ctx.key = None
        if not self.keys or request.path in OPEN_PATHS or is_preflight(request):
            return
        sent = (_key_in(request.headers.get("authorization", "")), request.headers.get("x-api-key"))
        digests = [digest_of(text) for text in sent if text is not None]
        if not digests:
            raise UnauthorizedError("This server wants an API key, in a header: Authorization: Bearer KEY")
        matches = [key for digest in digests for key in self.keys if compare_digest(digest, key.digest)]
        if not matches:
            raise UnauthorizedError("The API key of this request is not one of this server's.")
        request.ctx.key = matches[0]


def owner_of(request: Request) -> str:
    """Whose request it is: the owner of its key, "" without one."""
    key: Key | None = request.ctx.key
    return key.owner if key else ""


class HasKeys(Protocol):
    """Options or settings that name keys."""

    @property
    def api_key(self) -> tuple[str, ...]:
        """Keys as they are."""

    @property
    def api_key_file(self) -> Path | None:
        """A file with more of them."""


def load_keys(options: HasKeys) -> KeyRing:
    """The keys of the command line or environment, and those of the file."""
    keys = [Key(digest=digest_of(text)) for text in options.api_key]
    if options.api_key_file:
        keys += read_keys(options.api_key_file)
    return KeyRing(keys)


def reload_on_hangup(app: Sanic, options: HasKeys) -> None:
    """Read the file of keys again at SIGHUP; a file that cannot be used changes nothing. Called in a running loop."""
    if options.api_key_file is None:
        return

    def reload() -> None:
        try:
            app.ctx.keys = load_keys(options)
        except ModelError as error:
            logger.error("The keys stay as they were: %s", error)
        else:
            logger.info("%d keys have been read.", len(app.ctx.keys.keys))

    app.loop.add_signal_handler(signal.SIGHUP, reload)


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
