"""The description of a machine, for results."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path


def describe_machine(*packages: str) -> dict:
    """Processor, cores, load, versions and time."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def stolen_seconds() -> float:
    """Processor seconds that other virtual machines have taken from this one since it booted."""
    ticks = Path("/proc/stat").read_text().split()[8]
    return int(ticks) / os.sysconf("SC_CLK_TCK")
