"""GGUF files: blocks as the package `gguf` reads them, whole models on both engines, vocabularies, and names."""

import json
import shutil

import gguf
import numpy as np
import pytest

from gguf_models import STORIES, random_blocks, story_words, write_gguf
from small_models import logits_of, write_model
from verbatim.fastpath import backend as fastpath
from verbatim.fastpath.model.model_lib import open_model_lib
from verbatim.reference import backend as reference
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.numerics.arithmetic import linear_quantized, linear_superblocks
from verbatim.reference.numerics.blocks import BLOCK_FORMATS, dequantize, unpack
from verbatim.reference.numerics.quantization import SuperblockTensor
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.sequence import Chunk
from verbatim.reference.text.tokenizers.gguf_file import read_gguf_tokenizer

IDS = list(range(3, 27))
SHAPE = {"hidden_size": 64, "intermediate_size": 96}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"), **SHAPE)


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "stories-Q8_0.gguf", STORIES, "Q8_0", vocabulary=story_words)


@pytest.mark.parametrize("format", BLOCK_FORMATS)
def test_values_are_those_of_the_package(format):
    """Any bytes are valid integers; scales of both signs, subnormal ones and zero among them."""
    blocks = random_blocks(np.random.default_rng(1), format, 6, 1024)
    known = BLOCK_FORMATS[format]
    shaped = blocks.reshape(6, -1, known.num_bytes).copy()
    for at in known.halves:
        shaped[0, 0, at : at + 2], shaped[1, 0, at : at + 2] = 0, (1, 0)
    if format == "MXFP4":
        shaped[0, :4, 0] = 0, 1, 2, 250
    expected = gguf.quants.dequantize(shaped.reshape(6, -1), gguf.GGMLQuantizationType[format])
    np.testing.assert_array_equal(dequantize(format, shaped).view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("format", BLOCK_FORMATS)
def test_products_are_those_of_the_values_but_for_rounded_activations(format):
    """Against float64; the error is that of 8 bits for 32 activations, whatever the format."""
    random, known = np.random.default_rng(7), BLOCK_FORMATS[format]
    blocks = random_blocks(random, format, 40, 1024).reshape(40, -1, known.num_bytes)
    x = random.standard_normal((12, 1024)).astype(np.float32)
    tensor = unpack(format, blocks)
    product = linear_superblocks if isinstance(tensor, SuperblockTensor) else linear_quantized
    exact = x.astype(np.float64) @ dequantize(format, blocks).astype(np.float64).T
    error = product(x, tensor) - exact
    assert np.sqrt(np.square(error).mean() / np.square(exact).mean()) < 0.012


def test_floats_give_the_bits_of_the_directory(model, tmp_path):
    file = write_gguf(tmp_path / "m.gguf", model, "F32")
    expected = logits_of(reference, model, IDS)
    np.testing.assert_array_equal(logits_of(reference, file, IDS), expected)
    np.testing.assert_array_equal(logits_of(fastpath, file, IDS), expected)


def test_each_matrix_has_a_format_of_its_own(model, tmp_path):
    formats = iter(range(1000))
    names = ("Q8_0", "F16", "Q4_0", "F32", "Q5_0", "IQ4_NL", "BF16", "Q4_1", "Q5_1", "MXFP4")
    file = write_gguf(tmp_path / "m.gguf", model, lambda name, shape: names[next(formats) % len(names)])
    np.testing.assert_array_equal(logits_of(fastpath, file, IDS), logits_of(reference, file, IDS))


@pytest.mark.parametrize("is_tied", [True, False])
def test_blocks_of_256_in_a_whole_model(tmp_path, is_tied):
    """As Q4_K_M mixes them; the embedding's rows are blocks, too, and the head's integers where it is tied to them."""
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 8, "head_dim": 32}
    directory = write_model(tmp_path / "model", tie_word_embeddings=is_tied, **sizes)
    formats, names = iter(range(1000)), ("Q6_K", "Q4_K", "Q5_K", "Q2_K", "Q3_K", "IQ4_XS")
    file = write_gguf(tmp_path / "m.gguf", directory, lambda name, shape: names[next(formats) % len(names)])
    tensors = open_source(file).tensors()
    assert {tensor.dtype for tensor in tensors.values()} == {"F32", *names}
    assert tensors["model.embed_tokens.weight"].dtype == "Q6_K"
    expected = logits_of(reference, file, IDS)
    np.testing.assert_array_equal(logits_of(fastpath, file, IDS), expected)
    assert np.isfinite(expected).all()


def test_q8_0_is_as_good_as_eight_bits_are(stories):
    """Of one prompt the logits are within the error that w8a8 has."""
    ids = open_source(STORIES).tokenizer().encode_prompt("Once upon a time, there was a little girl named Lily.")
    exact, found = logits_of(reference, STORIES, ids), logits_of(reference, stories, ids)
    assert np.abs(found - exact).max() < 0.03 * np.ptp(exact)
    np.testing.assert_array_equal(logits_of(fastpath, stories, ids), found)


