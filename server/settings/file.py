"""Settings from a TOML file: the options by their own names, dashes or underscores, and where to listen.

    model = "models/some-model"
    max-num-sequence = 8
    api-key-file = "keys.txt"
    port = 8080

The command line and the environment come before it. A name that is no option is refused.
"""

import tomllib
from argparse import ArgumentTypeError
from collections.abc import Collection
from pathlib import Path
from typing import Any

from verbatim.server.settings.value_types import NAME, integer, to_text

LISTENING = {"host": NAME, "port": integer(0, 65535)}  # Sanic's own options


def read_settings(path: Path, names: Collection[str]) -> dict[str, str]:
    """The settings as text, by the names of options with underscores. ValueError names what is wrong with the file."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"--config {path} cannot be read: {error}") from None
    settings = {name.replace("-", "_"): value for name, value in content.items()}
    for name, value in settings.items():
        if name not in (*names, *LISTENING):
            raise ValueError(
                f"--config {path}: there is no option {name!r}; there are {', '.join((*LISTENING, *names))}"
            )
        if isinstance(value, dict):
            raise ValueError(f"--config {path}: {name} must be a value, not a table")
    return {name: to_text(value) for name, value in settings.items()}


def listening(settings: dict[str, str]) -> dict[str, Any]:
    """Where to listen, as far as the settings have it."""
    found: dict[str, Any] = {}
    for name in LISTENING.keys() & settings.keys():
        try:
            found[name] = LISTENING[name].read(settings[name])
        except ArgumentTypeError as error:
            raise ValueError(f"{name}: {error}") from None
    return found
