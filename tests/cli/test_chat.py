"""`verbatim chat`, typed into a real terminal and read from its screen."""

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager

import pexpect
import pytest

from foreign_server import KEY, foreign_server
from live_server import children, is_alive, running, wait_until
from lora_adapters import ATTENTION, shapes_in, write_adapter
from small_models import write_byte_tokenizer, write_model
from terminal import Terminal
from verbatim.cli.chat.client import events
from verbatim.cli.chat.keyboard import content_of, is_open
from verbatim.demo import MODEL

WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running("fastpath", tmp_path_factory.mktemp("server")) as server:
        yield server.wait_ready()


def environment(tmp_path, **variables):
    names = ("PATH", "PYTHONPATH", "HOME", "LANG")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    own = {"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", "XDG_STATE_HOME": str(tmp_path / "state")}
    return kept | own | variables


@contextmanager
def chat(tmp_path, *words, **variables):
    """The program in a terminal, at its first prompt."""
    terminal = Terminal("chat", *words, **environment(tmp_path, **variables))
    try:
        terminal.wait(r"(?m)^>>>$")
        yield terminal
    finally:
        terminal.process.close(force=True)


def pipe(tmp_path, *words, text="", **variables):
    """The command in a pipe: code, stdout, stderr."""
    command = [sys.executable, "-m", "verbatim", *map(str, words)]
    done = subprocess.run(
        command, input=text.encode(), capture_output=True, timeout=120, env=environment(tmp_path, **variables)
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def saved(terminal, tmp_path):
    """The conversation as /save writes it."""
    terminal.enter(f"/save {tmp_path / 'saved.json'}")
    return json.loads((tmp_path / "saved.json").read_text())


def test_a_conversation_with_a_model_on_this_machine(tmp_path):
    with chat(tmp_path, "--greedy", "--speculative-mode", "ngram", "--no-history") as terminal:
        assert "verbatim-demo (fastpath on " in terminal.screen()
        (server,) = [pid for pid in children(terminal.process.pid) if is_alive(pid)]
        family = [server, *children(server)]
        shown = terminal.enter("What is 17 + 25?")
        assert re.search(r"\n17 \+ 25 = 42\n\d+ tokens, [\d.]+ tokens/s\n", shown)
        shown = terminal.enter("/explain")
        assert re.search(r"token (\d+) of \1, after '.*= 4'\n", shown)
        assert re.search(r"'2' \*\s+0\.\d{4}\s+-\d+\.\d{3}", shown)
        assert "'1' *" in terminal.enter("/explain 1")
        assert "the token must be 1 to " in terminal.enter("/explain 99")
        terminal.enter("Say it again.")
        shown = terminal.enter("/stats")
        for pattern in (
            r"prompt tokens +\d+",
            r"cached +[1-9]",
            r"first token +\d+ ms",
            r"accepted +\d+ of \d+ \(",
        ):
            assert re.search(pattern, shown), pattern
        assert terminal.leave() == 0
    wait_until(lambda: not any(map(is_alive, family)), 20)
    assert not (tmp_path / "state").exists()


def test_settings_are_typed_and_bounded(server, tmp_path):
    with chat(tmp_path, "--base-url", server.url) as terminal:
        for line, error in (
            ("/set top_p 3", "top_p must be a number from 0 to 1, not 3"),
            ("/set top_p hot", 'top_p must be a number from 0 to 1, not "hot"'),
            ("/set max_tokens 0", "max_tokens must be an integer of at least 1 or -1, not 0"),
            ("/set seed 1.5", "seed must be an integer from -9223372036854775808 to 18446744073709551615, not 1.5"),
            ("/set ignore_eos maybe", 'ignore_eos must be true or false, not "maybe"'),
            ("/set temprature 1", "temprature: did you mean temperature?"),
            ("/explain", "there is no answer yet"),
            ("/undo", "there is no turn yet"),
            ("/sett x 1", "/sett: did you mean /set?"),
            ("/bye now", "/bye takes nothing after it, not 'now'"),
            ("/model gpt-x", "the server has no model 'gpt-x'; it has verbatim-demo"),
            ("/load nowhere", "nowhere cannot be read: No such file or directory"),
        ):
            assert f"error: {error}" in terminal.enter(line), line
        for line in (
            "/set temperature 0",
            "/set stop 5",
            "/set max_tokens 9",
            "/system Be brief.",
            "/unset max_tokens",
        ):
            terminal.enter(line)
        body = saved(terminal, tmp_path)
        assert body == {
            "model": "verbatim-demo", "messages": [{"role": "system", "content": "Be brief."}], "temperature": 0,
            "stop": "5",
        }  # fmt: skip
        assert "temperature = 0" in terminal.enter("/set")
        assert "/system TEXT|off" in terminal.enter("/help")


def test_lines_continue_and_the_history_comes_back(server, tmp_path):
    words = ("--base-url", server.url, "--max-tokens", "2")
    with chat(tmp_path, *words) as terminal:
        terminal.enter("a\\", r"(?m)^\.\.\.$")
        terminal.enter("b")
        terminal.enter('"""', r"(?m)^\.\.\.$")
        terminal.enter("c \\", r"(?m)^\.\.\.$")
        terminal.enter('  d"""')
        terminal.process.send("e\x1b\r")
        terminal.enter("f")
        asked = [message["content"] for message in saved(terminal, tmp_path)["messages"][::2]]
        assert asked == ["a\nb", "c \\\n  d", "e\nf"]
        assert terminal.leave() == 0
    assert (tmp_path / "state/verbatim/chat_history").stat().st_mode & 0o777 == 0o600
    with chat(tmp_path, *words) as terminal:
        terminal.process.send("\x1b[A\x1b[A")  # the command, then the message before it
        terminal.wait(r">>> e\n\.\.\. f")
        terminal.process.send("\x03")
        terminal.wait(r"(?m)^>>>$\s*\Z")
        terminal.process.send("/exp\t")
        terminal.wait(r">>> /explain")


def test_ctrl_c_stops_the_answer_and_not_the_program(server, tmp_path):
    with chat(tmp_path, "--base-url", server.url, "--greedy") as terminal:
        terminal.enter("/set ignore_eos true")
        terminal.enter("Hello", r"Hello! I am|assistant")  # the screen may show later lines only
        terminal.process.sendintr()
        shown = terminal.wait(r"(?m)^\d+ tokens.*, stopped\n>>>$")
        assert int(re.search(r"(\d+) tokens", shown)[1]) < 1500
        messages = saved(terminal, tmp_path)["messages"]
        assert [message["role"] for message in messages] == ["user", "assistant"]
        assert messages[1]["content"].startswith("Hello! I am")
        terminal.enter("/unset ignore_eos")
        assert "17 + 25 = 42" in terminal.enter("What is 17 + 25?")
    wait_until(lambda: server.health()["running"] == 0)


def test_a_refused_message_does_not_stay(server, tmp_path):
    body = {"messages": [{"role": "user", "content": "long " * 3000}, {"role": "assistant", "content": "Yes."}]}
    (tmp_path / "long.json").write_text(json.dumps(body))
    with chat(tmp_path, "--base-url", server.url, "--greedy") as terminal:
        terminal.enter('/set logit_bias {"99999": 1}')
        assert "error: logit_bias keys must be token ids below" in terminal.enter("Hello")
        terminal.enter("/unset logit_bias")
        assert "17 + 25 = 42" in terminal.enter("What is 17 + 25?")
        before = saved(terminal, tmp_path)
        assert [message["role"] for message in before["messages"]] == ["user", "assistant"]
        terminal.enter(f"/load {tmp_path / 'long.json'}")
        assert "/undo removes the last turn" in terminal.enter("Hello")
        assert "/undo removes the last turn" in terminal.enter("/retry")
        assert len(saved(terminal, tmp_path)["messages"]) == 2
        terminal.enter("/clear")
        assert "17 + 25 = 42" in terminal.enter("What is 17 + 25?")
        assert saved(terminal, tmp_path)["messages"] == before["messages"]


def test_what_is_saved_goes_back_into_the_api(server, tmp_path):
    with chat(tmp_path, "--base-url", server.url, "--seed", "5", "--system", "Be brief.") as terminal:
        terminal.enter("Hello!")
        body = saved(terminal, tmp_path)
    question, answer = body["messages"][:-1], body["messages"][-1]
    choice = server.http.post("/v1/chat/completions", json=body | {"messages": question}).json()["choices"][0]
    assert choice["message"]["content"] == answer["content"]
    empty = [*question, {"role": "assistant", "content": ""}, {"role": "user", "content": "Again."}]
    for messages in (body["messages"], empty):
        assert server.http.post("/v1/chat/completions", json=body | {"messages": messages}).status_code == 200
    with chat(tmp_path, "--base-url", server.url, "--load", str(tmp_path / "saved.json")) as terminal:
        terminal.enter("/retry")
        assert saved(terminal, tmp_path) == body


def test_tools_are_called_and_answered_by_hand(server, tmp_path):
    (tmp_path / "tools.json").write_text(json.dumps([WEATHER]))
    with chat(tmp_path, "--base-url", server.url, "--greedy") as terminal:
        assert "tools: get_weather" in terminal.enter(f"/tools {tmp_path / 'tools.json'}")
        question = "What is the weather in Paris?"
        shown = terminal.enter(question, r"(?m)^result of get_weather:$")
        assert re.search(r'calls get_weather\(\{"city": ?"Paris"\}\)', shown)
        terminal.process.sendintr()
        terminal.wait(r"(?s)the turn is not kept\n>>>$\s*\Z")
        assert saved(terminal, tmp_path)["messages"] == []
        terminal.enter(question, r"(?m)^result of get_weather:$")
        terminal.enter('{"celsius": 21}')
        messages = saved(terminal, tmp_path)["messages"]
        assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
        assert messages[2] == {
            "role": "tool", "tool_call_id": messages[1]["tool_calls"][0]["id"], "content": '{"celsius": 21}',
        }  # fmt: skip
        assert messages[3]["content"]
        terminal.enter("/tools off")
        assert "tools" not in saved(terminal, tmp_path)


def test_a_server_of_another_make(tmp_path):
    with foreign_server() as (url, bodies):
        words = ("--base-url", url, "--api-key", KEY)
        with chat(tmp_path, *words, NO_COLOR="1") as terminal:
            assert f"other ({url})" in terminal.screen()
            shown = terminal.enter("escape")
            assert r"a\x1b[2J\x1b]0;title\x07b\x9bc\rd" in shown
            assert "hm,\nyes" in terminal.enter("think")
            assert "error: the connection ended before the answer did" in terminal.enter("break")
            assert r"error: out of \x1bmemory" in terminal.enter("error")
            assert "no log-probabilities" in terminal.enter("/explain")
            messages = saved(terminal, tmp_path)["messages"]
            assert [message["content"] for message in messages[::2]] == ["escape", "think"]
            assert messages[3] == {"role": "assistant", "content": "yes"}
            assert not re.search(r"\x1b\[[\d;]*3\d[;m]", terminal.raw), "a colour"
        assert [set(body) for body in bodies[-1:]] == [{"model", "messages", "stream"}]
        code, out, err = pipe(tmp_path, "chat", "--base-url", url, text="think", OPENAI_API_KEY=KEY)
        assert (code, out, err) == (0, "yes\n", "")
        assert pipe(tmp_path, "chat", *words, "escape")[1] == "a\x1b[2J\x1b]0;title\x07b\x9bc\rd\u2028e\n"
        code, out, err = pipe(tmp_path, "chat", "--base-url", url, "-p", "think")
        assert (code, out, err) == (1, "", "error: wrong key\n")


def test_a_model_without_a_template_continues_text(tmp_path):
    write_byte_tokenizer(write_model(tmp_path / "base", vocab_size=258), ["<s>", "</s>"])
    words = ("--model", tmp_path / "base", "--backend", "reference", "--seed", "1", "--max-tokens", "4")
    with chat(tmp_path, *words) as terminal:
        shown = terminal.enter("abc")
        assert "this model has no chat template: it continues each text by itself\n4 tokens" in shown
        assert "token 4 of 4" in terminal.enter("/explain")
        first = saved(terminal, tmp_path)["messages"][1]["content"]
        assert "no chat template" not in terminal.enter("abc")
        assert saved(terminal, tmp_path)["messages"][3]["content"] == first


def test_prompts_are_answered_without_a_conversation(server, tmp_path):
    prompt, answer = "What is 17 + 25?", "17 + 25 = 42\n"
    for words in (
        ["run", "--greedy", prompt],
        ["chat", "--greedy", "--base-url", server.url + "/v1/", prompt],
    ):
        assert pipe(tmp_path, *words) == (0, answer, ""), words
    assert pipe(tmp_path, "chat", "--greedy", text=prompt) == (0, answer, "")


def test_answers_go_into_a_file(server, tmp_path):
    command = f"{sys.executable} -m verbatim chat --greedy --base-url {server.url} > {tmp_path / 'out.txt'}"
    shell = pexpect.spawn("sh", ["-c", command], env=environment(tmp_path), encoding="utf-8", timeout=60)
    for line in ("What is\\", "17 + 25?", "/bye"):
        shell.expect_exact([">>> ", "... "])
        shell.sendline(line)
    shell.expect(pexpect.EOF)
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert lines[1] == "17 + 25 = 42"
    assert re.fullmatch(r"\d+ tokens, [\d.]+ tokens/s", lines[2])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--base-url", "http://127.0.0.1:9", "hi"], 1, "no server answers at http://127.0.0.1:9/v1"),
        (["--base-url", "localhost:8000", "hi"], 1, "'localhost:8000' must be a URL like http://127.0.0.1:8000/v1"),
        (["--base-url", "http://127.0.0.1:9", "--n", "2", "hi"], 2, "--n does not exist with --base-url"),
        (["--top-p", "2", "hi"], 1, "top_p must be at most 1, not 2.0"),
        (["--base-urll", "x", "hi"], 2, "--base-urll: did you mean --base-url?"),
        (["hi", "--", "--threads", "1"], 2, "-- --threads 1: prompts are answered without a server"),
    ],
)
def test_a_mistake_is_a_single_line(tmp_path, words, code, message):
    found, out, err = pipe(tmp_path, "chat", *words)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert message in err


