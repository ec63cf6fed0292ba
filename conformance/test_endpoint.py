"""A pytest test for every case; pytest_plugin.py has the options. A warning or a case without a verdict is a skip."""

import pytest

from verbatim.conformance.catalogue import chosen
from verbatim.conformance.probe import Probe
from verbatim.conformance.runner import judge


def pytest_generate_tests(metafunc):
    """A test for every case of the profile."""
    cases = chosen(profile=metafunc.config.getoption("--conformance-profile", None) or "all")
    metafunc.parametrize("case", cases, ids=[case.id for case in cases])


def test_endpoint(case, conformance_client, conformance_budget):
    """The endpoint does what the case requires."""
    result = judge(case, Probe(case, conformance_client, conformance_budget))
    summary = f"{case.level} {case.requirement}\nexpected: {result.expected}\nactual: {result.actual}"
    if result.verdict in ("warn", "unsupported", "skipped"):
        pytest.skip(f"{result.verdict}: {result.actual}")
    lines = [exchange.curl(conformance_client.settings.base_url) for exchange in result.exchanges[-1:]]
    assert result.verdict == "pass", "\n".join([summary, f"source: {case.source}", *lines])
