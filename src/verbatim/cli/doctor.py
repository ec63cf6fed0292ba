"""`verbatim doctor`: what this machine can do, what is missing, and whether the fast path can serve here."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

from cyclopts import Parameter

from verbatim.cli.options import read_words
from verbatim.cli.version import cpu_levels, package_version, revision
from verbatim.reference.records.errors import BackendError, VerbatimError

PACKAGES = ("numpy", "sanic", "tokenizers", "sentencepiece", "llguidance", "huggingface-hub")
OPTIONAL = {  # name -> what it is for
    "pycuda": "GPUs: pip install 'verbatim[cuda]'",
    "nvidia-cuda-nvrtc": "GPUs without nvcc: pip install 'verbatim[nvrtc]'",
    "gguf": "writing GGUF files: pip install 'verbatim[gguf]'",
    "torch": "training the demo model: pip install 'verbatim[train]'",
}


def doctor(words: list[str]) -> int:
    """Print the report; exit code 0 if the fast path can serve, else 1."""
    return read_words("doctor", _doctor, words)


def _doctor(
    *,
    model: Annotated[
        str | None, Parameter(help="also say whether this model can be served here: a directory, a file, user/repo")
    ] = None,
) -> int:
    """Report what this machine can do, and what is missing. Exit code 0 if the fast path can serve here."""
    for name, text in report():
        print(f"{name:<18} {text}")
    reason = why_not()
    print(f"{'fast path':<18} {f'cannot serve: {reason}' if reason else 'can serve: verbatim serve'}")
    is_fit = model is None or _tell_of(model)
    return int(reason is not None or not is_fit)


def _tell_of(model: str) -> bool:
    """Print what is known of a model; whether some way to hold it fits."""
    from verbatim.cli.models.fit import fits
    from verbatim.cli.models.names import find_directory

    try:
        found = list(fits(find_directory(model).absolute()))
    except VerbatimError as error:
        print(f"{'model':<18} cannot be served: {error}")
        return False
    for name, text in found:
        print(f"{name:<18} {text}")
    return any(name.startswith("fits") and text.startswith("yes") for name, text in found)


def report() -> Iterator[tuple[str, str]]:
    """Pairs of a subject and what is known of it."""
    yield "verbatim", f"{package_version()}, revision {revision()}"
    yield "Python", f"{platform.python_version()} ({sys.executable})"
    yield "system", f"{platform.system()} {platform.release()}, {platform.machine()}"
    yield "packages", ", ".join(f"{name} {installed(name) or 'missing'}" for name in PACKAGES)
    yield "C compiler", compiler()
    yield "extensions", extensions()
    levels = cpu_levels()
    yield "CPU levels", ", ".join([f"{levels[0]} (in use)", *levels[1:]]) if levels else "none"
    yield "threads", f"{num_threads()} of {os.cpu_count()} processors may be used"
    yield "memory", memory()
    yield "GPU", gpu()
    yield "CUDA compiler", " and ".join(cuda_compilers()) or "neither nvcc nor nvrtc"
    for name, purpose in OPTIONAL.items():
        yield name, installed(name) or f"not installed; for {purpose}"


def installed(name: str) -> str | None:
    """The version of a distribution, None if it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def compiler() -> str:
    """The C compiler that a build would take."""
    command = os.environ.get("CC", "cc").split()[0]
    return first_line([command, "--version"]) or f"{command} not found: the fast path cannot be built here"


def extensions() -> str:
    """Whether the fast path's extensions are there."""
    try:
        from verbatim.fastpath import backend
    except BackendError as error:
        return str(error)
    return f"built ({backend.PARTS.name})"


def num_threads() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> str:
    """What the server would plan with."""
    from verbatim.server.engine.memory import free_bytes

    try:
        return f"{free_bytes() / (1 << 30):.1f} GiB free, within the limits of control groups"
    except VerbatimError as error:
        return str(error)


def gpu() -> str:
    """The chips and their driver, as nvidia-smi names them, and whether they can be computed on."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.free", "--format=csv,noheader"]
    chips = first_line(query, all_lines=True)
    if not chips:
        return "none (nvidia-smi finds none)"
    from verbatim.fastpath.device import gpu_of

    try:
        gpu_of("cuda")
    except BackendError as error:
        return f"{chips}; {error}"
    return f"{chips}; can be computed on"


def cuda_compilers() -> list[str]:
    """What can compile the GPU kernels."""
    found = []
    if nvcc := shutil.which("nvcc"):
        found.append(f"nvcc ({nvcc})")
    if number := installed("nvidia-cuda-nvrtc"):
        found.append(f"nvrtc {number}")
    return found


def why_not() -> str | None:
    """None if the server could start with the fast path, else the reason."""
    from verbatim.server.engine.backends import check_backend
    from verbatim.server.settings.options import Options

    try:
        check_backend(Options())
    except VerbatimError as error:
        return str(error)
    return None


def first_line(command: list[str], *, all_lines: bool = False) -> str:
    """The first line that a command prints, or all of them with semicolons between; "" if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.strip().splitlines() if done.returncode == 0 else []
    return "; ".join(lines if all_lines else lines[:1])
