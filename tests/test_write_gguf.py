"""`verbatim quantize --format gguf-...`: every family and source as a GGUF file, read back by us and by `gguf`."""

import json
import shutil

import gguf
import numpy as np
import pytest

from family_models import write_family
from gguf_models import write_gguf
from mlc_models import write_mlc
from quantized_models import LAYOUTS, write_quantized
from small_models import logits_of, write_byte_tokenizer, write_chat_model, write_model
from test_gguf_families import FAMILIES
from verbatim.demo import MODEL
from verbatim.fastpath import backend as fastpath
from verbatim.reference import backend as reference
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.commands.quantize import quantize_on_disk
from verbatim.reference.commands.write_gguf import FORMATS
from verbatim.reference.records.errors import ModelError

IDS = list(range(3, 43))
NOT_WRITTEN = (  # refused by name
    "gpt_oss", "cohere", "cohere2", "deepseek_v2", "deepseek_v3", "ernie4_5", "ernie4_5 moe", "glm", "glm4", "hunyuan",
    "hunyuan moe", "minimax m2", "qwen3_next", "qwen3_5", "qwen3_5_moe", "mamba2", "granite 4, experts",
    "granite 4, dense", "nemotron h", "falcon h1",
)  # fmt: skip


def written(source, path, name="gguf-f32"):
    quantize_on_disk(source, path, name)
    return open_source(path)


def give_words(directory):
    """A vocabulary of bytes, a pair and four control tokens, which is larger than that of the small models."""
    write_byte_tokenizer(directory, ["<s>", "</s>", "<unk>", "<|im_end|>"], merges=[("l", "l")])
    (directory / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in NOT_WRITTEN])
def test_a_family_has_the_bits_of_its_directory(tmp_path, name):
    base, architecture, changes, _ = FAMILIES[name]
    changes = changes | {"architectures": [f"{architecture}ForCausalLM"], "vocab_size": 272, "eos_token_id": 258}
    directory = write_family(tmp_path / "model", base, **changes)
    give_words(directory)
    source = written(directory, tmp_path / "m.gguf")
    expected = logits_of(reference, directory, IDS)
    np.testing.assert_array_equal(logits_of(reference, tmp_path / "m.gguf", IDS), expected)
    assert source.config().eos_ids[0] == 258
    assert source.tokenizer().encode("Hello <s> 漢") == open_source(directory).tokenizer().encode("Hello <s> 漢")


@pytest.mark.parametrize("name", FORMATS)
def test_numbers_are_those_of_the_package(tmp_path, name):
    """Vectors stay float32; embedding and head of q4_0 are Q8_0."""
    directory = write_chat_model(tmp_path / "model", hidden_size=64, intermediate_size=96, tie_word_embeddings=False)
    written(directory, tmp_path / "m.gguf", name)
    source, form = open_source(directory).tensors(), FORMATS[name]
    names = {"token_embd": "model.embed_tokens", "output": "lm_head", "blk.1.ffn_down": "model.layers.1.mlp.down_proj",
             "blk.0.attn_v": "model.layers.0.self_attn.v_proj"}  # fmt: skip
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    for theirs, ours in names.items():
        expected = "Q8_0" if form == "Q4_0" and theirs in ("token_embd", "output") else form
        tensor, wanted = found[f"{theirs}.weight"], gguf.GGMLQuantizationType[expected]
        assert tensor.tensor_type == wanted
        values = gguf.quants.quantize(source[f"{ours}.weight"].float32(), wanted)
        np.testing.assert_array_equal(
            np.asarray(tensor.data).view(np.uint8).reshape(-1), values.view(np.uint8).reshape(-1)
        )
    assert found["blk.0.attn_norm.weight"].tensor_type == gguf.GGMLQuantizationType.F32
    np.testing.assert_array_equal(
        logits_of(fastpath, tmp_path / "m.gguf", IDS), logits_of(reference, tmp_path / "m.gguf", IDS)
    )


def test_words_and_template_are_those_of_the_directory(tmp_path):
    """The demo's sentencepiece file, its marks, and its Jinja template."""
    directory = shutil.copytree(MODEL, tmp_path / "demo")
    (directory / "generation_config.json").write_text(json.dumps({"temperature": 0.5, "top_k": 40}))
    source, ours = written(directory, tmp_path / "demo.gguf", "gguf-q8_0"), open_source(directory)
    read, own = source.tokenizer(), ours.tokenizer()
    messages = [{"role": "user", "content": "What is 12 times 3?  </s> é"}]
    prompt = [s.chat_template(t).render(messages) for s, t in ((source, read), (ours, own))]
    assert read.encode_pieces(prompt[0]) == own.encode_pieces(prompt[1])
    assert source.generation_defaults() == {"temperature": 0.5, "top_k": 40}
    assert source.config().eos_ids == ours.config().eos_ids
    assert not list(tmp_path.glob("*.partial"))


