"""Fixtures for tests over a real socket: one server a backend for most tests, servers of one's own for the rest."""

from contextlib import ExitStack

import pytest

from live_server import running


@pytest.fixture(scope="session", params=["reference", "fastpath"])
def server(request, tmp_path_factory):
    """The server that most tests share, one for each backend: strict, with room for sixteen answers at once."""
    limits = ("--max-num-sequence", "16", "--max-total-seq-length", "32768", "--unknown-fields", "refuse")
    with running(request.param, tmp_path_factory.mktemp("server"), *limits) as server:
        yield server.wait_ready()


@pytest.fixture
def start(tmp_path):
    """Start a server of one's own: `start("reference", "--workers", "2")`; it is ended with the test."""
    with ExitStack() as stack:
        yield lambda backend="reference", *arguments, **options: stack.enter_context(
            running(backend, tmp_path, *arguments, **options)
        )
