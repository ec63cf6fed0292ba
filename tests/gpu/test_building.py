"""Kernels are compiled once and cached; an error names what is missing. No GPU is needed."""

import shutil

import pytest

from verbatim.fastpath.gpu import building
from verbatim.fastpath.gpu.nvrtc import Nvrtc
from verbatim.reference.records.errors import BackendError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def script(tmp_path, text):
    path = tmp_path / "nvcc"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_kernels_come_from_the_cache_the_second_time(tmp_path, monkeypatch):
    target = building.architecture((9, 0))
    assert target == "sm_90a"

    def compile_to(target, flags):
        return b"code for " + target.encode()

    monkeypatch.setattr(building, "find_compiler", lambda: ("one", compile_to))
    assert building.build_kernels(target, folder=tmp_path) == b"code for sm_90a"
    monkeypatch.setattr(building, "find_compiler", lambda: ("one", lambda target, flags: b"never asked"))
    assert building.build_kernels(target, folder=tmp_path) == b"code for sm_90a"

    def too_old(target, flags):
        if target != building.OLDEST:
            raise building.UnknownArchitectureError
        return b"PTX"

    monkeypatch.setattr(building, "find_compiler", lambda: ("another compiler", too_old))
    assert building.build_kernels("sm_999", folder=tmp_path) == b"PTX"


def test_a_chip_that_is_too_old_is_refused():
    assert [building.architecture(chip) for chip in ((8, 0), (8, 9), (10, 0))] == ["sm_80", "sm_89", "sm_100"]
    with pytest.raises(BackendError, match=r"compute capability 7\.5; the kernels need at least 8\.0"):
        building.architecture((7, 5))


def test_without_any_compiler_the_message_says_what_to_install(monkeypatch):
    monkeypatch.delenv("CUDACXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(Nvrtc, "find", classmethod(lambda cls: None))
    with pytest.raises(BackendError, match="put nvcc on the PATH, or `pip install nvidia-cuda-nvrtc`"):
        building.build_kernels("sm_80")


def test_nvcc_is_run_once_and_its_mistakes_are_told(tmp_path, monkeypatch):
    log, version = tmp_path / "log", '[ "$1" = --version ] && echo 1 && exit'
    works = f'{version}; echo "$@" >> {log}; while [ "$1" != -o ]; do shift; done; echo code > $2'
    monkeypatch.setenv("CUDACXX", script(tmp_path, works))
    assert building.build_kernels("sm_80") == building.build_kernels("sm_80") == b"code\n"
    (line,) = log.read_text().splitlines()
    assert "-fmad=false" in line and "-cubin -arch=sm_80" in line
    monkeypatch.setenv("CUDACXX", script(tmp_path, "[ $1 = --version ] && echo 2 && exit; echo a mistake >&2; exit 1"))
    with pytest.raises(BackendError, match="cannot compile the GPU kernels for sm_89: a mistake"):
        building.build_kernels("sm_89")
    monkeypatch.setenv("CUDACXX", script(tmp_path, "echo broken >&2; exit 1"))
    with pytest.raises(BackendError, match="--version fails: broken"):
        building.build_kernels("sm_80")


def test_nvcc_that_does_not_know_the_chip_makes_ptx(tmp_path, monkeypatch):
    unknown = 'echo "Unsupported gpu architecture" >&2; exit 1'
    knows = f'case "$*" in *--version*) echo 3; exit;; *compute_80*) ;; *) {unknown};; esac'
    rest = 'case "$*" in *-ptx*) ;; *) exit 9;; esac; while [ "$1" != -o ]; do shift; done; echo PTX > $2'
    monkeypatch.setenv("CUDACXX", script(tmp_path, f"{knows}; {rest}"))
    assert building.build_kernels("sm_999") == b"PTX\n"


def test_nvrtc_compiles_the_same_sources(monkeypatch):
    nvrtc = Nvrtc.find()
    if nvrtc is None:
        pytest.skip("no NVRTC: `pip install nvidia-cuda-nvrtc`")
    monkeypatch.delenv("CUDACXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert building.find_compiler()[0].startswith("NVRTC ")
    assert building.build_kernels("sm_90a").startswith(b"\x7fELF")
    assert b".target sm_80" in building.build_kernels("sm_999")
    image, log = nvrtc.compile(b"mistake", ["--gpu-architecture=sm_80"])
    assert image is None and "error" in log
    with pytest.raises(BackendError, match="NVRTC cannot compile"):
        building.build_kernels("sm_80", ("-no-such-flag",))
