"""Responses that are kept, so that a conversation can continue from it: a bounded number a key, for all workers.

Each is a file in the server's own temporary directory, which only this user can read and which ends with the server.
A new response may evict the oldest.
"""

import contextlib
import json
import os
import re
from pathlib import Path

from sanic.log import logger

MAX_RESPONSES = 1000
MAX_BYTES = 256 << 20
ID_PATTERN = re.compile(r"resp_[0-9a-f]{32}")


class ResponseStore:
    """The kept responses in `directory`: records with the response and the items that it answers."""

    def __init__(self, directory: Path):
        self.directory = directory

    def put(self, response_id: str, record: dict) -> bool:
        """Keep a record under its id; others see all of it or nothing. False if the disk has no space for it."""
        part = self._path(response_id).with_suffix(".part")
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.write_text(json.dumps(record), encoding="utf-8")
            part.rename(self._path(response_id))
        except OSError as error:
            logger.error("A response is not kept, as it cannot be written: %s", error)
            with contextlib.suppress(OSError):
                part.unlink()
            return False
        self._evict_oldest()
        return True

    def get(self, response_id: str) -> dict | None:
        """The record, or None if there is none, or no longer."""
        if not ID_PATTERN.fullmatch(response_id):
            return None
        try:
            return json.loads(self._path(response_id).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def delete(self, response_id: str) -> bool:
        """Delete a record; False if there was none."""
        if not ID_PATTERN.fullmatch(response_id):
            return False
        try:
            self._path(response_id).unlink()
        except FileNotFoundError:
            return False
        return True

    def _path(self, response_id: str) -> Path:
        return self.directory / f"{response_id}.json"

    def _evict_oldest(self) -> None:
        found = []
        for entry in os.scandir(self.directory):
            try:
                found.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
            except FileNotFoundError:  # another worker was first
                continue
        found.sort()
        num_bytes = sum(size for _, size, _ in found)
        for place, (_, size, path) in enumerate(found[:-1]):
            if len(found) - place <= MAX_RESPONSES and num_bytes <= MAX_BYTES:
                break
            Path(path).unlink(missing_ok=True)
            num_bytes -= size
