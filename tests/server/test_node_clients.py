"""Clients for Node, unmodified, against a running server: skipped where node or their packages are not there."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from live_server import running
from verbatim.demo import MODEL
from verbatim.reference.checkpoint.families import load_config

FOLDER = Path(__file__).parent / "node"
HIDDEN = load_config(MODEL).hidden_size


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with running("fastpath", tmp_path_factory.mktemp("node")) as server:
        yield server.wait_ready()


def run(server, script: str) -> dict:
    """What a script of node/ prints about the server."""
    if shutil.which("node") is None:
        pytest.skip("there is no node")
    if not (FOLDER / "node_modules").exists():
        pytest.skip("`npm install` in tests/server/node brings the clients")
    command = ["node", script, f"{server.url}/v1", "verbatim-demo"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def check_common(found):
    assert found["whole"] == found["streamed"] != ""
    assert found["parsed"]["name"] in ("Ada", "Bo") and isinstance(found["parsed"]["is_old"], bool)
    assert found["dimensions"] == [HIDDEN, HIDDEN]


def test_openai_node(live):
    found = run(live, "openai.cjs")
    check_common(found)
    assert found["call"]["name"] == "get_weather" and "city" in json.loads(found["call"]["arguments"])
    assert found["response"] == found["response_streamed"] != ""
    assert found["error"] == [400, "n", "integer_below_min_value"]


def test_vercel_ai_sdk(live):
    found = run(live, "vercel.cjs")
    check_common(found)
    for call in (found["call"], found["call_streamed"]):
        assert call["toolName"] == "get_weather" and call["input"]["city"] in ("Paris", "Rome")
    assert 0 < found["usage"] <= 12
    assert found["error"][0] == 400 and "temperature" in found["error"][1]
    assert all(found["responses"]) and found["items"] == ["user", "item_reference", "user"]
    assert "Sunny" in found["told"]