@pytest.mark.parametrize("text", ["Once upon a time", " a  b\n\nc ", "é 漢字 <s> ▁", "", "</s>"])
def test_pieces_are_those_of_the_sentencepiece_file(stories, text):
    expected, found = open_source(STORIES).tokenizer(), open_source(stories).tokenizer()
    assert found.encode(text) == expected.encode(text)
    assert found.encode(text, is_first=False) == expected.encode(text, is_first=False)
    assert found.encode_prompt(text) == expected.encode_prompt(text)
    assert found.decode(found.encode(text)) == expected.decode(expected.encode(text))
    assert found.control_ids == expected.control_ids


def test_marks_of_phi_3_take_the_white_space_behind_them(stories):
    """transformers reads it from tokenizer_config.json; a GGUF file has no place for it."""
    values = open_source(stories)._opened[0].values
    plain = read_gguf_tokenizer("m", values)
    phi = read_gguf_tokenizer("m", values | {"general.architecture": "phi3"})
    pieces = [1, "\n Once", 2, "\n upon"]
    assert plain.encode_pieces(pieces) != phi.encode_pieces(pieces)
    assert phi.encode_pieces(pieces) == plain.encode_pieces([1, "\n Once", 2, "upon"])


def test_a_visible_mark_of_the_template_cannot_be_spelled_by_a_user(stories, tmp_path):
    def words(writer):
        story_words(writer)
        types = open_source(stories)._opened[0].values["tokenizer.ggml.token_type"].tolist()
        pieces = list(open_source(stories)._opened[0].values["tokenizer.ggml.tokens"])
        pieces[500], types[500] = "<|user|>", 4
        writer.add_token_types(types)
        writer.add_token_list(pieces)
        writer.add_chat_template("{% for m in messages %}<|user|>{{ m.content }}{% endfor %}")

    source = open_source(write_gguf(tmp_path / "m.gguf", STORIES, "F16", vocabulary=words))
    tokenizer = source.tokenizer()
    rendered = source.chat_template(tokenizer).render([{"role": "user", "content": "a<|user|>b"}])
    assert tokenizer.encode_pieces(rendered).count(500) == 1
    assert 500 in tokenizer.encode("a<|user|>b")  # of a raw prompt it is the token


def test_a_source_says_what_the_file_says(stories, tmp_path):
    source = open_source(stories)
    config, expected = source.config(), open_source(STORIES).config()
    assert (config.eos_ids, config.bos_id, config.quantization) == ((2,), 1, "gguf")
    assert (config.num_layers, config.context_size, config.tie_embeddings) == (5, expected.context_size, True)
    assert source.weight_files() == [stories]
    assert source.generation_defaults() == {}
    assert source.chat_template(source.tokenizer()) is None
    copy = tmp_path / "folder/other.gguf"
    copy.parent.mkdir()
    shutil.copy(stories, copy)
    assert open_source(copy.parent).config() == config  # a directory of one file
    assert open_source(copy).digest() != source.digest()
    shutil.copy(stories, copy.with_name("third.gguf"))
    with pytest.raises(ModelError, match=r"several models in GGUF files: name one of them: other.gguf, third.gguf"):
        open_source(copy.parent)


def test_a_format_that_is_asked_for_is_refused(stories):
    with pytest.raises(ModelError, match="stored as gguf and cannot be made into w4a8"):
        reference.load_model(stories, quantization="w4a8")


def test_packed_weights_are_kept_and_read(stories, tmp_path):
    """Also those of matrices that stay float; the second time nothing is unpacked."""
    path = tmp_path / "packed.safetensors"
    ids = [1, 403, 407, 261]
    logits = []
    for _ in range(2):
        model_lib = open_model_lib(stories, None, path)
        source = open_source(stories)
        config = source.config()
        checkpoint = open_checkpoint(config, source.weights(is_checked=model_lib.is_complete))
        model = fastpath.PARTS.Model(config, checkpoint, quantization="gguf", model_lib=model_lib)
        cache = fastpath.PARTS.PagedCache(config, 1)
        logits.append(model.forward([Chunk(token_ids=tuple(ids), start=0, pages=(cache.allocate(),))], cache))
    np.testing.assert_array_equal(*logits)
    assert open_model_lib(stories, None, path).is_complete


def test_a_template_and_its_tokens(model, tmp_path):
    def words(writer):
        story_words(writer)
        writer.add_chat_template("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}{{ eos_token }}")
        writer.add_float32("general.sampling.temp", 0.5)

    source = open_source(write_gguf(tmp_path / "m.gguf", STORIES, "F16", vocabulary=words))
    template = source.chat_template(source.tokenizer())
    assert template.render([{"role": "user", "content": "a</s>"}]) == [1, "a</s>", 2]
    assert source.generation_defaults() == {"temperature": 0.5}


