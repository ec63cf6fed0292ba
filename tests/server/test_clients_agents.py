"""Coding agents that others wrote, unmodified, against a running server: a tool is called, run, and its answer read.

The model answers by a script (scripted_model.py), since a small one calls no tool of an agent by itself. An agent that
is neither on the PATH nor in node/agents, where `npm install` brings it, is skipped.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from live_server import running
from scripted_model import write_scripted_model

BIN = Path(__file__).parent / "node" / "agents" / "node_modules" / ".bin"
COMMANDS = {  # what each agent's own tool is asked to run
    "exec_command": {"cmd": "echo 42 > answer.txt; cat answer.txt"},
    "bash": {"command": "echo 43 > answer.txt; cat answer.txt"},
    "run_shell_command": {"command": "echo 44 > answer.txt; cat answer.txt", "is_background": False},
}
TEXT = "It is done."


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    model = write_scripted_model(tmp_path_factory.mktemp("model") / "scripted", COMMANDS, ["It", " is", " done."])
    with running("fastpath", tmp_path_factory.mktemp("agents"), "--model", str(model)) as server:
        yield server.wait_ready()


@pytest.fixture
def agent(tmp_path):
    """`agent(name, *arguments, **variables)` runs an agent in an empty folder and gives what it printed."""
    folder = tmp_path / "work"
    folder.mkdir()

    def run(name: str, *arguments: str, typed: str = "", **variables: str) -> str:
        program = shutil.which(name, path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
        if program is None:
            pytest.skip(f"there is no {name}: see docs/clients.md")
        own = {"HOME": str(tmp_path), "PWD": str(folder), "VERBATIM_API_KEY": "none"}  # opencode goes by PWD
        done = subprocess.run(
            [program, *arguments], cwd=folder, env=os.environ | own | variables, input=typed, capture_output=True,
            text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run.folder = folder
    return run


def lines(text: str) -> list[dict]:
    """The JSON lines among what an agent printed."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_codex_runs_a_command_and_resumes(live, agent, tmp_path):
    (tmp_path / "codex").mkdir()
    provider = {
        "name": "verbatim",
        "base_url": f"{live.url}/v1",
        "wire_api": "responses",
        "env_key": "VERBATIM_API_KEY",
    }
    settings = [f"model_providers.verbatim.{name}={json.dumps(value)}" for name, value in provider.items()]
    settings += ['model_provider="verbatim"', 'model="scripted"', 'model_reasoning_effort="high"']
    command = ["exec", *(word for setting in settings for word in ("-c", setting))]
    loose = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--json"]
    home = {"CODEX_HOME": str(tmp_path / "codex")}
    items = [event["item"] for event in lines(agent("codex", *command, *loose, "Run it.", **home)) if "item" in event]
    [ran] = [item for item in items if item["type"] == "command_execution" and item["status"] == "completed"]
    assert (ran["aggregated_output"], ran["exit_code"]) == ("42\n", 0)
    assert [item["text"] for item in items if item["type"] == "agent_message"] == [TEXT]
    assert (agent.folder / "answer.txt").read_text() == "42\n"
    again = lines(agent("codex", *command, "resume", "--last", *loose, "Run it again.", **home))
    assert [event["item"]["text"] for event in again if event.get("item", {}).get("type") == "agent_message"] == [TEXT]
    answers = [line for line in live.log.splitlines() if "POST /v1/responses" in line]
    assert len(answers) == 4 and all("/v1/responses 200 " in line for line in answers)


def test_opencode_runs_a_command(live, agent):
    provider = {"npm": "@ai-sdk/openai-compatible", "options": {"baseURL": f"{live.url}/v1", "apiKey": "none"}}
    provider["models"] = {"scripted": {"limit": {"context": 131072, "output": 4096}}}
    settings = {"provider": {"verbatim": provider}, "model": "verbatim/scripted", "small_model": "verbatim/scripted"}
    settings |= {"autoupdate": False, "share": "disabled"}
    (agent.folder / "opencode.json").write_text(json.dumps(settings))
    events = lines(agent("opencode", "run", "--format", "json", "Run it."))
    [ran] = [event["part"] for event in events if event["type"] == "tool_use"]
    assert (ran["state"]["status"], ran["state"]["output"]) == ("completed", "43\n")
    assert [event["part"]["text"] for event in events if event["type"] == "text"] == [TEXT]


def test_qwen_code_runs_a_command(live, agent):
    server = {"OPENAI_BASE_URL": f"{live.url}/v1", "OPENAI_API_KEY": "none", "OPENAI_MODEL": "scripted"}
    assert TEXT in agent("qwen", "--auth-type", "openai", "--yolo", "-p", "Run it.", **server)
    assert (agent.folder / "answer.txt").read_text() == "44\n"


def test_aider_has_two_turns(live, agent):
    quiet = ["--no-git", "--yes-always", "--no-pretty", "--no-fancy-input", "--no-analytics", "--no-check-update"]
    quiet += ["--no-show-model-warnings", "--no-show-release-notes", "--no-detect-urls", "--map-tokens", "0"]
    server = {"OPENAI_API_BASE": f"{live.url}/v1", "OPENAI_API_KEY": "none", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    said = agent("aider", "--model", "openai/scripted", *quiet, typed="Hello\nMore\n/exit\n", **server)
    assert said.count(TEXT) == 2
