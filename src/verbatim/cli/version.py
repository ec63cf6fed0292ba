"""Which verbatim this is: its version, the revision that it was made of, and the instruction set it computes with."""

import importlib
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
CHECKOUT = PACKAGE.parents[1]  # where setup.py is, if the package runs from one
UNKNOWN = "unknown"


def version_line() -> str:
    """All three in one line."""
    return f"verbatim {package_version()} (revision {revision()}, CPU level {cpu_level()})"


def package_version() -> str:
    """The version of what is installed."""
    try:
        return version("verbatim")
    except PackageNotFoundError:
        return UNKNOWN


def revision() -> str:
    """The git revision that the build has written down, or that of the checkout; "unknown" if there is neither."""
    written = PACKAGE / "revision.txt"
    if written.is_file():
        return written.read_text(encoding="utf-8").strip()
    if not (CHECKOUT / ".git").exists():
        return UNKNOWN
    try:
        command = ["git", "-C", str(CHECKOUT), "rev-parse", "--short=12", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN


def cpu_level() -> str:
    """The instruction set of the fast path's kernels, or why there is none."""
    levels = cpu_levels()
    return levels[0] if levels else "none: the fast path is not built"


def cpu_levels() -> list[str]:
    """The level in use, then the others that this processor can run; none if the fast path is not built."""
    from verbatim.reference.records.errors import BackendError

    try:
        dispatch = importlib.import_module("verbatim.fastpath.machine.dispatch")
    except (ImportError, BackendError):
        return []
    return [dispatch.level(), *(name for name in dispatch.available() if name != dispatch.level())]
