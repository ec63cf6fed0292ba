"""Keys with names and limits: whose turn it is, what each may use, and what one sees of another."""

import os
import signal
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from live_server import Reader, chat_body, running, wait_until
from raw_http import connect, post
from verbatim.cli.main import main
from verbatim.reference.records.errors import ModelError, QueueFullError
from verbatim.server.engine.quotas import Quotas
from verbatim.server.http.key_file import Key, Limits, digest_of, line_of, read_keys, read_line

SECRETS = {name: f"sk-{name}-5f2a" for name in ("ada", "bob", "few", "ops", "new")}
LIMITS = {"few": Limits(requests=3, sequences=2)}


def line(name: str) -> str:
    key = Key(digest=digest_of(SECRETS[name]), name=name, is_admin=name == "ops", limits=LIMITS.get(name, Limits()))
    return line_of(key)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server for two sequences at a time."""
    directory = tmp_path_factory.mktemp("tenants")
    path = directory / "keys.txt"
    path.write_text("".join(f"{line(name)}\n" for name in ("ada", "bob", "few", "ops")))
    arguments = ("--api-key-file", str(path), "--max-num-sequence", "2", "--max-total-seq-length", "4096")
    with running("fastpath", directory, *arguments) as server:
        server.key_file = path
        wait_until(server.is_ready)
        yield server


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {SECRETS[name]}"}


def ask(server, name: str, **fields):
    return server.http.post("/v1/chat/completions", json=chat_body(**fields), headers=bearer(name))


def test_one_key_s_crowd_does_not_make_another_wait(server):
    """128 choices of one are under way; another's request is the next to be computed, not the last."""
    with connect(server) as sock:
        key = f"Authorization: Bearer {SECRETS['ada']}\r\n"
        sock.sendall(post(chat_body(n=128, max_tokens=60), headers=key))
        wait_until(lambda: server.health()["waiting"] > 100)
        assert ask(server, "bob", max_tokens=4).status_code == 200
        assert server.health()["waiting"] > 60
    wait_until(lambda: server.health()["running"] + server.health()["waiting"] == 0)


def test_limits_of_a_key_are_its_own(server):
    assert ask(server, "few", n=3, max_tokens=1).status_code == 429
    answers = [ask(server, "few", max_tokens=1) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 2
    error = answers[-1].json()["error"]
    assert error["code"] == "rate_limit_exceeded" and "3 requests a minute" in error["message"]
    assert answers[-1].headers["retry-after"]
    assert ask(server, "ada", max_tokens=1).status_code == 200


def usage(server, name: str) -> dict[str, float]:
    """The tokens of answers by key, as a key sees them."""
    text = server.http.get("/metrics", headers=bearer(name)).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        sample.labels["key"]: sample.value
        for sample in samples
        if sample.name == "verbatim_key_completion_tokens_total"
    }


def test_each_key_sees_its_own_usage_and_an_admin_all(server):
    for name in ("ada", "bob"):
        ask(server, name, max_tokens=5)
    assert usage(server, "ada").keys() == {"ada"} and usage(server, "bob").keys() == {"bob"}
    before = usage(server, "ops")
    assert {"ada", "bob"} <= before.keys()
    ask(server, "bob", max_tokens=7)
    after = usage(server, "ops")
    assert (after["bob"] - before["bob"], after["ada"] - before["ada"]) == (7, 0)
    wait_until(lambda: ", key bob" in server.log)
    assert "sk-" not in server.log


def test_keys_are_read_again_at_sighup(server):
    assert ask(server, "new", max_tokens=1).status_code == 401
    before = server.key_file.read_text()
    reader = Reader(server, max_tokens=4)
    reader.finish()
    server.key_file.write_text(before.replace(line("bob"), line("new")))
    os.kill(server.process.pid, signal.SIGHUP)
    wait_until(lambda: ask(server, "new", max_tokens=1).status_code == 200, 10)
    assert ask(server, "bob", max_tokens=1).status_code == 401
    server.key_file.write_text("# nothing\n")
    os.kill(server.process.pid, signal.SIGHUP)
    wait_until(lambda: "The keys stay as they were" in server.log, 10)
    assert ask(server, "new", max_tokens=1).status_code == 200, "a file that holds no key opens nothing"
    assert server.http.get("/v1/models").status_code == 401
    server.key_file.write_text(before)
    os.kill(server.process.pid, signal.SIGHUP)
    wait_until(lambda: ask(server, "bob", max_tokens=1).status_code == 200, 10)
    assert server.process.poll() is None


def test_a_key_is_made_once_and_kept_as_a_digest(tmp_path, capsys):
    path = tmp_path / "keys.txt"
    path.write_text("sk-plain")
    assert main(["key", "new", "ada", "--file", str(path), "--requests", "60", "--admin"]) == 0
    secret = capsys.readouterr().out.split()[0]
    assert secret.startswith("sk-") and secret not in path.read_text()
    plain, named = read_keys(path)
    assert (plain.digest, plain.name) == (digest_of("sk-plain"), "")
    assert named == Key(digest=digest_of(secret), name="ada", is_admin=True, limits=Limits(requests=60))
    assert main(["key", "new", "ada", "--file", str(path)]) == 1
    assert main(["key", "new", "a b"]) == main(["key", "old"]) == 2
    fresh = tmp_path / "fresh.txt"
    assert main(["key", "new", "bob", "--file", str(fresh)]) == 0
    assert fresh.stat().st_mode & 0o077 == 0
    capsys.readouterr()
    assert main(["key", "new", "eve", "--sequences", "4"]) == 0
    assert "sequences=4" in capsys.readouterr().out


WRONG = ("ada sha256:12", f"ada sha256:{'g' * 64}", f"ada sha256:{'0' * 64} words=1", f"a/b sha256:{'0' * 64}")


@pytest.mark.parametrize("text", WRONG)
def test_lines_that_cannot_be_are_named_but_not_shown(text):
    with pytest.raises(ModelError, match="line 3") as caught:
        read_line(text, "keys.txt, line 3")
    assert text.split()[1] not in str(caught.value)


def test_names_are_unique(tmp_path):
    path = tmp_path / "keys.txt"
    path.write_text(f"{line('ada')}\n{line('ada')}\n")
    with pytest.raises(ModelError, match="two keys"):
        read_keys(path)


def test_usage_is_counted_over_a_minute():
    quotas, now = Quotas(), time.monotonic()
    limits = [None, 100, None]
    quotas.admit("a", limits, 60, 0, 1, now)
    quotas.count_tokens("a", 30, now + 10)
    quotas.count_tokens("b", 30, now + 10)  # who has no limits is not counted
    with pytest.raises(QueueFullError, match="100 tokens a minute"):
        quotas.admit("a", limits, 11, 0, 1, now + 20)
    quotas.admit("a", limits, 10, 0, 1, now + 20)
    quotas.admit("a", limits, 60, 0, 1, now + 62)
    with pytest.raises(QueueFullError):
        quotas.admit("a", limits, 60, 0, 1, now + 63)
    with pytest.raises(QueueFullError, match="2 sequences at the same time"):
        quotas.admit("c", [None, None, 2], 1, 1, 2, now)
