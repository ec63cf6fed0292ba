"""Packed weights in a file: the bits of those packed in memory, made once, and never those of other weights."""

import json
import logging
import os

import numpy as np
import pytest

from small_models import write_chat_model
from verbatim.fastpath import backend
from verbatim.fastpath.machine.memory import HugePages
from verbatim.fastpath.model import model_lib
from verbatim.reference.backend import load_engine as load_reference
from verbatim.reference.commands.quantize import quantize_directory
from verbatim.reference.records.errors import BackendError, ModelError
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams
from verbatim.server.engine.weight_watch import WeightWatch, sealed_weights

WHOLE = "model.safetensors"
MODELS = {
    "tied": {"tie_word_embeddings": True, "dtype": "BF16"},
    "biases": {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True, "dtype": "F16"},
    "shards": {"tie_word_embeddings": False, "shards": 3},
}


def words(directory, **settings):
    """The log-probability entries of the first four tokens, to the bit."""
    engine = backend.load_engine(directory, **settings)
    sampling, stopping = SamplingParams(temperature=0, logprobs=5), StoppingParams(max_tokens=4, ignore_eos=True)
    engine.add(Request(request_id="a", prompt_ids=tuple(range(300, 350)), sampling=sampling, stopping=stopping))
    outputs = []
    while engine.has_work():
        outputs += engine.step()
    return [entry for output in outputs for entry in output.logprobs]


def spoil(directory, name):
    """Overwrite a matrix with NaN without a change of the file's size and time."""
    path = directory / WHOLE
    content, times = bytearray(path.read_bytes()), path.stat()
    start = 8 + int.from_bytes(content[:8], "little")
    begin, end = json.loads(content[8:start])[name]["data_offsets"]
    content[start + begin : start + end] = b"\xff" * (end - begin)
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("quantization", [None, "w8a8", "w4a8"])
@pytest.mark.parametrize("name", MODELS)
def test_a_library_gives_the_bits_of_packing_in_memory(tmp_path, monkeypatch, name, quantization):
    monkeypatch.setattr(model_lib, "PART_NUMBERS", 10_000)  # a few strips at a time
    directory, file = write_chat_model(tmp_path / "model", **MODELS[name]), tmp_path / "packed.safetensors"
    expected = words(directory, quantization=quantization)
    assert words(directory, quantization=quantization, model_lib=file) == expected
    assert words(directory, quantization=quantization, model_lib=file) == expected
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [file.name], "something was left lying"


def test_a_checkpoint_of_integers_is_packed_as_well(tmp_path):
    source, directory = write_chat_model(tmp_path / "float"), tmp_path / "integers"
    quantize_directory(source, directory, "w4a8")
    expected = words(source, quantization="w4a8")
    for _ in range(2):
        assert words(directory, model_lib=tmp_path / "packed") == expected


def test_with_a_library_the_matrices_are_not_read_again(tmp_path):
    directory, file = write_chat_model(tmp_path / "model", dtype="BF16"), tmp_path / "packed.safetensors"
    name = "model.layers.0.mlp.up_proj.weight"
    expected = words(directory, quantization="w8a8", model_lib=file)
    spoil(directory, name)
    assert words(directory, quantization="w8a8", model_lib=file) == expected
    with pytest.raises(ModelError, match=f"{name} holds NaN"):
        words(directory, quantization="w8a8")
    lib = model_lib.open_model_lib(directory, "w8a8", file)
    assert lib.is_complete
    assert lib.find(name, HugePages()).ctypes.data % 64 == 0


def test_a_library_of_other_weights_is_not_used(tmp_path):
    directory, file = write_chat_model(tmp_path / "model"), tmp_path / "packed.safetensors"
    words(directory, model_lib=file)
    with pytest.raises(ModelError, match=r"packed\.safetensors does not hold these weights in this format"):
        words(directory, quantization="w4a8", model_lib=file)
    write_chat_model(directory, seed=1)
    with pytest.raises(ModelError, match="remove it, or name another file"):
        words(directory, model_lib=file)


def test_a_damaged_library_is_refused_by_name(tmp_path):
    directory, file = write_chat_model(tmp_path / "model"), tmp_path / "packed.safetensors"
    words(directory, model_lib=file)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"packed\.safetensors is truncated"):
        words(directory, model_lib=file)
    with pytest.raises(ModelError, match="cannot be written to"):
        words(directory, model_lib=directory / WHOLE / "packed.safetensors")


def test_large_models_have_one_in_the_cache(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    directory = write_chat_model(tmp_path / "model")
    expected = words(directory)
    assert not (tmp_path / "cache").exists(), "a small model needs none"
    monkeypatch.setattr(model_lib, "LEAST_BYTES", 1000)
    assert words(directory) == expected
    (made,) = model_lib.cache_folder().iterdir()
    time = made.stat().st_mtime_ns
    assert words(directory) == expected
    assert made.stat().st_mtime_ns == time, "it was made again"
    made.write_bytes(made.read_bytes()[:5000])
    assert words(directory) == expected
    assert made.stat().st_mtime_ns != time, "a damaged one is made anew"
    write_chat_model(directory, seed=1)
    assert words(directory) != expected
    assert len(list(model_lib.cache_folder().iterdir())) == 2
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    write_chat_model(directory)
    with caplog.at_level(logging.WARNING, "verbatim"):
        assert words(directory) == expected
    assert "they stay in memory" in caplog.text


def test_the_reference_refuses_the_option(tmp_path):
    directory = write_chat_model(tmp_path / "model")
    with pytest.raises(BackendError, match="has no --model-lib"):
        load_reference(directory, model_lib=tmp_path / "packed")


def flip(file, place):
    """Change one bit of a file."""
    content = bytearray(file.read_bytes())
    content[place] ^= 4
    file.write_bytes(content)


def test_a_flipped_bit_is_named_or_packed_anew(tmp_path, monkeypatch, caplog):
    directory, file = write_chat_model(tmp_path / "model", dtype="BF16"), tmp_path / "packed.safetensors"
    expected = words(directory, model_lib=file)
    flip(file, file.stat().st_size // 2)
    with pytest.raises(ModelError, match=r"packed\.safetensors is damaged: model\.\S+ has other bits than were packed"):
        words(directory, model_lib=file)
    (damaged,) = model_lib.open_model_lib(directory, None, file).check()
    assert damaged.startswith("model.")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(model_lib, "LEAST_BYTES", 1000)
    assert words(directory) == expected
    (made,) = model_lib.cache_folder().iterdir()
    for place in (made.stat().st_size // 2, 30, 300, 900):  # a matrix, and the header
        flip(made, place)
        with caplog.at_level(logging.WARNING, "verbatim"):
            assert words(directory) == expected, place
        assert model_lib.open_model_lib(directory, None).check() == []
    assert "it is packed anew now" in caplog.text


def test_packed_weights_are_watched_in_memory(tmp_path):
    engine = backend.load_engine(write_chat_model(tmp_path / "model"))
    seals, found = sealed_weights(engine), []
    assert len(seals) == 15 and len({seal.name for seal in seals}) == 15, "seven matrices a layer, and the head"
    seals[3].array.view(np.uint8).reshape(-1)[777] ^= 1
    watch = WeightWatch(seals, round_seconds=0.01, end=found.append)
    watch.start()
    watch.join(60)
    assert found == [seals[3].name]
