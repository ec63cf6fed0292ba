"""The memory that Linux's control groups leave to this process: those of a container, a systemd unit, a batch job.

A group's limit binds all groups below it, so every group on the way from this process's own up to the root counts, in
version 2 (one hierarchy, `memory.max`) and in version 1 (one for memory, `memory.limit_in_bytes`). A container sees its
own group as the root. Elsewhere than on Linux there are no groups.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
NAMES = {  # limit, use, statistics, and the statistic of file pages that are given up under pressure
    2: ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "total_inactive_file"),
}


def rest_of_limits(root: Path = ROOT, membership: Path = MEMBERSHIP) -> Iterator[int]:
    """Bytes that each limit leaves, none below 0; nothing where there is no limit."""
    for version, folder in _groups(root, membership):
        limit, used, stat, reclaimable = NAMES[version]
        most, now = _number(folder / limit), _number(folder / used)
        if most is not None and now is not None:
            yield max(0, most - now + _statistic(folder / stat, reclaimable))


def _groups(root: Path, membership: Path) -> Iterator[tuple[int, Path]]:
    """The process's groups, with a memory limit or without, each with its version: own ones first, the root last."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            top, version = root, 2
        elif "memory" in controllers.split(","):
            top, version = root / "memory", 1
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        for part in (inside, *inside.parents) if ".." not in inside.parts else (PurePosixPath(),):
            yield version, top / part


def _number(path: Path) -> int | None:
    """The number in a file; None if there is no such file, or if it says `max`."""
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _statistic(path: Path, name: str) -> int:
    """A line of memory.stat, 0 if there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)
