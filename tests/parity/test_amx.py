"""The levels amx and avxvnni on any machine with AVX-512: tiles are emulated in C, the rest is its own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from parity.test_aarch64 import ROOT, SOURCES, digests

dispatch = pytest.importorskip("verbatim.fastpath.machine.dispatch", reason="the fast path is not built")
EMULATOR = Path(__file__).with_name("emulated_tiles.h")


def build(program, *options):
    compiler = shutil.which(os.environ.get("CC", "cc")) or pytest.skip("no C compiler")
    command = [compiler, "-std=gnu11", "-ffp-contract=off", "-Wno-psabi", "-O1", "-DAVX512_VNNI_HALVES",
               f'-DEMULATED_TILES="{EMULATOR}"', *options, f"-I{ROOT / 'fastpath/kernels'}", *map(str, SOURCES),
               "-lm", "-lpthread", "-o", str(program)]  # fmt: skip
    built = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert built.returncode == 0, built.stderr
    return program


@pytest.mark.skipif("avx512" not in dispatch.available(), reason="the tiles' surroundings need AVX-512")
def test_emulated_tiles_make_the_bits_of_the_other_levels(tmp_path):
    found = digests(build(tmp_path / "tiles"))
    assert list(found) == ["amx", "avx512", "avxvnni", "avx2", "plain"]
    assert len(set(found.values())) == 1, found


@pytest.mark.skipif("avx512" not in dispatch.available(), reason="the tiles' surroundings need AVX-512")
def test_a_wrong_product_would_be_found(tmp_path):
    wrong = tmp_path / "wrong.h"
    text = EMULATOR.read_text()
    assert text.count("sum += (int8_t)") == 1
    wrong.write_text(text.replace("k < quads * 4; k++", "k < quads * 4 - 1; k++"))
    found = digests(build(tmp_path / "tiles", "-UEMULATED_TILES", f'-DEMULATED_TILES="{wrong}"'))
    assert found["amx"] != found["avx512"]
