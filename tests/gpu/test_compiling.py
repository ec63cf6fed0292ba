"""The kernels compile for every architecture where nvcc is, and a run under AddressSanitizer finds nothing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpu.emulator import ASAN, build, compiler

ROOT = Path(__file__).parents[2]
ARCHITECTURES = ("sm_80", "sm_89", "sm_90a", "sm_100")
FLAGS = ["-std=c++17", "-fmad=false", "-ftz=false", "-prec-div=true", "-prec-sqrt=true", "-Werror=all-warnings"]


def nvcc():
    path = os.environ.get("CUDACXX") or shutil.which("nvcc")
    if path is None:
        pytest.skip("no nvcc")
    return path


def compile_kernels(*options):
    command = [nvcc(), *FLAGS, *options, str(ROOT / "cuda" / "kernels.cu")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_compile(architecture, tmp_path):
    known = subprocess.run([nvcc(), "--list-gpu-arch"], capture_output=True, text=True).stdout.split()
    if "compute_" + architecture.strip("sm_a") not in known:
        pytest.skip(f"this nvcc does not know {architecture}")
    compile_kernels("-cubin", f"-arch={architecture}", "-o", str(tmp_path / "kernels.cubin"))
    assert (tmp_path / "kernels.cubin").read_bytes().startswith(b"\x7fELF")


@pytest.mark.slow
def test_kernels_compile_to_ptx_without_a_fused_multiply_add(tmp_path):
    compile_kernels("-ptx", "-arch=compute_80", "-o", str(tmp_path / "kernels.ptx"))
    check_roundings((tmp_path / "kernels.ptx").read_text())


def check_roundings(text):
    """N0: a product and a sum are two roundings. The one unit that fuses them must not appear."""
    assert "mma.sync" in text and "dp4a" in text and "mul.rn.f32" in text
    assert "fma.rn.f32" not in text and ".ftz" not in text and ".approx" not in text


def test_no_kernel_touches_what_the_one_ahead_of_it_writes_before_that_has_ended(tmp_path):
    """Kernels of a graph overlap: each waits before it reads or writes memory, but for the weights that it asks for."""
    compile_kernels("-ptx", "-arch=sm_90a", "-o", str(tmp_path / "kernels.ptx"))
    check_roundings((tmp_path / "kernels.ptx").read_text())
    kernels = (tmp_path / "kernels.ptx").read_text().split(".visible .entry ")[1:]
    assert len(kernels) > 50
    for text in kernels:
        name, (ahead, *rest) = text.partition("(")[0], text.split("griddepcontrol.wait")
        assert rest and not re.search(r"\b(ld|st|atom|red)\.global|cp\.async\.c[ag]|\bret;", ahead), name
        assert "griddepcontrol.launch_dependents" in ahead, name
        asked = [part for part in rest[:-1] if "cp.async.ca.shared.global" in part or "cp.async.cg" in part]
        assert not asked or name.startswith("linear_rows"), name
        early = "".join(rest[:-1])
        assert "st.global" not in early and not (name.endswith(("float32", "float16")) and "cp.async.ca" in early), name


@pytest.mark.slow
def test_nothing_is_read_or_written_outside_its_array(cpp_compiler):
    """Some kernel tests once more, in a process of their own whose memory is watched."""
    runtime = subprocess.run([compiler(), "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    if not Path(runtime).is_absolute():
        pytest.skip("the compiler has no AddressSanitizer")
    names = ("kernels", "block_kernels", "sampling_kernels")
    tests = [str(Path(__file__).with_name(f"test_{name}.py")) for name in names]
    chosen = "forward and not (slow or everything or hot or top_k or Q2_K or Q5_K)"
    environment = os.environ | {
        "LD_PRELOAD": runtime, "PYTHONMALLOC": "malloc", "EMULATOR_FLAGS": " ".join(ASAN),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1", "EMU_STACK": "262144",
    }  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", chosen, *tests]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert " passed" in done.stdout


def test_the_watch_over_memory_sees_a_store_past_an_end(cpp_compiler, tmp_path):
    """Else the test above would prove nothing: one element too many, and the process must end."""
    runtime = subprocess.run([compiler(), "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    if not Path(runtime).is_absolute():
        pytest.skip("the compiler has no AddressSanitizer")
    from gpu.conftest import cache_folder

    library = build(cache_folder(), *ASAN)
    script = (
        "from gpu.emulator import Emulator; from verbatim.fastpath.gpu.operations import Operations; "
        "import numpy as np;"
        f"gpu = Emulator({str(library)!r}); x = gpu.put(np.zeros(300, np.float32));"
        "Operations(gpu.launch).add_scaled(x, x, scale=1.0, count=301)"
    )
    environment = os.environ | {
        "LD_PRELOAD": runtime, "PYTHONMALLOC": "malloc", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        "ASAN_OPTIONS": "detect_leaks=0", "EMU_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr and "norms.cu" in done.stderr
