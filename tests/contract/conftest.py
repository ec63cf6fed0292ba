"""`part`: a mirrored module of each engine in turn, so that one test states the meaning for all of them."""

import importlib

import pytest

from reference.errors import BackendError


@pytest.fixture(scope="session", params=["reference", "fastpath"])
def part(request):
    """A function that imports the engine's module of a mirrored name: "rng", "sampling", ..."""
    try:
        importlib.import_module(f"{request.param}.backend")
    except BackendError as error:
        pytest.skip(str(error))
    return lambda name: importlib.import_module(f"{request.param}.{name}")
