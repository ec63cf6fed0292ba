"""Whose request is being answered: with API keys, what one key's users sent and kept is not shown to those of another.

The owner is a digest of the key, never the key; without keys there is one owner, "". Declarations and stores are far
from the request, so it is a context variable, as the policy of fields is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_OWNER: ContextVar[str] = ContextVar("owner", default="")


def current_owner() -> str:
    """The owner of the request under way."""
    return _OWNER.get()


@contextmanager
def owned_by(owner: str) -> Iterator[None]:
    """Within it, what is kept and what is asked for is that of `owner`."""
    token = _OWNER.set(owner)
    try:
        yield
    finally:
        _OWNER.reset(token)