def as_mlc(tmp_path):
    write_chat_model(tmp_path / "model", hidden_size=64, intermediate_size=96)
    write_mlc(tmp_path / "mlc", tmp_path / "model", "llama", "q4f16_1")
    return tmp_path / "mlc"


def as_own(tmp_path):
    quantize_on_disk(
        write_chat_model(tmp_path / "model", hidden_size=64, intermediate_size=96), tmp_path / "own", "w4a8"
    )
    return tmp_path / "own"


def as_gguf(tmp_path):
    directory = write_chat_model(tmp_path / "model", hidden_size=64, intermediate_size=96)
    quantize_on_disk(directory, tmp_path / "first.gguf", "gguf-q4_0")
    return tmp_path / "first.gguf"


def up_of(path):
    source = open_source(path)
    config = source.config()
    matrix = open_checkpoint(config, source.weights()).layers[0].mlp.up
    return matrix.quantized(matrix.format(config.quantization))


@pytest.mark.parametrize("make", [as_mlc, as_own, as_gguf])
@pytest.mark.parametrize("name", ["gguf-q8_0", "gguf-q4_0"])
def test_integers_of_the_source_stay_as_they_are(tmp_path, make, name):
    """Four bits are in both formats just so: the products are the same."""
    source = make(tmp_path)
    found = written(source, tmp_path / "m.gguf", name)
    matrix, expected, made = "model.layers.0.mlp.up_proj.weight", up_of(source), up_of(tmp_path / "m.gguf")
    assert found.tensors()[matrix].dtype == FORMATS[name]
    np.testing.assert_array_equal(made.integers, expected.integers)
    np.testing.assert_array_equal(made.scales, expected.scales)
    if make is not as_own:  # whose embedding is of floats, which are rounded here
        logits = logits_of(reference, source, IDS)
        np.testing.assert_array_equal(logits_of(reference, tmp_path / "m.gguf", IDS), logits)


@pytest.mark.parametrize("layout", ["awq-32", "gptq-act-order", "words-8", "fp8-block", "int8-asymmetric"])
def test_other_tools_checkpoints_become_floats_or_our_own_formats(tmp_path, layout):
    entry, encode, _ = LAYOUTS[layout]
    model, floats = write_quantized(tmp_path, entry, encode, vocab_size=512)
    give_words(model)
    found, expected = written(model, tmp_path / "m.gguf").tensors(), open_source(floats).tensors()
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor.in_order().float32(), expected[name].float32(), err_msg=name)
    quantize_on_disk(model, tmp_path / "own", "w8a8")
    assert open_source(tmp_path / "own").config().quantization == "w8a8"
    assert np.isfinite(logits_of(fastpath, tmp_path / "own", IDS)).all()


def test_an_artifact_of_mlc_becomes_a_directory(tmp_path):
    """Its four bits are those of w4a8; what mlc-chat-config.json says goes into files of its own."""
    source = as_mlc(tmp_path)
    quantize_on_disk(source, tmp_path / "own", "w4a8")
    np.testing.assert_array_equal(logits_of(reference, tmp_path / "own", IDS), logits_of(reference, source, IDS))
    own = open_source(tmp_path / "own")
    assert own.generation_defaults() == open_source(source).generation_defaults()
    assert own.chat_template(own.tokenizer()) is not None


def test_what_cannot_be_written_is_refused_by_name(tmp_path):
    directory = write_chat_model(tmp_path / "model")
    for target, name, words in (
        ("x", "gguf-q8_0", "must end in .gguf"),
        ("x.gguf", "gguf-q4_k", "quantization 'gguf-q4_k' is not supported; supported: w8a8, w4a8, gguf-q8_0"),
        ("model", "gguf-f16", "model exists"),
    ):
        with pytest.raises(ModelError, match=words):
            quantize_on_disk(directory, tmp_path / target, name)
    for name in ("gpt_oss", "cohere2", "deepseek_v2"):
        family = write_family(tmp_path / name, name)
        with pytest.raises(ModelError, match=f"family '{name}' cannot be written as GGUF; those of llama"):
            quantize_on_disk(family, tmp_path / "x.gguf", "gguf-f16")
    windows = write_chat_model(tmp_path / "w", architectures=["MistralForCausalLM"], sliding_window=24)
    with pytest.raises(ModelError, match="cannot be written as GGUF: layers is"):
        quantize_on_disk(windows, tmp_path / "x.gguf", "gguf-f16")
    file = write_gguf(tmp_path / "f.gguf", write_model(tmp_path / "plain"), "F16")
    with pytest.raises(ModelError, match=r"is a GGUF file.* give --format gguf-q8_0"):
        quantize_on_disk(file, tmp_path / "x", "w8a8")
