"""`fastpath.diff` against planted faults: a bit is flipped in the fast path, and diff must name its place."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from small_models import SMALL, random_tensors, write_chat_model, write_model, write_safetensors
from verbatim.reference import backend as reference_backend
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams

pytest.importorskip("verbatim.fastpath.machine.dispatch", reason="the fast path is not built")
from verbatim.cli.main import main
from verbatim.fastpath import backend
from verbatim.fastpath.commands import diff

PROMPTS = [(5, 6, 7, 8, 9), (20, 21, 22), tuple(range(30, 50))]
MIXTRAL = {
    "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 4, "num_experts_per_tok": 2,
}  # fmt: skip


def write_mixture(directory):
    """The small model with four experts a layer."""
    config, tensors = SMALL | MIXTRAL, random_tensors(SMALL, seed=0, scale=0.3)
    random = np.random.default_rng(1)
    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}."
        tensors[f"{block}block_sparse_moe.gate.weight"] = random.standard_normal((4, 48)).astype(np.float32)
        for part, name in (("gate", "w1"), ("down", "w2"), ("up", "w3")):
            weight = tensors.pop(f"{block}mlp.{part}_proj.weight")
            for expert in range(4):
                tensors[f"{block}block_sparse_moe.experts.{expert}.{name}.weight"] = weight * np.float32(1 + expert)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    write_safetensors(directory / "model.safetensors", tensors, "F32")
    return directory


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"), dtype="BF16")


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    return write_mixture(tmp_path_factory.mktemp("mixture"))


class Faulty:
    """A model that flips a bit of an intermediate result, through `watch`."""

    def __init__(self, model, step, layer, operation, row, element, bit=0):
        self.model, self.config, self.fault = model, model.config, (step, layer, operation)
        self.at, self.bit, self.num_steps, self.watch = (row, element), np.uint32(1 << bit), 0, None

    def forward(self, chunks, cache):
        self.model.watch = self.see
        self.num_steps += 1
        return self.model.forward(chunks, cache)

    def see(self, layer, operation, rows):
        if (self.num_steps - 1, layer, operation) == self.fault:
            rows.view(np.uint32)[self.at] ^= self.bit
        self.watch(layer, operation, rows)


def requests(prompts=PROMPTS, temperature=1.0, max_tokens=4):
    sampling = SamplingParams(temperature=temperature, seed=7, logprobs=diff.ALTERNATIVES)
    stopping = StoppingParams(max_tokens=max_tokens, ignore_eos=True)
    return [
        Request(request_id=str(number), prompt_ids=ids, sampling=sampling, stopping=stopping)
        for number, ids in enumerate(prompts)
    ]


def engines(directory, fast_directory=None, quantization=None):
    settings = {"quantization": quantization, "tokenizer": diff.Wordless(), "num_requests": len(PROMPTS)}
    reference = diff.load(reference_backend, directory, **settings)
    return reference, diff.load(backend, fast_directory or directory, **settings)


def bits_apart(values):
    """The number of bits in which the two printed values differ."""
    first, second = (int(value.partition("0x")[2].rstrip(")"), 16) for value in values)
    return (first ^ second).bit_count()


def address(found):
    return found.place.request, found.place.position, found.layer, found.operation, found.element


@pytest.mark.parametrize("quantization", [None, "w8a8", "w4a8"])
def test_engines_that_agree_have_no_difference_and_everything_was_compared(directory, quantization):
    found = diff.compare(*engines(directory, quantization=quantization), requests())
    assert found.difference is None
    assert found.num_tokens == sum(map(len, PROMPTS)) + 3 * len(PROMPTS)
    assert found.num_steps == 4
    assert found.num_values > found.num_tokens * 2 * (9 * 48 + 4 * 32)


def test_both_engines_show_the_same_operations_in_the_same_order(directory, mixture):
    for model, feed_forward in ((directory, ["mlp"]), (mixture, ["router", "experts"])):
        shown = []
        for engine in engines(model):
            engine.add(requests()[0])
            results = diff.Recorder(engine).step()
            shown.append([(result.layer, result.operation, result.rows.shape) for result in results])
        assert shown[0] == shown[1]
        layer = ["attention norm", "query", "key", "value", "rotated query", "rotated key", "cached keys",
                 "cached values", "attention", "output", "after attention", "mlp norm", *feed_forward,
                 "after mlp"]  # fmt: skip
        sampling = ["sampled token", "log-probability", "likeliest tokens", "their log-probabilities"]
        names = ["schedule", "embedding", *layer, *layer, "norm", "logits", *sampling, "text", "finish_reason", "error"]
        assert [name for _, name, _ in shown[0]] == names


# The first step prefills prompts of 5, 3 and 20 tokens, 28 rows; a later one decodes a token of each request.
FAULTS = [  # step, layer, operation, row, element -> request, position
    (0, None, "embedding", 0, 0, 0, 0),
    (0, 0, "attention norm", 6, 47, 1, 1),
    (0, 0, "query", 27, 63, 2, 19),
    (0, 1, "key", 4, 31, 0, 4),
    (1, 0, "value", 1, 5, 1, 3),
    (2, 1, "rotated query", 2, 17, 2, 21),
    (0, 0, "rotated key", 9, 30, 2, 1),
    (3, 1, "attention", 0, 8, 0, 7),
    (0, 1, "output", 7, 1, 1, 2),
    (2, 0, "after attention", 1, 33, 1, 4),
    (1, 1, "mlp norm", 2, 11, 2, 20),
    (0, 0, "mlp", 27, 0, 2, 19),
    (3, 1, "after mlp", 2, 47, 2, 22),
    (0, None, "norm", 1, 9, 1, 2),
    (2, None, "logits", 0, 95, 0, 6),
]


@pytest.mark.parametrize(("step", "layer", "operation", "row", "element", "request_", "position"), FAULTS)
@pytest.mark.parametrize("bit", [0, 31])
def test_a_flipped_bit_is_found_where_it_is(directory, step, layer, operation, row, element, request_, position, bit):
    reference, fast = engines(directory)
    fast.executor.model = Faulty(fast.model, step, layer, operation, row, element, bit)
    found = diff.compare(reference, fast, requests())
    assert address(found.difference) == (request_, position, layer, operation, element)
    assert bits_apart(found.difference.values) == 1
    assert found.num_steps == step + 1


@pytest.mark.parametrize(("operation", "element"), [("router", 3), ("experts", 40)])
def test_so_is_one_in_a_mixture_of_experts(mixture, operation, element):
    assert diff.compare(*engines(mixture), requests()).difference is None
    reference, fast = engines(mixture)
    fast.executor.model = Faulty(fast.model, 1, 1, operation, 2, element)
    assert address(diff.compare(reference, fast, requests()).difference) == (2, 20, 1, operation, element)


def test_a_fault_of_the_reference_is_found_alike(directory):
    reference, fast = engines(directory)
    reference.executor.model = Faulty(reference.model, 1, 0, "rotated key", 1, 12)
    assert address(diff.compare(reference, fast, requests()).difference) == (1, 3, 0, "rotated key", 12)


WEIGHTS = [  # one weight's place, and the first result that hangs on it
    ("model.embed_tokens.weight", (21, 3), (1, 1, None, "embedding", 3)),
    ("model.layers.1.input_layernorm.weight", (40,), (0, 0, 1, "attention norm", 40)),
    ("model.layers.0.self_attn.q_proj.weight", (63, 47), (0, 0, 0, "query", 63)),
    ("model.layers.0.self_attn.k_proj.weight", (31, 0), (0, 0, 0, "key", 31)),
    ("model.layers.1.self_attn.v_proj.weight", (2, 13), (0, 0, 1, "value", 2)),
    ("model.layers.1.self_attn.o_proj.weight", (17, 60), (0, 0, 1, "output", 17)),
    ("model.layers.0.mlp.down_proj.weight", (47, 79), (0, 0, 0, "mlp", 47)),
    ("model.norm.weight", (5,), (0, 4, None, "norm", 5)),
]


@pytest.mark.parametrize(("name", "at", "expected"), WEIGHTS)
def test_a_flipped_bit_of_a_weight_shows_first_where_it_is_used(directory, tmp_path, name, at, expected):
    tensors = random_tensors(SMALL, seed=0, scale=0.3)
    tensors[name].view(np.uint32)[at] ^= np.uint32(1 << 22)
    (tmp_path / "config.json").write_text((directory / "config.json").read_text())
    write_safetensors(tmp_path / "model.safetensors", tensors, "BF16")
    found = diff.compare(*engines(directory, tmp_path), requests())
    assert address(found.difference) == expected


@pytest.mark.parametrize("part", ["keys", "values"])
@pytest.mark.parametrize("layer", [0, 1])
def test_a_flipped_bit_in_the_cache_is_found_before_it_is_used(directory, part, layer):
    reference, fast = engines(directory)
    model = fast.model

    class Worn:
        """A model over a cache that loses a bit before the third step."""

        config, num_steps, watch = model.config, 0, None

        def forward(self, chunks, cache):
            model.watch = self.watch
            self.num_steps += 1
            if self.num_steps == 3:  # position 17 of the third request: its second page, row 1; key-value head 1
                cells = getattr(cache, part)[layer, chunks[2].pages[1], 1]
                cells = cells[9] if part == "keys" else cells[:, 9]
                cells.view(np.uint32)[1] ^= np.uint32(1)
            return model.forward(chunks, cache)

    fast.executor.model = Worn()
    found = diff.compare(reference, fast, requests())
    assert address(found.difference) == (2, 17, layer, f"cached {part}", 16 + 9)
    assert found.num_steps == 3


def test_a_fault_of_sampling_and_of_the_end_has_its_name(directory):
    reference, fast = engines(directory)
    sample = fast.parts.sample

    def worn(logits, sampling, *, position, **history):
        drawn = sample(logits, sampling, position=position, **history)
        if position != 6:
            return drawn
        return type(drawn)(token_id=(drawn.token_id + 1) % 96, logprob=drawn.logprob, top=drawn.top)

    fast.parts = replace(fast.parts, sample=worn)
    found = diff.compare(reference, fast, requests())
    assert address(found.difference) == (0, 6, None, "sampled token", 0)
    reference, fast = engines(directory)
    fast.context_size = 22  # the context leaves two tokens for the third request
    found = diff.compare(reference, fast, requests())
    assert address(found.difference) == (2, 21, None, "finish_reason", 0)
    assert found.difference.values[0] == "None"


def command(*words):
    return subprocess.run(
        [sys.executable, "-m", "verbatim", "diff", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_command_says_how_much_it_compared(tmp_path):
    directory = write_chat_model(tmp_path)
    for words in (["--ids", "1,2,3", "4,5"], ["--prompt", "Hello there", "--temperature", "0"]):
        done = command("--model", directory, *words, "--max-tokens", "3")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("nothing differs: ")
        assert "in 3 steps are the same to the last bit" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ids", "1,96"], "token id 96 is not below the vocabulary's size, 96"),
        (["--ids", "1", "--max-tokens", "0"], "max_tokens must be at least 1, not 0"),
        (["--ids", ",".join(["1"] * 300)], "the prompt has 300 tokens, but the context holds 256"),
        (["--ids", "1", "--temperature", "103"], "temperature must be at most 100, not 103.0"),
        (["--prompt", "Hello"], "has no tokenizer"),
        (["--ids", "1", "--quantization", "w2"], "quantization 'w2' is not supported"),
    ],
)
def test_a_mistake_is_one_clear_line(directory, words, message):
    done = command("--model", directory, *words)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_narrower_pages_are_compared_too(directory):
    done = command("--model", directory, "--ids", "5,6,7", "8,9", "--max-tokens", "3", "--kv-cache-dtype", "float16")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing differs" in done.stdout


def test_the_command_names_a_difference_and_ends_with_1(directory, monkeypatch, capsys):
    load = diff.load

    def worn(engine_backend, *arguments, **settings):
        engine = load(engine_backend, *arguments, **settings)
        if engine_backend is backend:
            engine.executor.model = Faulty(engine.model, 1, 1, "output", 1, 30)
        return engine

    monkeypatch.setattr(diff, "load", worn)
    assert main(["diff", "--model", str(directory), "--ids", "5,6,7", "8,9", "--max-tokens", "3"]) == 1
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()[1:]}
    assert lines["request"] == "1"
    assert lines["token"].startswith("position 2, id ")
    assert (lines["layer"], lines["operation"], lines["element"]) == ("1", "output", "30")
    assert bits_apart((lines["reference"], lines["fastpath"])) == 1
