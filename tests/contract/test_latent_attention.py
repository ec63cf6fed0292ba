"""Latent attention (N8a) and DeepSeek's choice of experts (N9): the textbook's results, engines, pages, checkpoints."""

import json
import shutil

import numpy as np
import pytest

from answers_in_turn import answers_in_turn
from family_models import LATENT, write_family
from quantized_models import awq, float8, quantize_directory
from small_models import logits_of, write_safetensors
from verbatim.demo import MODEL
from verbatim.fastpath.gpu.support import missing
from verbatim.reference import backend as reference
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.checkpoint.lora.modules import modules_of
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.checkpoint.weights import load_weights
from verbatim.reference.model.experts import expert_weights
from verbatim.reference.records.experts import Experts
from verbatim.reference.records.limits import KV_CACHE_DTYPES, EngineLimits
from verbatim.reference.records.sequence import Chunk
from verbatim.server.engine.memory import estimate
from verbatim.server.settings.options import Options

IDS = np.random.default_rng(5).integers(0, 96, 80).tolist()
FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [16, 16]}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_family(tmp_path_factory.mktemp("deepseek_v3"), "deepseek_v3")


def experts(**changes):
    sizes = {"num_experts": 12, "num_per_token": 3, "intermediate_size": 8, "is_normalized": True}
    return Experts(**sizes | changes)


def chosen_by_hand(choice, group_scores, settings):
    """The ids that sorting gives, group by group."""
    size = settings.num_experts // settings.num_groups
    groups = sorted(range(settings.num_groups), key=lambda g: (-group_scores[g], g))[: settings.num_groups_per_token]
    ids = [g * size + i for g in groups for i in range(size)]
    return sorted(sorted(ids, key=lambda i: (-choice[i], i))[: settings.num_per_token])


@pytest.mark.parametrize("is_normalized", [True, False])
@pytest.mark.parametrize("routing", ["softmax", "sigmoid"])
def test_experts_are_chosen_in_the_best_groups(routing, is_normalized):
    random = np.random.default_rng(3)
    settings = experts(routing=routing, num_groups=4, num_groups_per_token=2, scale=2.5, is_normalized=is_normalized)
    scores, bias = np.round(random.standard_normal((200, 12)), 1).astype(np.float32), random.standard_normal(12)
    bias = np.round(bias, 1).astype(np.float32)  # with ties
    found = expert_weights(scores, settings, bias if routing == "sigmoid" else None)
    for row, weights in zip(scores.astype(np.float64), found, strict=True):
        shares = 1 / (1 + np.exp(-row)) if routing == "sigmoid" else np.exp(row) / np.exp(row).sum()
        choice = shares.astype(np.float32) + bias if routing == "sigmoid" else row
        groups = np.sort(choice.reshape(4, 3), axis=1)
        ids = chosen_by_hand(choice, groups[:, -1] + (groups[:, -2] if routing == "sigmoid" else 0), settings)
        assert np.flatnonzero(weights).tolist() == ids
        expected = 2.5 * shares[ids] / (shares[ids].sum() if is_normalized else 1)
        np.testing.assert_allclose(weights[ids], expected, rtol=1e-6)


def test_weights_of_nothing_are_no_number_s_share():
    weights = expert_weights(np.full((1, 12), -1e30, np.float32), experts(routing="sigmoid"), None)
    assert np.isfinite(weights).all()


def test_a_page_holds_a_latent_and_a_rotated_part(backend, directory):
    """40 numbers of a latent and 8 rotated ones in each of 3 layers, in the memory that is estimated."""
    config = load_config(directory)
    for dtype, size in (("float32", 4), ("bfloat16", 2)):
        cache = backend.PARTS.PagedCache(config, 7, dtype)
        assert cache.keys.nbytes == 7 * 16 * size * 3 * 48
        needs = estimate(Options(model=directory, kv_cache_dtype=dtype), config, 1, 1)
        assert needs.token == size * 3 * 48
    pages = [cache.allocate() for _ in range(2)]
    assert cache.export_pages(pages).shape == (2, 1, 3, 16, 1, 48)
    with pytest.raises(ValueError, match="2 pages of this cache are"):
        cache.import_pages(pages, np.zeros((2, 2, 3, 16, 1, 48), np.uint16))


