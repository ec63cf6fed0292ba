"""gpt-oss: MXFP4 experts as they are stored, beside the floats that they stand for, on both engines to the bit.

tests/test_families.py compares the float form with transformers, tests/contract/test_attention.py the sink scores.
"""

import json
import shutil

import numpy as np
import pytest

from family_models import SIZES, write_family
from small_models import logits_of, write_model, write_safetensors
from verbatim.demo import MODEL
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.weights import load_weights
from verbatim.reference.commands.quantize import quantize_directory
from verbatim.reference.numerics.blocks import unpack_mxfp4
from verbatim.reference.numerics.quantization import MXFP4
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams
from verbatim.server.engine.memory import estimate
from verbatim.server.settings.options import Options

IDS = np.random.default_rng(1).integers(0, SIZES["vocab_size"], 80).tolist()
QUANTIZATION = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
EXPERTS = "model.layers.0.mlp.experts."


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A directory with experts in MXFP4."""
    directory = tmp_path_factory.mktemp("gpt-oss")
    return write_family(directory, "gpt_oss", dtype="BF16", intermediate_size=96, quantization_config=QUANTIZATION)


def bits_of(directory):
    return dict(load_weights(directory)._tensors)


def floats_of(blocks, scales):
    """The weights (experts, outputs, inputs): e2m1 times 2^(exponent - 127), two to a byte, the low half first."""
    table = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    nibbles = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:-1], 32)
    values = np.where(nibbles & 8, -1, 1) * table[nibbles & 7] * np.exp2(scales[..., None].astype(float) - 127)
    return values.reshape(*values.shape[:-2], -1).astype(np.float32)


def test_engines_agree_to_the_bit_on_mxfp4(stored):
    dispatch = pytest.importorskip("verbatim.fastpath.machine.dispatch", reason="the fast path is not built")
    from verbatim.fastpath import backend as fast
    from verbatim.reference import backend as reference

    expected = logits_of(reference, stored, IDS)
    assert np.isfinite(expected).all() and np.ptp(expected) > 0.1
    chosen = dispatch.level()
    for level in dispatch.available():
        dispatch.use(level)
        found = logits_of(fast, stored, IDS)
        dispatch.use(chosen)
        np.testing.assert_array_equal(found, expected, err_msg=level)


def test_mxfp4_is_close_to_the_floats_that_it_stands_for(backend, stored, tmp_path):
    """Activations are rounded to int8 in the one case and not in the other, weights in neither."""
    tensors = bits_of(stored)
    floats = {n: t.float32() for n, t in tensors.items() if not n.endswith(("_blocks", "_scales"))}
    for name in tensors:
        if name.endswith("_blocks"):
            whole = name.removesuffix("_blocks")
            values = floats_of(tensors[name].bits, tensors[f"{whole}_scales"].bits)
            floats[whole] = np.ascontiguousarray(values.swapaxes(1, 2))  # (experts, inputs, outputs)
    config = json.loads((stored / "config.json").read_text())
    del config["quantization_config"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    write_safetensors(tmp_path / "model.safetensors", floats, "BF16")
    found, expected = logits_of(backend, stored, IDS), logits_of(backend, tmp_path, IDS)
    assert 0 < np.abs(found - expected).max() < 0.03 * np.ptp(expected)


def test_mxfp4_stands_for_what_transformers_makes_of_it(stored):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    mxfp4 = pytest.importorskip("transformers.integrations.mxfp4", reason="transformers 5 is not installed")
    tensors = bits_of(stored)
    blocks, scales = (tensors[f"{EXPERTS}down_proj_{part}"].bits for part in ("blocks", "scales"))
    theirs = mxfp4.convert_moe_packed_tensors(torch.tensor(blocks), torch.tensor(scales), dtype=torch.float32)
    ours = unpack_mxfp4(blocks[1], scales[1])
    values = (ours.integers * ours.scales[..., None]).reshape(len(blocks[1]), -1)
    np.testing.assert_array_equal(values, floats_of(blocks[1], scales[1]))
    np.testing.assert_array_equal(values, theirs[1].numpy().T)


def test_nothing_of_the_experts_is_copied_to_open_them(stored):
    config, weights = load_config(stored), load_weights(stored)
    assert config.quantization == MXFP4
    expert = open_checkpoint(config, weights).layers[0].experts[1]
    for matrix, name in ((expert.gate, "gate_up_proj"), (expert.up, "gate_up_proj"), (expert.down, "down_proj")):
        assert np.shares_memory(matrix.weight.bits, weights._tensors[f"{EXPERTS}{name}_blocks"].bits)
        assert np.shares_memory(matrix.scales.bits, weights._tensors[f"{EXPERTS}{name}_scales"].bits)
        assert matrix.format(MXFP4) == "MXFP4"


def test_the_memory_that_experts_take_is_estimated(stored):
    tensors, found = bits_of(stored), estimate(Options(model=stored), load_config(stored), 1, 1).weights
    floats = sum(t.bits.nbytes for name, t in tensors.items() if not name.endswith(("_blocks", "_scales")))
    integers = sum(t.bits.size * 2 * 9 // 8 for name, t in tensors.items() if name.endswith("_blocks"))
    assert floats + integers <= found < 1.1 * (floats + integers), "9 bits a weight"


def test_a_library_of_packed_weights_changes_no_bit(stored, tmp_path):
    backend = pytest.importorskip("verbatim.fastpath.backend", reason="the fast path is not built")
    from verbatim.fastpath.model.model_lib import open_model_lib
    from verbatim.reference.records.sequence import Chunk

    config, found = load_config(stored), []
    checkpoint = open_checkpoint(config, load_weights(stored))
    for _ in range(3):
        lib = open_model_lib(stored, None, tmp_path / "packed") if found else None
        model = backend.PARTS.Model(config, checkpoint, quantization=MXFP4, model_lib=lib)
        chunk = Chunk(token_ids=tuple(IDS[:40]), start=0, pages=(0, 1, 2), num_logits=40)
        found.append(np.array(model.forward([chunk], backend.PARTS.PagedCache(config, 3))).tobytes())
    assert found[0] == found[1] == found[2]


def refused(directory, tensors, **changes):
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | changes))
    write_safetensors(directory / "model.safetensors", tensors, "F32")
    with pytest.raises(ModelError) as error:
        open_checkpoint(load_config(directory), load_weights(directory))
    return str(error.value)


def test_what_mxfp4_cannot_be_is_refused_by_name(stored, tmp_path):
    directory = write_family(tmp_path, "gpt_oss", intermediate_size=96, quantization_config=QUANTIZATION)
    good = {name: t.bits.copy() for name, t in bits_of(directory).items()}
    scales = good[f"{EXPERTS}down_proj_scales"].copy()
    scales[0, 3, 1] = 255
    bad = refused(directory, good | {f"{EXPERTS}down_proj_scales": scales})
    assert "down_proj_scales holds 255, which stands for no number" in bad
    missing = {name: bits for name, bits in good.items() if name != f"{EXPERTS}gate_up_proj_scales"}
    assert "gate_up_proj_scales is missing" in refused(directory, missing)
    other = write_model(tmp_path / "other", quantization_config=QUANTIZATION)
    with pytest.raises(ModelError, match=r"quantization_config is not supported \(method mxfp4 for 'llama'\)"):
        load_config(other)
    with pytest.raises(ModelError, match=r"MXFP4 has groups of 32 inputs, .*gate_up_proj has 48"):
        write_family(tmp_path / "odd", "gpt_oss", hidden_size=48, quantization_config=QUANTIZATION)


def test_it_is_not_made_into_other_integers(backend, stored, tmp_path):
    with pytest.raises(ModelError, match="stored as mxfp4 and cannot be made into w8a8"):
        backend.load_model(stored, quantization="w8a8")
    floats = write_family(tmp_path / "floats", "gpt_oss")
    with pytest.raises(ModelError, match="experts of the family gpt_oss cannot be written as integers"):
        quantize_directory(floats, tmp_path / "integers", "w4a8")


LIMITS = {
    "whole": {},
    "chunks": {"prefill_chunk_size": 24},
    "few pages": {"prefill_chunk_size": 24, "max_total_seq_length": 176, "prefix_cache_mode": "disable"},
    "prompt look-up": {"speculative_mode": "ngram", "spec_draft_length": 3},
    "draft model": {"speculative_mode": "small_draft", "spec_draft_length": 3},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A model with the demo's vocabulary, for an engine, and one almost the same, for drafts."""
    found = []
    vocab_size = json.loads((MODEL / "config.json").read_text())["vocab_size"]
    for name, epsilon in (("model", 1e-5), ("draft", 1e-3)):
        sizes = {"vocab_size": vocab_size, "intermediate_size": 96, "eos_token_id": None, "rms_norm_eps": epsilon}
        directory = tmp_path_factory.mktemp(name)
        write_family(directory, "gpt_oss", dtype="BF16", quantization_config=QUANTIZATION, **sizes)
        shutil.copy(MODEL / "tokenizer.model", directory)
        shutil.copy(MODEL / "tokenizer_config.json", directory)
        found.append(directory)
    return found


