"""Gemma 3n and 4: keys of other layers and heads of two shapes in the cache, and what is computed beside attention."""

import json
import shutil
from statistics import NormalDist

import numpy as np
import pytest

from answers_in_turn import answers_in_turn
from family_models import published, write_family
from verbatim.demo import MODEL
from verbatim.fastpath.gpu.support import missing
from verbatim.reference import backend as reference
from verbatim.reference.checkpoint.families import load_config, read_config
from verbatim.reference.checkpoint.lora.modules import modules_of
from verbatim.reference.numerics.arithmetic import above_cutoff
from verbatim.reference.numerics.normal import normal_quantile
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.sequence import Chunk
from verbatim.server.engine.memory import estimate
from verbatim.server.settings.options import Options

IDS = np.random.default_rng(5).integers(0, 96, 80).tolist()
STEM = "model.language_model."
NAMES = ("gemma4", "gemma4, experts", "gemma3n")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_family(tmp_path_factory.mktemp("gemma4"), "gemma4", stem=STEM)


def test_layers_that_share_keys_store_none(backend, directory):
    """Of five layers two store: 2 heads of 16 with a window, 2 heads of 32 without; as much as is estimated."""
    config = load_config(directory)
    assert [layer.keys_of for layer in config.layers] == [None, None, 0, 1, 1]
    assert [config.heads_of(i) for i in range(5)] == [(2, 16), (2, 32), (2, 16), (2, 32), (2, 32)]
    cache = backend.PARTS.PagedCache(config, 7, "bfloat16")
    assert cache.keys.nbytes == 7 * 16 * 2 * 2 * 16
    assert cache.export_pages([1, 2]).shape == (2, 2 * 16 * 2 * (16 + 32))
    assert estimate(Options(model=directory, kv_cache_dtype="bfloat16"), config, 1, 1).token == 2 * 2 * 2 * (16 + 32)
    with pytest.raises(ValueError, match="1 pages of this cache are"):
        cache.import_pages([cache.allocate()], np.zeros((1, 2, 5, 16, 2, 16), np.uint16))


def test_pages_move_between_engines_and_are_copied(backend, directory):
    made = []
    for other in (reference, backend):
        model, cache = other.load_model(directory), other.PARTS.PagedCache(load_config(directory), 12)
        pages = [cache.allocate() for _ in range(3)]
        model.forward([Chunk(token_ids=tuple(IDS[:37]), start=0, pages=tuple(pages), num_logits=1)], cache)
        made.append((model, cache, pages, cache.export_pages(pages)))
    assert made[0][3].tobytes() == made[1][3].tobytes()
    model, cache, pages, data = made[1]
    moved = [cache.allocate() for _ in range(3)]
    cache.import_pages(moved, made[0][3])
    own = cache.fork(moved, 37, 48)
    np.testing.assert_array_equal(cache.export_pages(own), data)
    assert [model.config.places_in_cache(layer)[0] for layer in range(5)] == [0, 1, 0, 1, 1]
    assert [cache.read(layer, own, 37)[1].shape for layer in (0, 1)] == [(37, 2, 16), (37, 2, 32)]
    found = [
        np.array(model.forward([Chunk(token_ids=(5,), start=37, pages=tuple(held))], cache)) for held in (pages, own)
    ]
    np.testing.assert_array_equal(*found)


def test_a_cache_of_other_heads_is_refused(backend, directory, tmp_path):
    other = load_config(write_family(tmp_path, "gemma4, experts", stem=STEM))
    words = "broadcast" if backend is reference else "the cache was made for another model"
    with pytest.raises(ValueError, match=words):
        backend.load_model(directory).forward(
            [Chunk(token_ids=(1,), start=0, pages=(0,))], backend.PARTS.PagedCache(other, 2)
        )


LIMITS = {
    "whole": {},
    "chunks": {"prefill_chunk_size": 24},
    "few pages": {"prefill_chunk_size": 24, "max_total_seq_length": 208, "prefix_cache_mode": "disable"},
    "prompt look-up": {"speculative_mode": "ngram", "spec_draft_length": 3},
}


