"""The plain kernels on another processor, emulated: the same bits there."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [Path(__file__).with_name("every_kernel.c"), *sorted(ROOT.glob("fastpath/kernels/*.c"))]
CROSS, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"


def build(compiler, program, *options):
    """Build kernels, team and program as one executable."""
    command = [compiler, "-std=gnu11", "-ffp-contract=off", "-Wno-psabi", *options, f"-I{ROOT / 'fastpath/kernels'}",
               *map(str, SOURCES), "-lm", "-lpthread", "-o", str(program)]  # fmt: skip
    built = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert built.returncode == 0, built.stderr
    return program


def digests(*command):
    """Each level's digest of all results."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    words = done.stdout.split()
    assert words.pop() == "done"
    return dict(zip(words[::2], words[1::2], strict=True))


def test_kernels_make_the_same_bits_on_aarch64(tmp_path):
    if not shutil.which(CROSS):
        pytest.skip(f"no {CROSS}: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    program = build(CROSS, tmp_path / "aarch64", "-O3", "-static")
    emulator = shutil.which(EMULATOR) or shutil.which(f"{EMULATOR}-static")
    if not emulator:
        pytest.skip(f"it compiles; no {EMULATOR} to run it: apt-get install qemu-user-static")
    there = digests(emulator, program)
    compiler = shutil.which(os.environ.get("CC", "cc")) or pytest.skip("no C compiler")
    here = digests(build(compiler, tmp_path / "here", "-O1"))
    assert list(there) == ["plain"]
    assert {*there.values()} == {*here.values()}