def answers(backend, served, limits):
    """Tokens and log-probabilities of two requests, the second with the first one's prompt, and the engine's counts."""
    draft = served[1] if limits.get("speculative_mode") == "small_draft" else None
    engine = backend.load_engine(served[0], limits=EngineLimits(**limits), draft_directory=draft)
    found = []
    for seed in (1, 2):  # one after the other: the second begins with cached pages
        sampling = SamplingParams(seed=seed, logprobs=1, temperature=0)
        prompt = tuple(range(300, 370)) * 2 + (500 + seed,)
        stopping = StoppingParams(max_tokens=16)
        engine.add(Request(request_id=str(seed), prompt_ids=prompt, sampling=sampling, stopping=stopping))
        while engine.has_work():
            for output in engine.step():
                found.extend(zip(output.token_ids, output.logprobs, strict=True))
            engine.check()
    return found, engine.stats()


def test_an_answer_does_not_depend_on_chunks_pages_the_prefix_cache_or_drafts(backend, served):
    made = {name: answers(backend, served, limits) for name, limits in LIMITS.items()}
    assert len(made["whole"][0]) == 32
    for name, (found, _) in made.items():
        assert repr(found) == repr(made["whole"][0]), name
    steps = {name: stats["steps"] for name, (_, stats) in made.items()}
    assert steps["chunks"] == steps["whole"] + 5, "six chunks, and the second prompt has the pages of the first"
    assert steps["few pages"] == steps["whole"] + 10, "both take six"
    assert 0 < made["draft model"][1]["accepted_tokens"] < made["draft model"][1]["drafted_tokens"]
