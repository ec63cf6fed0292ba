"""The suite as tests: `pytest -p conformance.pytest_plugin --pyargs conformance --base-url URL --model ID`.

Where the package is installed the plugin is found by itself and -p is not needed.
"""

import os

import pytest

from verbatim.conformance.client import Client, Settings
from verbatim.conformance.probe import Budget


def pytest_addoption(parser):
    """The options that a run needs; another plugin may have --base-url already, which will do."""
    group = parser.getgroup("conformance")
    options = {
        "--base-url": "where the API under test is, with its /v1",
        "--model": "the id of the model to ask",
        "--api-key": "the key (default: OPENAI_API_KEY)",
        "--conformance-profile": "only the cases of this profile",
    }
    for name, text in options.items():
        try:
            group.addoption(name, help=text)
        except ValueError:
            continue


@pytest.fixture(scope="session")
def conformance_client(pytestconfig) -> Client:
    """The client that all cases share."""
    url, model = pytestconfig.getoption("--base-url"), pytestconfig.getoption("--model")
    if not url or not model:
        pytest.skip("--base-url and --model are needed to run cases")
    key = pytestconfig.getoption("--api-key") or os.environ.get("OPENAI_API_KEY")
    return Client(Settings(url.rstrip("/"), model, key))


@pytest.fixture(scope="session")
def conformance_budget() -> Budget:
    """No limit on requests."""
    return Budget(None)
