"""AWQ, GPTQ, compressed-tensors and FP8: the numbers they stand for, equal bits of engines, and what is refused."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from family_models import write_family
from quantized_models import (
    AWQ,
    FP8,
    GPTQ,
    INT4,
    LAYOUTS,
    NF4,
    SHAPE,
    compressed,
    gptq,
    number,
    put,
    quantize_directory,
    write_quantized,
)  # fmt: skip
from small_models import logits_of, write_model
from verbatim.fastpath import backend as fastpath
from verbatim.fastpath.gpu.support import missing
from verbatim.fastpath.machine import dispatch
from verbatim.fastpath.model.model_lib import open_model_lib
from verbatim.reference import backend as reference
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.engine.loading import make_model
from verbatim.reference.records.errors import ModelError

IDS = list(range(3, 24))
TEXTS = {
    "awq-128": "AWQ, 4 bits, groups of 128", "gptq-act-order": "GPTQ, 4 bits, groups of 32, act-order",
    "int8": "compressed-tensors, 8 bits, channels", "fp8-block": "FP8, blocks of 128 by 128",
    "nf4-nested": "bitsandbytes, nf4, factors of 8 bits", "llm-int8": "bitsandbytes, int8",
}  # fmt: skip
MATRIX = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request, tmp_path_factory):
    """A layout's name, the quantised model, and the float model of the same numbers."""
    entry, encode, _ = LAYOUTS[request.param]
    return request.param, *write_quantized(tmp_path_factory.mktemp("model"), entry, encode, kept="layers.0.mlp.up")


def test_numbers_are_those_that_the_tool_stored(layout):
    name, quantized, floats = layout
    found, expected = open_source(quantized).tensors(), open_source(floats).tensors()
    assert found.keys() == expected.keys()
    assert open_source(quantized).stored_as() == TEXTS.get(name, open_source(quantized).stored_as())
    made = [tensor for tensor in found.values() if "proj" in tensor.name and "layers.0.mlp.up" not in tensor.name]
    assert {tensor.dtype for tensor in made} == LAYOUTS[name][2]
    for tensor in found.values():
        np.testing.assert_array_equal(tensor.float32(), expected[tensor.name].float32(), err_msg=tensor.name)
    part = found[MATRIX].rows(13, 78)
    assert part.shape == (65, SHAPE["intermediate_size"])
    np.testing.assert_array_equal(part.float32(), expected[MATRIX].float32()[13:78])


def test_both_engines_have_the_same_bits_at_every_level(layout):
    """Floats (FP8, act-order, nf4, fp4) have those of the float model; integers are off by rounded activations."""
    _, quantized, floats = layout
    expected, exact, chosen = logits_of(reference, quantized, IDS), logits_of(reference, floats, IDS), dispatch.level()
    try:
        for level in dispatch.available():
            dispatch.use(level)
            np.testing.assert_array_equal(logits_of(fastpath, quantized, IDS), expected, err_msg=level)
    finally:
        dispatch.use(chosen)
    if LAYOUTS[layout[0]][2] <= {"F16", "BF16", "F32"}:
        np.testing.assert_array_equal(expected, exact)
    assert np.abs(expected - exact).max() < 0.02 * np.ptp(exact)


def test_fused_matrices_are_cut_by_rows(tmp_path):
    """Phi-3's: query, key and value in one, gate and up in another; a part begins inside of a word."""
    entry, encode, _ = LAYOUTS["gptq-4-asymmetric"]
    quantized, _ = write_quantized(tmp_path, entry, encode)
    tensors = open_source(quantized).tensors()
    whole = tensors[MATRIX].quantized()
    for part, rows in ((tensors[MATRIX].rows(3, 70), slice(3, 70)), (tensors[MATRIX].select("x", [9, 2]), [9, 2])):
        np.testing.assert_array_equal(part.quantized().integers, whole.integers[rows])
        np.testing.assert_array_equal(part.quantized().scales, whole.scales[rows])


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("internlm2", ("wqkv", "wo", "w1", "w2", "w3")),  # query, key and value in one matrix, group by group
        ("qwen2_moe", ("_proj",)),  # every expert apart, and one of every token
    ],
)
def test_other_families_with_rows_of_no_whole_groups(tmp_path, name, ends):
    """48 inputs: the second group of 32 is short."""
    write_family(tmp_path, name)
    exact = logits_of(reference, tmp_path, IDS)
    quantize_directory(tmp_path, GPTQ | {"bits": 8, "group_size": -1}, gptq(8, -1, symmetric=False), ends)
    expected = logits_of(reference, tmp_path, IDS)
    np.testing.assert_array_equal(logits_of(fastpath, tmp_path, IDS), expected)
    assert 0 < np.abs(expected - exact).max() < 0.1 * np.ptp(exact)


