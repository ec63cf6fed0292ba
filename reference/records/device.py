"""Which device an engine runs on, as `--device` names it: auto, cpu, or cuda with an optional index."""

import re

from verbatim.reference.records.errors import BackendError, RequestError

DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


def check_name(device: str) -> None:
    """Refuse a word that is no device."""
    if not DEVICE.fullmatch(device):
        raise RequestError(f"device must be auto, cpu, cuda or cuda:INDEX, not {device!r}", field="device")


def check_device(device: str, *, engine: str) -> None:
    """Refuse a word that is no device, and a GPU, for an engine that is made for processors only."""
    check_name(device)
    if device.startswith("cuda"):
        raise BackendError(f"the {engine} engine does not run on {device}: only the fast path does; use --device cpu")