@pytest.mark.parametrize("dtype", KV_CACHE_DTYPES)
def test_pages_move_between_engines_and_are_copied(backend, directory, dtype):
    made = []
    for other in (reference, backend):
        model, cache = other.load_model(directory), other.PARTS.PagedCache(load_config(directory), 12, dtype)
        pages = [cache.allocate() for _ in range(3)]
        model.forward([Chunk(token_ids=tuple(IDS[:37]), start=0, pages=tuple(pages), num_logits=1)], cache)
        made.append((model, cache, pages, cache.export_pages(pages)))
    assert made[0][3].tobytes() == made[1][3].tobytes()
    model, cache, pages, data = made[1]
    moved = [cache.allocate() for _ in range(3)]
    cache.import_pages(moved, made[0][3])
    own = cache.fork(moved, 37, 48)
    np.testing.assert_array_equal(cache.export_pages(own), data)
    keys, values = cache.read(1, own, 37)
    np.testing.assert_array_equal(keys[..., 8:], values)
    found = [
        np.array(model.forward([Chunk(token_ids=(5,), start=37, pages=tuple(held))], cache)) for held in (pages, own)
    ]
    np.testing.assert_array_equal(*found)


def test_layers_of_multi_token_prediction_are_left_aside(backend, directory, tmp_path):
    assert json.loads((directory / "config.json").read_text())["num_nextn_predict_layers"] == 1
    shutil.copy(directory / "config.json", tmp_path)
    tensors = {name: tensor.bits for name, tensor in open_source(directory).tensors().items()}
    further = {name.replace("layers.2.", "layers.3."): bits for name, bits in tensors.items() if "layers.2." in name}
    further |= {"model.layers.3.eh_proj.weight": np.ones((48, 96), np.float32)}
    write_safetensors(tmp_path / "model.safetensors", tensors | further, "F32")
    np.testing.assert_array_equal(logits_of(backend, tmp_path, IDS[:30]), logits_of(backend, directory, IDS[:30]))


def test_the_matrices_of_heads_stay_floats_and_are_not_copied(directory):
    config, weights = load_config(directory), load_weights(directory)
    layer = open_checkpoint(config, weights).layers[1]
    stored = weights._tensors["model.layers.1.self_attn.kv_b_proj.weight"].bits
    for matrix in (*layer.latent.key_up, *layer.latent.value_up):
        assert np.shares_memory(matrix.weight.bits, stored)
        assert any(matrix is known for known in layer.float_matrices())
    np.testing.assert_array_equal(layer.latent.key_up[1].weight.bits, stored[22:34].T)
    np.testing.assert_array_equal(layer.latent.value_up[1].weight.bits, stored[34:44])


