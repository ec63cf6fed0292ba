"""The server's own directory: sockets, heartbeats, counters and kept responses, for this user alone.

It ends with the server. A server that was killed cannot delete its own; the next one that starts does, since a lock on
it shows that nobody has it any more.
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "verbatim-"
LOCK = "lock"
PRIVATE = 0o077  # the mask of rights for all files from now on


class Place:
    """A new directory, held for as long as this object is open. OSError if there is no space for it."""

    def __init__(self) -> None:
        os.umask(PRIVATE)
        remove_abandoned(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = _lock(self.path / LOCK, is_new=True)

    def remove(self) -> None:
        """Delete it, with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_abandoned(folder: Path) -> None:
    """Delete this user's directories of servers that live no longer."""
    for path in folder.glob(f"{PREFIX}*"):
        try:
            is_ours = path.lstat().st_uid == os.getuid() and path.is_dir() and not path.is_symlink()
            lock = _lock(path / LOCK, is_new=False) if is_ours else None
        except OSError:
            continue
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _lock(path: Path, *, is_new: bool) -> int | None:
    """An open file with a lock on it; None if somebody else has the lock. OSError if there is no such file."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if is_new else 0), 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file