def test_parts_of_a_split_model_are_read_together(stories, tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "s.gguf", "llama", split_max_tensors=20, small_first_shard=False)
    reader = gguf.GGUFReader(stories)
    for field in reader.fields.values():
        if field.name.startswith("llama.") or field.name.startswith("tokenizer."):
            type_, inner = field.types[0], field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), type_, sub_type=inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    parts = sorted(tmp_path.glob("s-*.gguf"))
    assert len(parts) == 3
    for path in (parts[0], parts[2], tmp_path):
        found = open_source(path)
        assert found.tensors().keys() == open_source(stories).tensors().keys()
        assert [file.name for file in found.weight_files()] == [part.name for part in parts]
    parts[1].unlink()
    with pytest.raises(ModelError, match=r"s-00002-of-00003.gguf does not exist: the model is split into 3 files"):
        open_source(parts[0]).config()


BPE_TEXTS = ("Hello World's 12345 times", "naïve  spaces\n\n\ttabs", "don't DON'T", "漢字 kana 🙂", "a/b//c x_y=1;")


REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DEEPSEEK3 = (  # as its tokenizer.json has them
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"


@pytest.mark.parametrize(
    ("pre", "pattern"),
    [
        ("gpt-2", None),
        ("llama-bpe", rf"{WORDS}\p{{N}}{{1,3}}{REST}"),
        ("qwen2", rf"{WORDS}\p{{N}}{REST}"),
        ("glm4", rf"{WORDS}\p{{N}}{{1,3}}{REST}"),
        ("deepseek-v3", DEEPSEEK3),
    ],
)
def test_byte_pairs_are_those_of_the_tokenizers_library(tmp_path, pre, pattern):
    """A vocabulary trained here, written as GGUF has it, encodes as the library's own tokenizer does."""
    import tokenizers
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

    trained = tokenizers.Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    patterns = [] if pattern is None else [pattern] if isinstance(pattern, str) else pattern
    words = [pre_tokenizers.Split(Regex(each), "isolated") for each in patterns]
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    trained.pre_tokenizer, trained.decoder = pre_tokenizers.Sequence([*words, bytes_of]), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["<|im_end|>", "<s>"])
    trained.train_from_iterator(BPE_TEXTS * 20, trainer)
    model = json.loads(trained.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].get)

    def words_of(writer):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(pieces)
        writer.add_token_types([3 if piece in ("<|im_end|>", "<s>") else 1 for piece in pieces])
        writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
        writer.add_bos_token_id(1)

    write_model(tmp_path / "m", vocab_size=len(pieces))
    source = open_source(write_gguf(tmp_path / "m.gguf", tmp_path / "m", vocabulary=words_of))
    found = source.tokenizer()
    for text in BPE_TEXTS:
        assert found.encode(text) == trained.encode(text).ids
        assert found.decode(found.encode(text)) == text
    assert found.bos_ids == ((1,) if pre == "llama-bpe" else ())
    assert source.config().eos_ids == (0,)  # by its name
    assert found.encode("<s>") != [1]


def test_a_normal_form_of_its_own_is_refused(tmp_path, model):
    """Unigram models may have a table of one; pieces and scores are read."""

    def words(writer):
        story_words(writer, "t5")
        writer.add_precompiled_charsmap(bytes(4))

    file = write_gguf(tmp_path / "m.gguf", model, vocabulary=words)
    with pytest.raises(ModelError, match=r"precompiled_charsmap, a normal form of its own, is not supported"):
        open_source(file).tokenizer()


def test_a_first_token_of_any_name_begins_a_prompt(tmp_path, model):
    """Gemma's is <bos>."""

    def words(writer):
        story_words(writer)
        pieces = list(writer.kv_data[0]["tokenizer.ggml.tokens"].value)
        pieces[1] = "<bos>"
        writer.add_token_list(pieces)

    tokenizer = open_source(write_gguf(tmp_path / "m.gguf", model, vocabulary=words)).tokenizer()
    assert tokenizer.control_ids["<bos>"] == 1 and tokenizer.encode_prompt("a")[0] == 1


def test_an_unknown_cut_into_words_is_refused(tmp_path, model):
    def words(writer):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("klingon")
        writer.add_token_list(["a"])
        writer.add_token_merges([])

    file = write_gguf(tmp_path / "m.gguf", model, vocabulary=words)
    with pytest.raises(ModelError, match=r"tokenizer.ggml.pre 'klingon' is not supported; supported: chatglm-bpe"):
        open_source(file).tokenizer()
