"""The levels amx and avxvnni on any machine with AVX-512: tiles are emulated in C, the rest is its own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from parity.test_aarch64 import ROOT, SOURCES, digests

dispatch = pytest.importorskip("verbatim.fastpath.machine.dispatch", reason="the fast path is not built")
pytestmark = pytest.mark.skipif("avx512" not in dispatch.available(), reason="what is around the tiles needs AVX-512")
EMULATOR = Path(__file__).with_name("emulated_tiles.h")


def run(*command):
    built = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=600)
    assert built.returncode == 0, built.stderr


def compile_source(source, into, emulator=EMULATOR):
    """The object of a C file, with tiles from that header; returns its path."""
    compiler = shutil.which(os.environ.get("CC", "cc")) or pytest.skip("no C compiler")
    target = into / f"{source.stem}.o"
    run(compiler, "-std=gnu11", "-ffp-contract=off", "-Wno-psabi", "-O1", "-DAVX512_VNNI_HALVES",
        f'-DEMULATED_TILES="{emulator}"', f"-I{ROOT / 'fastpath/kernels'}", "-c", source, "-o", target)  # fmt: skip
    return target


def link(objects, program):
    run(shutil.which(os.environ.get("CC", "cc")), *objects, "-lm", "-lpthread", "-o", program)
    return program


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    into = tmp_path_factory.mktemp("objects")
    return {source.stem: compile_source(source, into) for source in SOURCES}


def test_emulated_tiles_make_the_bits_of_the_other_levels(objects, tmp_path):
    found = digests(link(objects.values(), tmp_path / "tiles"))
    assert list(found) == ["amx", "avx512", "avxvnni", "avx2", "plain"]
    assert len(set(found.values())) == 1, found


def test_a_wrong_product_would_be_found(objects, tmp_path):
    wrong, text = tmp_path / "wrong.h", EMULATOR.read_text()
    assert text.count("k < quads * 4; k++") == 1
    wrong.write_text(text.replace("k < quads * 4; k++", "k < quads * 4 - 1; k++"))
    other = compile_source(ROOT / "fastpath/kernels/amx.c", tmp_path, wrong)
    found = digests(link([*(objects | {"amx": other}).values()], tmp_path / "tiles"))
    assert found["amx"] != found["avx512"]
