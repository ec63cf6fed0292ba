"""`--lora` of the commands: run, explain, logits, perplexity, diff."""

import subprocess
import sys

import numpy as np
import pytest

from lora_adapters import ATTENTION, shapes_in, write_adapter
from verbatim.demo import MODEL


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    place = tmp_path_factory.mktemp("lora")
    write_adapter(place, shapes_in(MODEL), seed=1, scale=0.2, modules=ATTENTION)
    return place


def verbatim(*words):
    command = [sys.executable, "-m", "verbatim", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_an_answer_is_the_adapters_in_either_engine(adapter):
    words = ("--greedy", "--max-tokens", "8", "--lora", adapter, "Hello")
    answers = [verbatim(*command, *words) for command in (["run"], ["run", "--backend", "reference"], ["chat"])]
    assert answers[0][0] == 0 and answers[0] == answers[1] == answers[2]
    assert answers[0][1] != verbatim("run", "--greedy", "--max-tokens", "8", "Hello")[1]
    assert "candidate" in verbatim("explain", *words)[1]


def test_logits_and_their_difference(adapter, tmp_path):
    code, _, error = verbatim("logits", "--ids", "1,2,3", "--out", tmp_path / "a.npz", "--lora", adapter)
    assert (code, error) == (0, "")
    verbatim("logits", "--ids", "1,2,3", "--out", tmp_path / "b.npz")
    assert not np.array_equal(*(np.load(tmp_path / f"{name}.npz")["logits"] for name in "ab"))
    code, text, _ = verbatim("diff", "--prompt", "Hello", "--max-tokens", "2", "--lora", adapter)
    assert code == 0 and "nothing differs" in text


def test_perplexity_is_that_of_the_adapter(adapter):
    texts = [verbatim("perplexity", "--tokens", "64", *words)[1] for words in ([], ["--lora", adapter])]
    assert texts[0] != texts[1] and all("w4a8" in text for text in texts)


def test_what_is_no_adapter_is_refused_in_a_line(tmp_path):
    for command in (["run", "x"], ["logits", "--ids", "1", "--out", tmp_path / "x"], ["diff", "--ids", "1"]):
        code, text, error = verbatim(*command, "--lora", tmp_path)
        assert code == 1 and text == "" and error.count("\n") == 1 and "has no adapter_config.json" in error
    code, _, error = verbatim("chat", "--lora", tmp_path, "--base-url", "http://127.0.0.1:9/v1", "x")
    assert code == 2 and "--lora: --base-url names a server" in error