@pytest.mark.parametrize("name", ["awq-128", "gptq-8-asymmetric", "fp8-block", "gptq-act-order"])
def test_packed_weights_on_disk_give_the_same_bits(tmp_path, name):
    quantized, _ = write_quantized(tmp_path, *LAYOUTS[name][:2])
    expected = logits_of(fastpath, quantized, IDS)
    source = open_source(quantized)
    config = source.config()
    for _ in range(2):  # written, then read
        library = open_model_lib(quantized, None, tmp_path / "packed.lib")
        checkpoint = open_checkpoint(config, source.weights())
        model = make_model(fastpath.PARTS, config, checkpoint, None, library)
        loaded = SimpleNamespace(PARTS=fastpath.PARTS, load_model=lambda *_, model=model, **__: model)
        np.testing.assert_array_equal(logits_of(loaded, quantized, IDS), expected)


def test_another_format_is_refused(tmp_path):
    quantized, _ = write_quantized(tmp_path, *LAYOUTS["awq-128"][:2])
    for backend in (reference, fastpath):
        with pytest.raises(ModelError, match="stored as awq and cannot be made into w8a8"):
            backend.load_model(quantized, quantization="w8a8")
    assert missing(open_source(quantized).config()) == [], "the GPU path has all formats"


INSTEAD = "give the float checkpoint"
REFUSED = {
    "bitsandbytes of 2 bits": (
        NF4 | {"bnb_4bit_quant_type": "nf2"},
        ["method bitsandbytes", "must be nf4 or fp4", INSTEAD],
    ),
    "bitsandbytes in other words": (
        NF4 | {"bnb_4bit_quant_storage": "bfloat16"},
        ["bnb_4bit_quant_storage must be uint8"],
    ),
    "bitsandbytes of neither size": ({"quant_method": "bitsandbytes"}, ["load_in_8bit must be True, not None"]),
    "aqlm": ({"quant_method": "aqlm"}, ["method aqlm", "awq, gptq, compressed-tensors, fp8"]),
    "exl2": ({"quant_method": "exl2", "bits": 4.5}, ["method exl2"]),
    "hqq": ({"quant_method": "hqq"}, ["method hqq"]),
    "no name": ({"bits": 4}, ["method of no name"]),
    "no object": (["awq"], ["method of no name"]),
    "a name of another type": ({"quant_method": {}}, ["method of no name"]),
    "AWQ with 3 bits": (AWQ | {"bits": 3, "group_size": 128}, ["bits must be 4, not 3"]),
    "AWQ with bits of another type": (AWQ | {"bits": "4"}, ["bits must be 4, not '4'"]),
    "AWQ of another layout": (AWQ | {"version": "gemv"}, ["method awq", "version must be gemm, not 'gemv'"]),
    "AWQ of groups of 16": (AWQ | {"group_size": 16}, ["group_size must be -1 or a multiple of 32, not 16"]),
    "GPTQ with 2 bits": (GPTQ | {"bits": 2, "group_size": 64}, ["method gptq", "bits must be 4 or 8, not 2"]),
    "Marlin": (GPTQ | {"bits": 4, "checkpoint_format": "marlin"}, ["checkpoint_format must be gptq or gptq_v2"]),
    "bits of each layer": (GPTQ | {"bits": 4, "dynamic": {"+:.*": {"bits": 8}}}, ["dynamic must be absent"]),
    "a group of no number": (GPTQ | {"bits": 4, "group_size": True}, ["group_size must be -1 or", "True"]),
    "NVFP4": (compressed("nvfp4-pack-quantized", num_bits=4, type="float"), ["nvfp4-pack-quantized", INSTEAD]),
    "3 bits": (compressed("pack-quantized", num_bits=3, type="int"), ["group_0.weights.num_bits must be 4 or 8"]),
    "rotations": (
        compressed("pack-quantized", **INT4) | {"transform_config": {"config_groups": {"R1": {}}}},
        ["transform_config must be absent"],
    ),
    "sparse": (
        compressed("pack-quantized", **INT4) | {"sparsity_config": {"format": "sparse-24-bitmask"}},
        ["sparsity_config.format must be dense, not 'sparse-24-bitmask'"],
    ),
    "groups that are none": ({"quant_method": "compressed-tensors", "config_groups": [1]}, ["must be an object"]),
    "float8 of another form": (FP8 | {"fmt": "e5m2"}, ["fmt must be e4m3 or float8_e4m3fn, not 'e5m2'"]),
    "blocks of no size": (FP8 | {"weight_block_size": [0, 128]}, ["weight_block_size must be two sizes"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_by_name(tmp_path, name):
    entry, words = REFUSED[name]
    write_model(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": entry}))
    with pytest.raises(ModelError) as refused:
        open_source(tmp_path).config()
    assert all(word in str(refused.value) for word in ["config.json: quantization_config", *words]), refused.value


def changed(layout, stem, change):
    """An encoder whose parts are changed."""
    _, encode, _ = LAYOUTS[layout]

    def wrong(w):
        parts, weights = encode(w)
        change(parts)
        return parts, weights

    return wrong


DAMAGED = {
    "no scales": ("awq-128", lambda parts: parts.pop("scales"), "q_proj.scales is missing"),
    "no zero points": ("awq-128", lambda parts: parts.pop("qzeros"), "q_proj.qzeros is missing"),
    "no zero points of columns": (
        "words-4-asymmetric", lambda parts: parts.pop("weight_zero_point"), "q_proj.weight_zero_point is missing",
    ),
    "no order": ("gptq-act-order", lambda parts: parts.pop("g_idx"), "q_proj.g_idx is missing"),
    "no integers": ("gptq-4", lambda parts: parts.pop("qweight"), "q_proj.qweight is missing"),
    "scales of fewer groups": ("gptq-v2", put("scales", lambda d, b: (d, b[:1])), r"scales has shape \(1, 128\), not"),
    "zeros of another shape": ("awq-32", put("qzeros", lambda d, b: (d, b[:, :1])), "qzeros has shape"),
    "floats for words": ("awq-32", put("qweight", lambda d, b: ("F32", b)), "is stored as F32, not as I32"),
    "words in no rows": ("awq-32", put("qweight", lambda d, b: (d, b[0])), "not that of a matrix"),
    "infinite scales": ("gptq-4", put("scales", number(np.inf)), "_proj.weight holds NaN or infinite"),
    "a group that is none": ("gptq-act-order", put("g_idx", number(99)), "must hold groups from 0 to 3"),
    "act-order out of float16": ("gptq-act-order", put("scales", number(60000)), "holds NaN or infinite values"),
    "a shape of its own": ("words-4", put("weight_shape", number(2**40)), "weight_packed has shape"),
    "groups of 16": ("int8", put("weight_scale", lambda d, b: (d, np.repeat(b, 8, 1))), "multiple of 32 inputs"),
    "a float8 of no number": ("fp8-block", put("weight", number(0xFF)), "holds NaN or infinite values"),
    "blocks of another size": ("fp8-block", put("weight_scale_inv", lambda d, b: (d, b[:, :0])), "inv has shape"),
    "a state that is no JSON": (
        "nf4", put("weight.quant_state.bitsandbytes__nf4", lambda d, b: (d, b[:-1])), "no JSON text",
    ),
    "no table": ("nf4", lambda parts: parts.pop("weight.quant_map"), "q_proj.weight.quant_map is missing"),
    "factors of fewer blocks": ("fp4", put("weight.absmax", lambda d, b: (d, b[1:])), "absmax has shape"),
    "factors out of float16": ("fp4", put("weight.absmax", number(70000)), "holds NaN or infinite values"),
    "rows in another order": ("llm-int8", put("weight_format", number(1)), "weight_format is not 0"),
    "float8 without scales": ("fp8-block", lambda parts: parts.pop("weight_scale_inv"), "stored as F8_E4M3"),
    "a matrix twice": (
        "gptq-4", lambda parts: parts.update(weight=("F32", np.zeros((128, 128), np.float32))), "there twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_matrix_is_named(tmp_path, name):
    layout, change, words = DAMAGED[name]
    quantized, _ = write_quantized(tmp_path, LAYOUTS[layout][0], changed(layout, name, change))
    with pytest.raises(ModelError, match=words):
        reference.load_model(quantized)


@pytest.mark.parametrize("value", [0, 0.5])
def test_a_bias_that_the_architecture_lacks_must_be_zero(tmp_path, value):
    """Some tools write one for every matrix."""

    def encode(w):
        parts, weights = LAYOUTS["gptq-4"][1](w)
        return parts | {"bias": ("F16", np.full(len(w), value, np.float16))}, weights

    quantized, _ = write_quantized(tmp_path, LAYOUTS["gptq-4"][0], encode)
    if not value:
        assert np.isfinite(logits_of(fastpath, quantized, IDS)).all()
        return
    with pytest.raises(ModelError, match=r"layers.0.*_proj.bias is not zero"):
        reference.load_model(quantized)


def test_an_embedding_and_a_head_may_be_quantised(tmp_path):
    """Rows are float32; the head that is tied to them computes on integers."""
    encode = LAYOUTS["words-4"][1]
    quantized, _ = write_quantized(tmp_path, LAYOUTS["words-4"][0], encode, are_all=True)
    assert open_source(quantized).tensors()["model.embed_tokens.weight"].dtype == "w4a8"
    np.testing.assert_array_equal(logits_of(fastpath, quantized, IDS), logits_of(reference, quantized, IDS))


def test_zero_points_of_zero_survive_the_first_convention(tmp_path):
    """It stores them less 1, word by word: 0 borrows from the integer above."""

    def encode(w):
        return gptq(4, 128, symmetric=False)(np.abs(w))

    quantized, floats = write_quantized(tmp_path, LAYOUTS["gptq-4"][0], encode)
    found, expected = open_source(quantized).tensors()[MATRIX], open_source(floats).tensors()[MATRIX]
    assert (expected.float32() >= 0).all()
    np.testing.assert_array_equal(found.float32(), expected.float32())