def served(directory, name):
    """A model with the demo's vocabulary, for an engine."""
    vocab_size = json.loads((MODEL / "config.json").read_text())["vocab_size"]
    sizes = {"vocab_size": vocab_size, "vocab_size_per_layer_input": vocab_size, "eos_token_id": None}
    text = published(name)["text_config"] | sizes
    write_family(directory, name, dtype="BF16", stem=STEM, text_config=text, eos_token_id=None)
    shutil.copy(MODEL / "tokenizer.model", directory)
    shutil.copy(MODEL / "tokenizer_config.json", directory)
    return directory


def answers(backend, directory, limits):
    return answers_in_turn(backend.load_engine(directory, limits=EngineLimits(**limits)))


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_does_not_depend_on_chunks_pages_the_prefix_cache_or_drafts(backend, tmp_path, name):
    directory = served(tmp_path, name)
    expected = answers(reference, directory, {"prefix_cache_mode": "disable"})
    assert [len(rows) for rows in expected.values()] == [12] * 4
    for cut, limits in LIMITS.items():
        found = answers(backend, directory, limits)
        assert repr(sorted(found.items())) == repr(sorted(expected.items())), cut


def test_quantiles_are_those_of_the_normal_distribution():
    for share in (0.01, 0.3, 0.5, 0.9, 0.95, 0.999):
        assert normal_quantile(share) == pytest.approx(NormalDist().inv_cdf(share), rel=1e-13, abs=1e-15)


def test_a_sparse_gate_keeps_what_lies_far_above_its_mean():
    gate = np.random.default_rng(3).standard_normal((5, 700)).astype(np.float32)
    found = above_cutoff(gate, normal_quantile(0.9))
    wide = gate.astype(np.float64)
    bound = wide.mean(axis=1, keepdims=True) + NormalDist().inv_cdf(0.9) * wide.std(axis=1, keepdims=True)
    np.testing.assert_allclose(found, np.maximum(wide - bound, 0), atol=2e-6)
    assert 0.05 < (found > 0).mean() < 0.15


def test_both_spellings_of_heads_mean_the_same():
    raw = {
        "model_type": "gemma4_text", "vocab_size": 96, "hidden_size": 48, "intermediate_size": 80,
        "num_hidden_layers": 12, "num_attention_heads": 4, "attention_k_eq_v": True,
    }  # fmt: skip
    older = raw | {"global_head_dim": 64, "num_global_key_value_heads": 1}
    listed = raw | {"per_layer_config": {f"{i:02}": {"head_dim": 64, "num_key_value_heads": 1} for i in (5, 11)}}
    assert read_config(older, {}) == read_config(listed, {})
    rope = read_config(listed, {}).layers[5].rope
    assert (rope.rotary_dim, rope.scaling.num_frequencies) == (64, 8)


def test_adapters_change_what_layers_have(directory):
    found = {name: (module.sizes, module.num_inputs) for name, module in modules_of(load_config(directory)).items()}
    keys = [name for name in found if "k_proj" in name or "v_proj" in name]
    assert keys == [f"layers.{layer}.self_attn.{part}_proj" for layer in (0, 1) for part in "kv"]
    assert found["layers.1.self_attn.q_proj"] == ((128,), 48)
    assert found["layers.2.mlp.down_proj"] == ((48,), 160)


def test_the_gpu_path_names_what_it_lacks(directory, tmp_path):
    assert missing(load_config(directory)) == [
        "heads of another shape in some layers", "keys and values of other layers", "norms of values",
        "inputs of layers",
    ]  # fmt: skip
    experts = missing(load_config(write_family(tmp_path / "experts", "gemma4, experts", stem=STEM)))
    assert experts[-1] == "experts beside a dense network"
    assert "several streams" in missing(load_config(write_family(tmp_path / "streams", "gemma3n", stem=STEM)))
