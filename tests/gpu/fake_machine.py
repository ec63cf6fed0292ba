"""A fake GPU: a libcuda.so.1 over the emulator, and PyCUDA built against it, kept in a folder.

`environment` is what a process needs to run there. MissingError says what this machine lacks for it.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

EMULATOR = Path(__file__).parent / "emulator"
ROOT = Path(__file__).parents[2]
PYCUDA = "pycuda>=2025.1,<2027"
DEFAULTS = """
CUDA_ROOT = {root!r}
CUDA_INC_DIR = [{include!r}]
CUDADRV_LIB_DIR = [{library!r}]
CUDA_ENABLE_CURAND = False
CXXFLAGS = ["-w", "-g0"]
"""


class MissingError(Exception):
    """What this machine lacks."""


def headers() -> Path:
    """The folder of cuda.h."""
    nvcc = shutil.which("nvcc")
    roots = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    roots += [Path(nvcc).resolve().parents[1]] if nvcc else []
    for root in filter(None, roots):
        if (Path(root) / "include" / "cuda.h").exists():
            return Path(root) / "include"
    raise MissingError("no cuda.h (CUDA_HOME names the toolkit's folder)")


def run(*command, **options) -> str:
    """Run a command; returns its output, or raises MissingError with the end of it."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise MissingError(f"{command[0]} fails: {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout


def build_driver(folder: Path) -> Path:
    """The fake libcuda.so.1 in `folder`: what fakecuda.cpp has, and "not supported" for every other call of cuda.h."""
    compiler, library = shutil.which("g++"), folder / "libcuda.so.1"
    if compiler is None:
        raise MissingError("no g++")
    if library.exists():
        return library
    include = headers()
    folder.mkdir(parents=True, exist_ok=True)
    flags = ["-std=c++20", "-O2", "-fPIC", "-Wno-deprecated-declarations", f"-I{include}"]
    run(compiler, *flags, "-c", EMULATOR / "fakecuda.cpp", "-o", folder / "part.o")
    defined = {line.split()[-1] for line in run("nm", "--defined-only", folder / "part.o").splitlines()}
    text = (include / "cuda.h").read_text() + (include / "cudaProfiler.h").read_text()
    names = set(re.findall(r"\b(cu[A-Z]\w+)\s*\(", text)) | set(re.findall(r"#\s*define\s+cu\w+\s+(cu\w+)\s", text))
    rest = sorted(name for name in names if name not in defined and "__" not in name)
    (folder / "rest.c").write_text("".join(f"int {name}(void) {{ return 801; }}\n" for name in rest))
    run(compiler, "-x", "c", "-fPIC", "-c", folder / "rest.c", "-o", folder / "rest.o")
    unfinished = folder / f"unfinished.{os.getpid()}"
    run(compiler, "-shared", folder / "part.o", folder / "rest.o", "-Wl,-soname,libcuda.so.1", "-o", unfinished, "-ldl")
    unfinished.rename(library)
    (folder / "libcuda.so").symlink_to(library.name)
    return library


def build_pycuda(folder: Path, driver: Path) -> Path:
    """PyCUDA and what it needs, in a folder of their own, linked with the fake driver; about a minute, once."""
    site = folder / "site"
    if (site / "pycuda" / "driver.py").exists():
        return site
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    include = headers()
    names = {"root": str(include.parent), "include": str(include), "library": str(driver.parent)}
    (home / ".aksetup-defaults.py").write_text(DEFAULTS.format(**names))
    unfinished = folder / f"site.{os.getpid()}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", unfinished, PYCUDA]
    try:
        run(*command, env=os.environ | {"HOME": str(home)})
        unfinished.rename(site)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return site


def environment(folder: Path) -> dict[str, str]:
    """Variables under which a process finds the fake GPU; MissingError if it cannot be made."""
    state = hashlib.sha256((EMULATOR / "fakecuda.cpp").read_bytes()).hexdigest()[:12]
    driver = build_driver(folder / f"driver-{state}")
    site = build_pycuda(folder / f"pycuda-{sys.version_info.major}.{sys.version_info.minor}", driver)
    paths = [str(ROOT), str(ROOT / "tests"), str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [str(driver.parent), os.environ.get("LD_LIBRARY_PATH")])),
        "PYTHONPATH": os.pathsep.join(paths),
        "CUDACXX": str(EMULATOR / "nvcc"),
        "EMU_THREADS": "1",
    }
