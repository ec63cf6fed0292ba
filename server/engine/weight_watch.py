"""Checks packed weights in memory in the background: a bit that has changed ends the engine, which then starts anew.

A round over all matrices takes ten minutes, piece by piece, so that it takes no bandwidth that answers would notice.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from verbatim.reference.records.checksums import PIECE_BYTES, Seal

logger = logging.getLogger("verbatim")

ROUND_SECONDS = 600.0
DAMAGED = 70  # EX_SOFTWARE of sysexits.h: another start loads the weights again


class WeightWatch(threading.Thread):
    """Goes round the matrices for ever; `end` is called with the name of one that has changed."""

    def __init__(self, seals: Iterable[Seal], *, round_seconds: float = ROUND_SECONDS,
                 end: Callable[[str], None] | None = None):  # fmt: skip
        super().__init__(name="weight-watch", daemon=True)
        self.seals, self.round_seconds = list(seals), round_seconds
        self.end = end or _end

    def run(self) -> None:
        """Check, wait, check the next piece."""
        total = sum(seal.num_bytes for seal in self.seals)
        while self.seals:
            for seal in self.seals:
                for is_damaged in seal.pieces():
                    if is_damaged:
                        self.end(seal.name)
                        return
                    time.sleep(self.round_seconds * min(PIECE_BYTES, seal.num_bytes) / max(total, PIECE_BYTES))


def sealed_weights(engine: Any) -> list[Seal]:
    """The packed matrices of an engine's model; none of engines that pack nothing, or not in this memory."""
    sealed = getattr(engine.model, "sealed", None)
    return sealed() if sealed else []


def _end(name: str) -> None:
    logger.critical("The packed weights %s have changed in memory; the engine ends, to load them again.", name)
    os._exit(DAMAGED)
