"""The events that the bare servers send: those that our server once sent."""

import os
from pathlib import Path

EVENTS = "BENCHMARK_EVENTS"  # names the file


def read_events() -> list[bytes]:
    """The events, each with the blank line that ends it."""
    return [event + b"\n\n" for event in Path(os.environ[EVENTS]).read_bytes().split(b"\n\n")[:-1]]
