"""What several test folders share: the engines and their modules in turn, and the model beside the project."""

import importlib
import os
from pathlib import Path

import pytest

from verbatim.reference.records.errors import BackendError

if "GPU_TESTS" not in os.environ:  # `auto` is the processor for everyone but tests/gpu
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session", params=["reference", "fastpath"])
def backend(request):
    """The module `backend` of each engine in turn."""
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
    """A real trained model that lies beside the project on its authors' machines, not on its users'."""
    path = SHARED / "models" / "stories260k"
    if not path.exists():
        pytest.skip("shared/models/stories260k is not beside this checkout")
    return path
