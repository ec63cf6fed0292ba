"""Fixtures of all test folders: each engine and its modules, and a trained model outside the repository."""

import importlib
import os
from pathlib import Path

import pytest

from verbatim.reference.records.errors import BackendError

if "GPU_TESTS" not in os.environ:  # `auto` is the CPU for all tests except tests/gpu
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
SHARED = Path(__file__).parents[2] / "shared"


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
    """A trained model in a folder beside the repository; the test is skipped without it."""
    path = SHARED / "models" / "stories260k"
    if not path.exists():
        pytest.skip("shared/models/stories260k is not beside this checkout")
    return path
