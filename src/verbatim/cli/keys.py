"""`verbatim key new NAME`: make an API key, of which a server is only given the digest."""

import os
import secrets
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from verbatim.cli.options import UsageError, read_words
from verbatim.reference.records.errors import ModelError
from verbatim.server.http.key_file import NAME, Key, Limits, digest_of, line_of, read_keys

PREFIX, NUM_BYTES = "sk-", 32


def key(words: list[str]) -> int:
    """Make a key, as `verbatim key --help` says; returns the exit code."""
    return read_words("key", _key, words)


def _key(
    action: Annotated[str, Parameter(help="new")],
    name: Annotated[str, Parameter(help="of the key, in metrics and in the log")],
    /,
    *,
    file: Annotated[Path | None, Parameter(help="the file of --api-key-file, to which the line is added")] = None,
    requests: Annotated[int | None, Parameter(help="in a minute, at most")] = None,
    tokens: Annotated[int | None, Parameter(help="in a minute, of prompts and answers, at most")] = None,
    sequences: Annotated[int | None, Parameter(help="at the same time, at most")] = None,
    admin: Annotated[bool, Parameter(help="it sees the usage of all keys in /metrics")] = False,
) -> int:
    """Print a new key, once, and its line for the file of keys. SIGHUP lets a running server read the file again."""
    if action != "new":
        raise UsageError(f"{action[:100]!r}: there is only verbatim key new NAME")
    if not NAME.fullmatch(name):
        raise UsageError(f"NAME must be 1 to 64 letters, digits, dots, underscores or hyphens, not {name[:100]!r}")
    limits = {"requests": requests, "tokens": tokens, "sequences": sequences}
    for limit, value in limits.items():
        if value is not None and not 0 <= value < 10**9:
            raise UsageError(f"--{limit} must be 0 to {10**9 - 1}, not {value}")
    secret = PREFIX + secrets.token_urlsafe(NUM_BYTES)
    line = line_of(Key(digest=digest_of(secret), name=name, is_admin=admin, limits=Limits(**limits)))
    if file is not None:
        _add(file, name, line)
    print(secret)
    print(f"added to {file}" if file else f"its line for --api-key-file: {line}")
    return 0


def _add(path: Path, name: str, line: str) -> None:
    """Add a line to a file, which is made for this user alone if it is absent."""
    before = path.read_bytes() if path.exists() else b""
    if before.strip() and any(each.name == name for each in read_keys(path)):
        raise ModelError(f"{path} has a key of the name {name!r} already")
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        with path.open("a", encoding="utf-8") as file:
            file.write(("" if before.endswith(b"\n") or not before else "\n") + line + "\n")
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error}") from None
