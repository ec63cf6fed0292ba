"""Fixtures of all test folders: each engine and its modules, and a trained model that others made."""

import importlib
import os
from pathlib import Path

import pytest

from verbatim.demo import STORIES
from verbatim.reference.records.errors import BackendError

if "GPU_TESTS" not in os.environ:  # `auto` is the CPU for all tests except tests/gpu
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="session", params=["reference", "fastpath"])
def backend(request):
    """The module `backend` of an engine; every test runs with each of them."""
    try:
        return importlib.import_module(f"verbatim.{request.param}.backend")
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def part(backend):
    """A function that imports an engine's module of a mirrored name: "sampling.rng", "cache.pages", ..."""
    return lambda name: importlib.import_module(f"verbatim.{backend.PARTS.name}.{name}")


@pytest.fixture(scope="session")
def stories() -> Path:
    """A small model that others trained, with texts that their own program published."""
    return STORIES
