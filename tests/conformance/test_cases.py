"""Every case passes on a correct server and fails on a server with the fault that the case names."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from mini_server import KEY, MODEL, MiniServer

from verbatim.conformance.case import Case
from verbatim.conformance.catalogue import all_cases, costs
from verbatim.conformance.client import Client, Settings
from verbatim.conformance.probe import Budget, Probe
from verbatim.conformance.runner import Result, judge, rejudge

CASES = list(all_cases().values())


@pytest.fixture(scope="module")
def server():
    with MiniServer() as running:
        yield running


def settings_for(server: MiniServer, fault: str = "") -> Settings:
    headers = {"X-Fault": quote(fault)} if fault else {}
    return Settings(server.base_url, MODEL, KEY, headers, timeout=15, auth_required=True)


def run(case: Case, server: MiniServer, fault: str = "") -> Result:
    return judge(case, Probe(case, Client(settings_for(server, fault)), Budget(None)))


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_case_passes_on_the_correct_server_and_fails_on_the_faulty_server(case, server):
    right = run(case, server)
    assert right.verdict == "pass", f"{right.expected}\n{right.actual}"
    wrong = run(case, server, case.fault)
    assert wrong.verdict in ("fail", "warn"), f"{case.fault}: {wrong.verdict} {wrong.actual}"
    again = list(rejudge([(case, wrong.exchanges)], settings_for(server)))
    assert (again[0].verdict, again[0].expected) == (wrong.verdict, wrong.expected)


@pytest.mark.parametrize("case", CASES[::10], ids=[case.id for case in CASES[::10]])
def test_plan_counts_the_requests_and_tokens_of_a_case(case, server):
    assert cost_of(run(case, server)) == costs()[case.id], "run `python tests/conformance/test_cases.py`"


def cost_of(result: Result) -> list[int]:
    """(requests, completion tokens requested), as --plan prints them."""
    tokens = 0
    for exchange in result.exchanges:
        if exchange.path.endswith("completions") and exchange.status == 200:
            try:
                body = json.loads(exchange.request_body)
            except ValueError:
                continue
            cap = body.get("max_tokens") or body.get("max_completion_tokens") or 16
            choices = body.get("n") or 1
            tokens += min(cap, 4096) * choices if type(cap) is int and type(choices) is int else 0
    return [len(result.exchanges), tokens]


def write_costs() -> None:
    """`python tests/conformance/test_cases.py` writes costs.json anew."""
    with MiniServer() as server:
        table = {case.id: cost_of(run(case, server)) for case in CASES}
    path = Path(__file__).parents[2] / "conformance" / "costs.json"
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(cost)}" for name, cost in sorted(table.items()))
    path.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    write_costs()
