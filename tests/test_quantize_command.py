"""A quantised checkpoint on disk: the bits of quantising while loading, finished after a kill, nothing overwritten."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from small_models import write_chat_model, write_model
from verbatim.reference.checkpoint.weights import load_shards
from verbatim.reference.commands import quantize as reference_quantize
from verbatim.reference.commands.quantize import quantize_directory
from verbatim.reference.numerics.quantization import FORMATS
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Request, StoppingParams
from verbatim.reference.records.sequence import Chunk

MODELS = {
    "tied": {},
    "three shards, own head, biases": {
        "shards": 3, "dtype": "BF16", "tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True,
    },
    "odd sizes, tied in shards": {
        "shards": 2, "dtype": "F16", "hidden_size": 40, "vocab_size": 51, "intermediate_size": 17,
    },
}  # fmt: skip


def logits(backend, directory, quantization=None):
    model = backend.load_model(directory, quantization=quantization)
    cache = backend.PARTS.PagedCache(model.config, 4)
    chunk = Chunk(token_ids=tuple(range(1, 40)), start=0, pages=tuple(range(4)), num_logits=39)
    return np.array(model.forward([chunk], cache)).view(np.uint32)


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("quantization", FORMATS)
@pytest.mark.parametrize("name", MODELS)
def test_the_bits_of_quantising_while_loading(backend, tmp_path, name, quantization):
    source, target = write_model(tmp_path / "float", **MODELS[name]), tmp_path / "integers"
    quantize_directory(source, target, quantization)
    expected = logits(backend, source, quantization)
    np.testing.assert_array_equal(logits(backend, target), expected)
    np.testing.assert_array_equal(logits(backend, target, quantization), expected)
    other = next(name for name in FORMATS if name != quantization)
    with pytest.raises(ModelError, match=f"stored as {quantization} and cannot be made into {other}"):
        backend.load_model(target, quantization=other)


def test_a_draft_keeps_the_format_that_it_is_stored_in(backend, tmp_path):
    model, draft = write_chat_model(tmp_path / "model"), tmp_path / "draft"
    quantize_directory(model, draft, "w8a8")
    limits = EngineLimits(speculative_mode="small_draft")
    engine = backend.load_engine(model, quantization="w4a8", limits=limits, draft_directory=draft)
    engine.add(Request(request_id="1", prompt_ids=(1, 2, 3), stopping=StoppingParams(max_tokens=5, ignore_eos=True)))
    assert sum(len(output.token_ids) for _ in range(9) for output in engine.step()) == 5


def test_the_files_of_the_directory(tmp_path):
    source, target = write_chat_model(tmp_path / "float", dtype="BF16"), tmp_path / "new" / "integers"
    (source / "generation_config.json").write_text('{"eos_token_id": 5}')
    (source / "notes.txt").write_text("stays where it is")
    quantize_directory(source, target, "w4a8")
    config = json.loads((target / "config.json").read_text())
    assert config.pop("quantization") == {"format": "w4a8", "version": 1}
    assert config == json.loads((source / "config.json").read_text())
    copied = {"tokenizer.model", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"}
    assert set(contents(target)) == copied | {"config.json", "model.safetensors"}
    assert all(contents(target)[name] == contents(source)[name] for name in copied)
    tensors = load_shards(target)["model.safetensors"]
    dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
    assert dtypes["model.embed_tokens.weight"] == dtypes["model.norm.weight"] == "BF16"
    assert dtypes["lm_head.weight"] == dtypes["model.layers.1.mlp.up_proj.weight"] == "U8"
    assert dtypes["lm_head.weight_scales"] == "F16"
    assert all(tensor.bits.flags.aligned for tensor in tensors.values())


def test_a_damaged_quantised_checkpoint_is_refused(backend, tmp_path):
    source, target = write_model(tmp_path / "float"), tmp_path / "integers"
    quantize_directory(source, target, "w8a8")
    config = json.loads((target / "config.json").read_text())
    for entry, words in (
        ({"format": "w4a8", "version": 1}, r"_proj\.weight is stored as I8, not as U8"),
        ({"format": "w8a8", "version": 2}, "'version': 2} is not supported"),
        ({"group_size": 64, "bits": 4}, "'bits': 4} is not supported"),
        (None, r"_proj\.weight is stored as I8, not as F32 or F16 or BF16"),
    ):
        (target / "config.json").write_text(json.dumps(config | {"quantization": entry}))
        with pytest.raises(ModelError, match=words):
            backend.load_model(target)


def break_off(monkeypatch, source, target, quantization, num_matrices):
    """Quantise until so many matrices are done; returns whether the run was interrupted."""

    def breaks(*arguments):
        nonlocal num_matrices
        if num_matrices == 0:
            raise KeyboardInterrupt
        num_matrices -= 1
        return genuine(*arguments)

    genuine = reference_quantize.quantize
    with monkeypatch.context() as patch:
        patch.setattr(reference_quantize, "quantize", breaks)
        try:
            quantize_directory(source, target, quantization)
        except KeyboardInterrupt:
            return True
    return False


@pytest.mark.parametrize("quantization", FORMATS)
def test_an_interrupted_run_is_resumed(monkeypatch, tmp_path, quantization):
    source = write_model(tmp_path / "float", shards=2)
    quantize_directory(source, tmp_path / "whole", quantization)
    expected, num_matrices = contents(tmp_path / "whole"), 0
    while break_off(monkeypatch, source, tmp_path / str(num_matrices), quantization, num_matrices):
        target = tmp_path / str(num_matrices)
        assert not (target / "config.json").exists()
        for unfinished in target.glob("*.partial"):  # as if the run had been killed while it wrote a tensor
            unfinished.write_bytes(unfinished.read_bytes()[: -1 - 50 * num_matrices])
        quantize_directory(source, target, quantization)
        assert contents(target) == expected
        num_matrices += 1
    assert num_matrices == 15


def test_a_killed_run_is_resumed(tmp_path):
    source, target = write_model(tmp_path / "float"), tmp_path / "integers"
    quantize_directory(source, tmp_path / "whole", "w4a8")
    killed = (
        "import os, signal, sys, verbatim.reference.commands.quantize as module\n"
        "made, genuine = [], module.quantize\n"
        "module.quantize = lambda *a: made.append(a) or (os.kill(os.getpid(), signal.SIGKILL)"
        " if len(made) == 6 else genuine(*a))\n"
        "from verbatim.cli.main import main; main(['quantize', *sys.argv[1:]])"
    )
    words = [str(source), str(target), "--format", "w4a8"]
    assert subprocess.run([sys.executable, "-c", killed, *words], capture_output=True).returncode == -9
    size = (target / "model.safetensors.partial").stat().st_size
    assert 0 < size < (tmp_path / "whole" / "model.safetensors").stat().st_size
    done = subprocess.run([sys.executable, "-m", "verbatim", "quantize", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert contents(target) == contents(tmp_path / "whole")


def test_refusals_are_one_clear_line(tmp_path):
    source = write_model(tmp_path / "float")
    quantize_directory(source, tmp_path / "done", "w4a8")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    for words, message in (
        ((source, tmp_path / "new", "int3"), "quantization 'int3' is not supported; supported: w8a8, w4a8"),
        ((tmp_path / "done", tmp_path / "new", "w8a8"), "is quantised already"),
        ((source, tmp_path / "other", "w4a8"), "exists and is no unfinished work"),
        ((source, tmp_path / "done", "w4a8"), "exists and is no unfinished work"),
        ((source, source, "w4a8"), "exists and is no unfinished work"),
        ((tmp_path / "nothing", tmp_path / "new", "w4a8"), "nothing does not exist"),
    ):
        command = [
            sys.executable,
            "-m",
            "verbatim",
            "quantize",
            words[0],
            words[1],
            "--format",
            words[2],
        ]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert done.returncode == 1
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    assert contents(tmp_path / "other") == {"letter.txt": b"dear"}
    assert not (tmp_path / "new").exists()


def test_an_unfinished_run_of_another_model_is_not_resumed(monkeypatch, tmp_path):
    source, target = write_model(tmp_path / "float"), tmp_path / "integers"
    assert break_off(monkeypatch, source, target, "w4a8", 3)
    with pytest.raises(ModelError, match="unfinished work of another format or checkpoint"):
        quantize_directory(source, target, "w8a8")
    write_model(source, seed=1)
    with pytest.raises(ModelError, match="unfinished work of another format or checkpoint"):
        quantize_directory(source, target, "w4a8")
    shutil.rmtree(target)
    quantize_directory(source, target, "w4a8")
