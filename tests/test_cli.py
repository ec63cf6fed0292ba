"""The command lines of both engines, run as a user runs them."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from small_models import write_byte_tokenizer, write_chat_model, write_model
from verbatim.cli.measures import quantize
from verbatim.reference.numerics.quantization import BLOCKED_FORMATS, FORMATS


def python_m(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)], capture_output=True, text=True, timeout=300, **options
    )


def command_of(command, name):
    """The words of a command that takes either engine."""
    return ["verbatim", command, "--backend", name]


@pytest.fixture(scope="module")
def name(backend):
    return backend.PARTS.name


@pytest.mark.parametrize("index", [0, *(pytest.param(index, marks=pytest.mark.slow) for index in (1, 2))])
def test_the_published_stories_word_for_word(name, stories, index):
    expected = json.loads((stories / "expected.json").read_text())[index]
    from verbatim.reference.text.tokenizers import load_tokenizer

    num_prompt = len(load_tokenizer(stories).encode(expected["prompt"]))
    count = expected["steps"] - num_prompt
    done = python_m(name, "--model", stories, "--greedy", "--max-tokens", count, expected["prompt"])
    assert done.stderr == ""
    assert done.stdout == expected["text"] + "\n"


def test_logits_go_to_a_file_without_a_tokenizer(name, tmp_path):
    write_model(tmp_path / "model", dtype="BF16")
    for quantization in ([], ["--quantization", "w8a8"], ["--quantization", "w4a8"]):
        out = tmp_path / "logits.out"
        command = [
            *command_of("logits", name),
            "--model",
            tmp_path / "model",
            "--ids",
            "1,2,3",
            "--out",
            out,
            *quantization,
        ]
        done = python_m(*command)
        assert (done.returncode, done.stderr) == (0, "")
        logits = np.load(out)["logits"]
        assert logits.shape == (3, 96)
        assert logits.dtype == np.float32


def test_a_seed_repeats_an_answer(name):
    command = [name, "--seed", "3", "--max-tokens", "20", "--temperature", "1.5", "Hello"]
    first, again = python_m(*command), python_m(*command)
    assert first.returncode == 0
    assert first.stdout == again.stdout


def test_an_explanation_shows_rules_text_and_pages(name):
    options = ["--n", "2", "--seed", "1", "--top-k", "3", "--max-tokens", "3", "--stop", "zzz"]
    done = python_m(name, "--explain", *options, "Hello", env={"COLUMNS": "120", "PATH": ""})
    assert done.returncode == 0, done.stderr
    for word in ("top_k", "rules without effect", "held back", "pages", "(shared)", "choice 1", "ended by: length"):
        assert word in done.stdout


def explained(name, *words):
    done = python_m(name, "--explain", *words, env={"COLUMNS": "120", "PATH": ""})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_explanation_shows_what_the_prefix_cache_knew(name, tmp_path):
    letters = "abcdefghijklmnopqrstuvwxyz" * 2
    write_byte_tokenizer(write_model(tmp_path, vocab_size=258), ["<s>", "</s>"])
    options = ["--model", tmp_path, "--greedy", "--max-tokens", "1"]
    shown = explained(name, *options, letters, letters + "!", letters[:20] + "?" * 30)
    prompts = [line.strip() for line in shown.splitlines() if line.startswith("  prompt:")]
    assert prompts[0] == "prompt: 52 tokens, none of them in the prefix cache"
    cached = r"of them from the prefix cache \(pages ([\d ]+), 4 copied into page (\d+)\)"
    assert re.fullmatch(f"prompt: 53 tokens, 52 {cached}, 1 computed", prompts[1])
    first, copied = re.fullmatch(f"prompt: 50 tokens, 20 {cached}, 30 computed", prompts[2]).groups()
    assert f"pages: {first} (reused, shared) {copied} (shared, begun with 4 tokens of another) " in shown


@pytest.mark.parametrize("temperature", ["0", "0.7"])
def test_an_explanation_shows_draft_tokens_and_what_became_of_them(name, temperature, tmp_path):
    write_byte_tokenizer(write_model(tmp_path, vocab_size=258, eos_token_id=None), ["<s>", "</s>"])
    options = ["--model", tmp_path, "--seed", "1", "--temperature", temperature, "--max-tokens", "60", "abcabcabc"]
    plain = explained(name, *options)
    shown = explained(name, "--speculative-mode", "ngram", "--draft-length", "3", *options)
    drafts = [line for line in shown.splitlines() if line.startswith("  draft tokens:")]
    assert not [line for line in plain.splitlines() if line.startswith("  draft tokens:")]
    assert any(", rejected" in line for line in drafts)
    assert any("; behind it " in line for line in drafts)
    assert any(", accepted" in line for line in drafts) or temperature != "0"
    for token in shown.split("position ")[1:]:
        if "  draft tokens: " in token:
            sampled = re.search(r"choice 0: (.*), (?:drawn|the largest)", token)[1]
            draft, verdict = re.search(r"  draft tokens: (.*?), (accepted|rejected)", token).groups()
            assert (draft == sampled) == (verdict == "accepted")

    def without(text):
        return [line for line in text.splitlines() if not line.startswith(("  draft tokens:", "  pages:"))]

    assert without(shown) == without(plain)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "no/such/dir", "hi"], "no/such/dir does not exist"),
        (["--device", "cuda:0", "hi"], "does not run on cuda:0"),
        (["--device", "tpu", "hi"], "device must be auto, cpu, cuda or cuda:INDEX, not 'tpu'"),
        (["--quantization", "int3", "hi"], "quantization 'int3' is not supported; supported: w8a8, w4a8"),
        (["--temperature", "105", "hi"], "temperature must be at most 100, not 105.0"),
        (["--max-tokens", "0", "hi"], "max_tokens must be at least 1, not 0"),
        (["--raw", "many words " * 2000], "tokens, but the context holds"),
    ],
)
def test_a_mistake_is_one_clear_line(name, words, message):
    done = python_m(name, *words)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("ids", "message"),
    [("1,96", "token id 96 is not below"), ("1," * 300 + "1", "301 tokens do not fit"), ("1,x", "integers")],
)
def test_bad_ids_are_named(name, tmp_path, ids, message):
    write_model(tmp_path)
    done = python_m(*command_of("logits", name), "--model", tmp_path, "--ids", ids, "--out", tmp_path / "out.npz")
    assert done.returncode != 0
    assert message in done.stderr
    assert not (tmp_path / "out.npz").exists()


def test_perplexity_compares_float_with_every_format(name, tmp_path):
    write_model(tmp_path, dtype="BF16")
    ids = ",".join(str(3 + i * i % 90) for i in range(600))  # more than the context holds, so several stretches
    done = python_m(*command_of("perplexity", name), "--model", tmp_path, "--ids", ids)
    assert done.returncode == 0, done.stderr
    found = {weights: (float(loss), same) for weights, _, loss, same in table_of(done.stdout)}
    assert list(found) == ["float", *FORMATS, *BLOCKED_FORMATS]
    assert found["float"][1] == "100.0%"
    assert found["w8a8"][0] == pytest.approx(found["float"][0], rel=0.1)
    logits = []
    for start in range(0, 600, 256):
        window = list(map(int, ids.split(",")))[start : start + 256]
        done = python_m(
            *command_of("logits", name),
            "--model",
            tmp_path,
            "--ids",
            ",".join(map(str, window)),
            "--out",
            tmp_path / "out",
        )
        rows = np.load(tmp_path / "out")["logits"][:-1].astype(np.float64)
        rows -= np.log(np.exp(rows).sum(-1, keepdims=True))
        logits.extend(rows[np.arange(len(rows)), window[1:]])
    assert found["float"][0] == pytest.approx(np.exp(-np.mean(logits)), abs=1e-4)


def table_of(text):
    """The cells of a table's rows."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]


