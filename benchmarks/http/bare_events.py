"""What the bare servers say: what our server once said, event by event."""

import os
from pathlib import Path

EVENTS = "BENCHMARK_EVENTS"  # names the file


def read_events() -> list[bytes]:
    """The events, each with the blank line that ends it."""
    return [event + b"\n\n" for event in Path(os.environ[EVENTS]).read_bytes().split(b"\n\n")[:-1]]
