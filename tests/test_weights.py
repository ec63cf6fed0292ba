"""Safetensors files: every dtype, shards, and every form of damage."""

import json

import numpy as np
import pytest

from small_models import SMALL, random_tensors, stored_bits, write_model, write_safetensors
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.weights import load_weights
from verbatim.reference.records.errors import ModelError

NAME = "model.embed_tokens.weight"
SHAPE = (96, 48)


def load(directory):
    return open_checkpoint(load_config(directory), load_weights(directory))


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("shards", [1, 3])
def test_values_are_widened_exactly(tmp_path, dtype, shards):
    write_model(tmp_path, dtype=dtype, shards=shards)
    stored = stored_bits(random_tensors(SMALL, seed=0, scale=0.3)[NAME], dtype)
    expected = (stored.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else stored.astype(np.float32)
    tensor = load(tmp_path).embedding
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor.float32(), expected)


def test_written_by_the_safetensors_library(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed").save_file
    write_model(tmp_path)
    tensors = random_tensors(SMALL, seed=3, scale=0.3)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    np.testing.assert_array_equal(load(tmp_path).embedding.float32(), tensors[NAME])


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_refused_by_name(tmp_path, dtype, value):
    write_model(tmp_path, dtype=dtype)
    tensors = random_tensors(SMALL, seed=0, scale=0.3)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    write_safetensors(tmp_path / "model.safetensors", tensors, dtype)
    with pytest.raises(ModelError, match=r"model\.layers\.1\.mlp\.up_proj\.weight holds NaN or infinite"):
        load(tmp_path)


def test_missing_and_misshapen_tensors_are_named(tmp_path):
    write_model(tmp_path)
    tensors = random_tensors(SMALL, seed=0, scale=0.3)
    write_safetensors(tmp_path / "model.safetensors", {n: t for n, t in tensors.items() if n != NAME}, "F32")
    with pytest.raises(ModelError, match=f"tensor {NAME} is missing"):
        load(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", tensors | {NAME: tensors[NAME].T}, "F32")
    with pytest.raises(ModelError, match=r"has shape \(48, 96\), config.json asks for \(96, 48\)"):
        load(tmp_path)


@pytest.mark.parametrize("length", [0, 5, 8, 100, -4])
def test_a_truncated_file_is_refused(tmp_path, length):
    path = write_model(tmp_path) / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:length])
    with pytest.raises(ModelError, match=r"model\.safetensors (is truncated|cannot be read)"):
        load(tmp_path)


def test_integers_are_no_floats(tmp_path):
    path = write_model(tmp_path) / "model.safetensors"
    rewrite_header(path, lambda h: h[NAME].update(dtype="I8", shape=[96, 192]))
    with pytest.raises(ModelError, match=f"tensor {NAME} is stored as I8, not as F32 or F16 or BF16"):
        load(tmp_path)
    rewrite_header(path, lambda h: h[NAME].update(dtype="U8", shape=[96, 48]))
    with pytest.raises(ModelError, match=r"18432 bytes, U8 .* needs 4608"):
        load(tmp_path)


def rewrite_header(path, change):
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    change(header)
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + content[8 + size :])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h[NAME].update(dtype="F8_E5M2"), "stored as F8_E5M2; supported: F32, F16, BF16"),
        (lambda h: h[NAME].update(shape=[96, 49]), r"needs 18816"),
        (lambda h: h[NAME].update(data_offsets=[-4, 18428]), "truncated"),
        (lambda h: h[NAME].update(data_offsets=[0, 10**12]), "truncated"),
        (lambda h: h[NAME].pop("shape"), "damaged"),
        (lambda h: h[NAME].update(shape="96x48"), "damaged"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path, change, words):
    path = write_model(tmp_path) / "model.safetensors"
    rewrite_header(path, change)
    with pytest.raises(ModelError, match=words):
        load(tmp_path)


def test_a_header_that_is_no_json_is_refused(tmp_path):
    path = write_model(tmp_path) / "model.safetensors"
    path.write_bytes((20).to_bytes(8, "little") + b"x" * 100)
    with pytest.raises(ModelError, match="damaged header"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/b", ""])
def test_an_index_cannot_lead_out_of_the_directory(tmp_path, name):
    write_model(tmp_path, shards=2)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {NAME: name}}))
    with pytest.raises(ModelError, match="not the name of a file"):
        load(tmp_path)


def test_missing_files_and_tensors_are_named(tmp_path):
    write_model(tmp_path, shards=2)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model-00002-of-00002\.safetensors does not exist"):
        load(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"no.such.tensor": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(ModelError, match=r"promises tensor no\.such\.tensor"):
        load(tmp_path)
    index.write_text("{}")
    with pytest.raises(ModelError, match="weight_map"):
        load(tmp_path)


def test_shards_without_an_index_are_read_together(tmp_path):
    write_model(tmp_path, shards=3)
    expected = load_weights(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    found = load_weights(tmp_path)
    assert found.names() == expected.names()
    np.testing.assert_array_equal(load(tmp_path).embedding.bits, expected.get(NAME, SHAPE).bits)
    first, second = (tmp_path / f"model-0000{number}-of-00003.safetensors" for number in (1, 2))
    content = second.read_bytes()
    second.unlink()
    with pytest.raises(ModelError, match=r"has 2 of 3 shards: model-00002-of-00003\.safetensors is missing"):
        load_weights(tmp_path)
    second.write_bytes(first.read_bytes())
    with pytest.raises(ModelError, match=r"tensor .* is in model-00001-of-00003\.safetensors and in model-00002-of"):
        load_weights(tmp_path)
    second.write_bytes(content)
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="has shards of several checkpoints and no model"):
        load_weights(tmp_path)


def test_a_head_of_its_own_counts_where_the_file_says_tied(tmp_path):
    """As in transformers, which then does not tie the two: a checkpoint does not store a head for nothing."""
    write_model(tmp_path, tie_word_embeddings=False)
    expected = load(tmp_path).head.weight.float32()
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | {"tie_word_embeddings": True}))
    np.testing.assert_array_equal(load(tmp_path).head.weight.float32(), expected)
    assert not np.array_equal(expected, load(tmp_path).embedding.float32())
