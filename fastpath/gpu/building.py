"""Compile cuda/*.cu for one GPU, with nvcc if it is installed, else with NVRTC, and cache the code on disk.

The cache key is the hash of sources, flags, architecture and compiler version. For a chip that the compiler does not
know, it compiles PTX of the oldest architecture, which the driver translates.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

from verbatim.fastpath.gpu.nvrtc import Nvrtc
from verbatim.reference.records.errors import BackendError

# N0: nothing fused, subnormals kept, division and root correctly rounded.
FLAGS = ("-std=c++17", "-fmad=false", "-ftz=false", "-prec-div=true", "-prec-sqrt=true")
# benchmarks/gpu.py measures the cost of N0 with these.
FUSED = ("-std=c++17", "-fmad=true", "-ftz=true", "-prec-div=false", "-prec-sqrt=false", "-DFUSED")
OLDEST = "compute_80"
SPECIAL = {"sm_90": "sm_90a"}  # with features of this chip only


def architecture(capability: tuple[int, int]) -> str:
    """The compilers' name of a compute capability; BackendError below 8.0."""
    if capability < (8, 0):
        raise BackendError(
            f"the GPU has compute capability {capability[0]}.{capability[1]}; the kernels need at least 8.0 (Ampere)"
        )
    name = f"sm_{capability[0]}{capability[1]}"
    return SPECIAL.get(name, name)


def sources_folder() -> Path:
    """The folder of the .cu files: verbatim/cuda."""
    return Path(__file__).parents[2] / "cuda"


def cache_folder() -> Path:
    """The folder of compiled kernels."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "verbatim" / "kernels"


def build_kernels(target: str, flags: tuple[str, ...] = FLAGS, *, folder: Path | None = None) -> bytes:
    """The module of an architecture, from the cache or a compiler; BackendError names a missing compiler."""
    name, compile_to = find_compiler()
    key = hashlib.sha256(repr((name, flags, target)).encode())
    for path in sorted(sources_folder().glob("*.cu*")):
        key.update(path.name.encode() + path.read_bytes())
    folder = folder or cache_folder()
    cached = folder / f"{target}-{key.hexdigest()[:24]}.bin"
    if cached.exists():
        return cached.read_bytes()
    try:
        image = compile_to(target, flags)
    except UnknownArchitectureError:
        image = compile_to(OLDEST, flags)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = cached.with_suffix(f".{os.getpid()}")
    unfinished.write_bytes(image)
    unfinished.rename(cached)  # atomic: several processes may build at the same time
    return image


class UnknownArchitectureError(Exception):
    """The compiler is older than the chip."""


def find_compiler() -> tuple[str, Callable[[str, tuple], bytes]]:
    """A compiler's name and version, and a function from an architecture and flags to code."""
    command = os.environ.get("CUDACXX") or shutil.which("nvcc")
    if command:
        version = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
        if version.returncode == 0:
            return f"{command} {version.stdout}", partial(_run_nvcc, command)
        raise BackendError(f"{command} --version fails: {version.stderr.strip() or version.stdout.strip()}")
    nvrtc = Nvrtc.find()
    if nvrtc is None:
        raise BackendError(
            "no CUDA compiler to build the GPU kernels with: put nvcc on the PATH, or `pip install nvidia-cuda-nvrtc`"
        )
    return nvrtc.version, partial(_run_nvrtc, nvrtc)


def _run_nvcc(command: str, target: str, flags: tuple[str, ...]) -> bytes:
    output = "-ptx" if target.startswith("compute") else "-cubin"
    source = str(sources_folder() / "kernels.cu")
    unfinished = cache_folder() / f"nvcc-{os.getpid()}"
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [command, *flags, output, f"-arch={target}", "-o", str(unfinished), source], capture_output=True, text=True
    )
    if "Unsupported gpu architecture" in done.stderr:
        raise UnknownArchitectureError(target)
    if done.returncode:
        raise BackendError(f"{command} cannot compile the GPU kernels for {target}: {done.stderr.strip()[-2000:]}")
    image = unfinished.read_bytes()
    unfinished.unlink()
    return image


def _run_nvrtc(nvrtc: Nvrtc, target: str, flags: tuple[str, ...]) -> bytes:
    folder = sources_folder()
    flags = [flag.replace("-std", "--std") for flag in flags]
    flags = [flag if flag.startswith(("--", "-D")) else f"-{flag}" for flag in flags]
    options = [*flags, f"--gpu-architecture={target}", f"--include-path={folder}"]
    image, log = nvrtc.compile((folder / "kernels.cu").read_bytes(), options, is_ptx=target.startswith("compute"))
    if image is None and "gpu-architecture" in log:
        raise UnknownArchitectureError(target)
    if image is None:
        raise BackendError(f"NVRTC cannot compile the GPU kernels for {target}: {log[-2000:]}")
    return image