def test_a_model_that_cannot_be_served_is_a_single_line(tmp_path):
    terminal = Terminal("chat", "--model", str(tmp_path / "none"), **environment(tmp_path))
    shown = terminal.wait(r"error: the model cannot be served: .*\n?")
    assert "does not exist" in shown
    assert "Traceback" not in shown


def test_events_and_typed_text_are_read_in_pieces():
    data = "data: a\u2028b\r\n\r\n: heartbeat\n\ndata: c\ndata: d\n\ndata: [DONE]\n\n".encode()
    for size in (1, 2, 5, len(data)):
        blocks = [data[start : start + size] for start in range(0, len(data), size)]
        assert list(events(blocks)) == ["a\u2028b", "c\nd", "[DONE]"]
    assert not is_open('say """ twice')
    assert content_of('"""\na """ b\n"""') == 'a """ b'


def test_a_conversation_with_an_adapter(tmp_path):
    write_adapter(tmp_path / "lora", shapes_in(MODEL), modules=ATTENTION)
    with chat(tmp_path, "--greedy", "--max-tokens", "4", "--no-history", "--lora", tmp_path / "lora") as terminal:
        assert "adapter (fastpath on " in terminal.screen()
        terminal.enter("/model")
        assert "verbatim-demo" in terminal.screen()