@pytest.mark.parametrize("form", ["fp8", "awq"])
def test_quantised_checkpoints(backend, tmp_path, form):
    """FP8 in blocks, as DeepSeek's own, also of kv_b_proj; AWQ's kv_b_proj stands for float16 numbers."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32, "kv_lora_rank": 32}
    sizes |= {"q_lora_rank": 32, "qk_nope_head_dim": 8, "v_head_dim": 8}
    entry, encode = (FP8, float8("block", block=16)) if form == "fp8" else (AWQ, awq(32))
    directory = write_family(tmp_path / "floats", "deepseek_v3", **sizes)
    ends = ("_proj",) if form == "fp8" else ("kv_b_proj", "o_proj", "q_b_proj", "down_proj")
    quantize_directory(directory, entry, encode, ends)
    expected = logits_of(reference, directory, IDS[:40])
    found = logits_of(backend, directory, IDS[:40])
    np.testing.assert_array_equal(found, expected)
    source = open_source(directory)
    latent = open_checkpoint(source.config(), source.weights()).layers[0].latent
    whole = source.tensors()["model.layers.0.self_attn.kv_b_proj.weight"]
    assert (latent.key_up[2].weight.dtype, latent.value_up[2].weight.dtype) == (
        ("BF16",) * 2 if form == "fp8" else ("F16",) * 2
    )
    numbers = whole.float32() if form == "fp8" else whole.float32().astype(np.float16)
    np.testing.assert_array_equal(latent.key_up[2].weight.float32(), numbers[32:40].T)
    np.testing.assert_array_equal(latent.value_up[2].weight.float32(), numbers[40:48])


def test_a_library_of_packed_weights_changes_no_bit(directory, tmp_path):
    backend = pytest.importorskip("verbatim.fastpath.backend", reason="the fast path is not built")
    from verbatim.fastpath.model.model_lib import open_model_lib

    config, found = load_config(directory), []
    checkpoint = open_checkpoint(config, load_weights(directory))
    for _ in range(3):
        lib = open_model_lib(directory, "w4a8", tmp_path / "packed") if found else None
        model = backend.PARTS.Model(config, checkpoint, quantization="w4a8", model_lib=lib)
        chunk = Chunk(token_ids=tuple(IDS[:40]), start=0, pages=(0, 1, 2), num_logits=40)
        found.append(np.array(model.forward([chunk], backend.PARTS.PagedCache(config, 3))).tobytes())
    assert found[0] == found[1] == found[2]


def test_adapters_change_the_output_matrix_and_dense_networks(directory):
    found = {
        name.removeprefix("layers.0."): module.num_inputs for name, module in modules_of(load_config(directory)).items()
    }
    inputs = {"self_attn.o_proj": 40, "mlp.up_proj": 48, "mlp.down_proj": 80, "mlp.gate_proj": 48}
    assert {name: size for name, size in found.items() if not name.startswith("layers.")} == inputs


def test_the_gpu_path_names_what_it_lacks(directory):
    assert missing(load_config(directory)) == [
        "latent attention", "sigmoid routing", "groups of experts", "scaled weights of experts"
    ]  # fmt: skip


LIMITS = {
    "whole": {},
    "chunks": {"prefill_chunk_size": 24},
    "few pages": {"prefill_chunk_size": 24, "max_total_seq_length": 208, "prefix_cache_mode": "disable"},
    "prompt look-up": {"speculative_mode": "ngram", "spec_draft_length": 3},
    "draft model": {"speculative_mode": "small_draft", "spec_draft_length": 3},
    "branches of drafts": {"speculative_mode": "small_draft", "spec_draft_length": 2, "spec_tree_width": 2},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A model with the demo's vocabulary, for an engine, and one almost the same, for drafts."""
    found = []
    vocab_size = json.loads((MODEL / "config.json").read_text())["vocab_size"]
    for name, epsilon in (("model", 1e-5), ("draft", 1e-3)):
        directory = tmp_path_factory.mktemp(name)
        sizes = {"vocab_size": vocab_size, "eos_token_id": None, "rms_norm_eps": epsilon}
        write_family(directory, "deepseek_v3", dtype="BF16", **sizes)
        shutil.copy(MODEL / "tokenizer.model", directory)
        shutil.copy(MODEL / "tokenizer_config.json", directory)
        found.append(directory)
    return found


def answers(backend, served, limits, dtype):
    """Those of `answers_in_turn`, and the engine's counts."""
    draft = served[1] if limits.get("speculative_mode") == "small_draft" else None
    limits = EngineLimits(kv_cache_dtype=dtype, **limits)
    engine = backend.load_engine(served[0], limits=limits, draft_directory=draft)
    return answers_in_turn(engine), engine.stats()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_answer_does_not_depend_on_chunks_pages_the_prefix_cache_or_drafts(backend, served, dtype):
    expected, _ = answers(reference, served, {"prefix_cache_mode": "disable"}, dtype)
    assert [len(rows) for rows in expected.values()] == [12] * 4
    made = {name: answers(backend, served, limits, dtype) for name, limits in LIMITS.items()}
    for name, (found, _) in made.items():
        assert repr(sorted(found.items())) == repr(sorted(expected.items())), name
    assert made["chunks"][1]["steps"] > made["whole"][1]["steps"]
    for name in ("draft model", "branches of drafts"):
        assert 0 < made[name][1]["accepted_tokens"] < made[name][1]["drafted_tokens"], name


def test_sizes_are_those_of_deepseek_s_files(directory):
    config = load_config(directory)
    assert LATENT["kv_lora_rank"] + LATENT["qk_rope_head_dim"] == config.head_dim == 48
    assert (config.num_kv_heads, config.query_dim, config.value_dim) == (1, 20, 10)
    assert [layer.has_experts for layer in config.layers] == [False, True, True]
    assert config.attention_scale == pytest.approx(20**-0.5 * (0.1 * np.log(4) + 1) ** 2, rel=1e-14)
    assert config.layers[0].rope.scaling.attention_factor == 1