def test_pages_narrower_than_float32_are_measured_and_looked_into(name, tmp_path):
    write_model(tmp_path, dtype="BF16")
    ids, found = ",".join(str(3 + i * i % 90) for i in range(60)), []
    done = python_m(*command_of("perplexity", name), "--model", tmp_path, "--ids", ids, "--kv-cache-dtype", "bfloat16")
    assert done.returncode == 0, done.stderr
    rows = table_of(done.stdout)
    narrower = [(name, "bfloat16") for name in (*FORMATS, *BLOCKED_FORMATS)]
    assert [(row[0], row[1]) for row in rows] == [("float", "float32"), ("float", "bfloat16"), *narrower]
    assert rows[0][2] != rows[1][2] and float(rows[0][2]) == pytest.approx(float(rows[1][2]), rel=0.1)
    for dtype in ("float32", "float16", "bfloat16"):
        words = ["--ids", ids, "--kv-cache-dtype", dtype, "--out", tmp_path / "out"]
        python_m(*command_of("logits", name), "--model", tmp_path, *words)
        found.append(np.load(tmp_path / "out")["logits"].tobytes())
    assert len({*found}) == 3


def test_perplexity_of_a_text_and_of_conversations(name, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Hello there, what is two?\n")
    for source in (["--text", text], ["--tokens", "12" if name == "fastpath" else "4"]):
        done = python_m(*command_of("perplexity", name), *source)
        assert done.returncode == 0, done.stderr
        assert all(word in done.stdout for word in ("float", "w8a8", "w4a8", "tokens"))
    done = python_m(*command_of("perplexity", name), "--text", tmp_path / "nothing.txt")
    assert done.returncode == 1
    assert "nothing.txt cannot be read" in done.stderr
    for words in (["--tokens", "0"], ["--ids", "5"], ["--text", text, "--tokens", "-3"]):
        done = python_m(*command_of("perplexity", name), *words)
        assert done.returncode == 1
        assert "nothing to measure" in done.stderr


def test_a_model_without_a_tokenizer_says_so(name, tmp_path):
    done = python_m(name, "--model", write_model(tmp_path), "hi")
    assert done.returncode == 1
    assert "has no tokenizer" in done.stderr


def test_a_template_is_used_unless_raw(name, tmp_path):
    write_chat_model(tmp_path)
    chat = python_m(name, "--model", tmp_path, "--greedy", "--max-tokens", "4", "hi")
    raw = python_m(name, "--model", tmp_path, "--raw", "--greedy", "--max-tokens", "4", "hi")
    assert (chat.returncode, raw.returncode) == (0, 0)
    assert raw.stdout.startswith("hi")
    assert chat.stdout != raw.stdout


def test_quantize_knows_the_models_that_ship(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not quantize(["stories260k", "small", "--format", "w4a8"])
    assert (tmp_path / "small" / "model.safetensors").exists()
