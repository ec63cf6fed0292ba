"""The heartbeat of an HTTP worker: its event loop writes it, so a loop that stands still writes none."""

import asyncio
from pathlib import Path

from verbatim.server.engine.heartbeat import POLL_SECONDS, SUFFIX, Heartbeat


def beat_path(place: Path, process_id: int) -> Path:
    """The file of a worker's heartbeat in the server's directory."""
    return place / f"worker-{process_id}{SUFFIX}"


async def keep_beating(path: Path) -> None:
    """Write a heartbeat twice as often as it is read. Runs until cancelled; on a full disk there is none."""
    try:
        heartbeat = Heartbeat(path)
    except OSError:
        return
    rounds = 0
    while True:
        heartbeat.beat(rounds)
        rounds += 1
        await asyncio.sleep(POLL_SECONDS / 2)
