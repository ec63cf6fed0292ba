"""Tokenizers: text to ids and back by bytes, and control tokens that no text can produce."""

import json
import shutil

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from verbatim.demo import MODEL
from verbatim.reference.records.errors import ModelError
from verbatim.reference.text.detokenizer import Detokenizer
from verbatim.reference.text.tokenizer import load_tokenizer

TEXTS = ["Hello, world!", " two  spaces ", "1234 + 5 = ?\n\n", "naïve Ωmega 日本語 👩‍👩‍👧 \u0000\x07", "", "   "]
CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "Hello, world! naïve 日本語",
    "tokens of text, text of tokens",
] * 20


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    """A tokenizer.json of the type of GPT-2, Llama 3 and Qwen."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens(["<tool_call>"])
    return save(tokenizer, tmp_path_factory.mktemp("byte_level"), {"bos_token": "<|begin|>", "add_bos_token": True})


@pytest.fixture(scope="module")
def byte_fallback(tmp_path_factory):
    """A tokenizer.json of the type of Llama 2 and Mistral."""
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{i:02X}>" for i in range(256)),
        "▁",
        *"abcdefghijklmnopqrstuvwxyz",
        "▁t",
        "he",
        "▁the",
    ]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    bpe = models.BPE(
        vocab=vocabulary, merges=[("▁", "t"), ("h", "e"), ("▁t", "he")], byte_fallback=True, unk_token="<unk>"
    )
    tokenizer = tokenizers.Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return save(
        tokenizer, tmp_path_factory.mktemp("byte_fallback"), {"bos_token": {"content": "<s>"}, "add_bos_token": True}
    )


def save(tokenizer, directory, settings):
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return load_tokenizer(directory)


@pytest.fixture(scope="module")
def demo():
    return load_tokenizer(MODEL)


@pytest.fixture(params=["demo", "byte_level", "byte_fallback"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("text", TEXTS)
def test_bytes_of_the_ids_are_the_text(tokenizer, text):
    ids = tokenizer.encode(text)
    content = b"".join(map(tokenizer.token_bytes, ids))
    if tokenizer.strips_first_space and text:
        assert content[:1] == b" "
        content = content[1:]
    assert content == text.encode()


def test_control_tokens_in_text_are_text(tokenizer):
    for mark, token_id in tokenizer.control_ids.items():
        ids = tokenizer.encode(f"x{mark}y")
        assert token_id not in ids
        assert mark in tokenizer.decode(ids)
        assert tokenizer.token_bytes(token_id) == b""


def test_pieces_join_text_and_control_tokens(tokenizer):
    mark = next(iter(tokenizer.control_ids.values()))
    assert tokenizer.encode_pieces([mark, "ab", mark]) == [mark, *tokenizer.encode("ab", is_first=False), mark]


def test_a_raw_prompt_has_the_configured_first_tokens(byte_level, byte_fallback):
    assert byte_level.encode_prompt("a")[0] == byte_level.control_ids["<|begin|>"]
    assert byte_fallback.encode_prompt("the") == [1, byte_fallback.encode("the")[0]]


def test_an_added_token_that_is_not_special_is_visible_text(byte_level):
    token_id = byte_level.encode("<tool_call>")
    assert len(token_id) == 1
    assert byte_level.token_bytes(token_id[0]) == b"<tool_call>"


def test_ids_without_a_token_add_nothing(tokenizer):
    assert tokenizer.token_bytes(tokenizer.vocab_size + 7) == b""


def test_after_a_control_token_no_space_is_added_unless_legacy(stories, tmp_path):
    ids = load_tokenizer(stories)
    assert ids.encode("the", is_first=False) == ids.encode("the")  # "legacy": true
    shutil.copy(stories / "tokenizer.model", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"legacy": false}')
    modern = load_tokenizer(tmp_path)
    assert modern.decode(modern.encode("the", is_first=False)) == "the"
    assert modern.decode(modern.encode("the")) == " the"


def test_a_missing_or_damaged_tokenizer_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"has no tokenizer: neither tokenizer\.json nor tokenizer\.model"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"tokenizer\.model cannot be read"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read"):
        load_tokenizer(tmp_path)


def test_sentencepiece_writes_its_own_sign_of_a_space_as_a_space():
    tokenizer = load_tokenizer_once()
    assert tokenizer.decode(tokenizer.encode("a▁b")) == "a b"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁")))  # see the test above
def test_deltas_joined_are_the_text(text):
    tokenizer, detokenizer = load_tokenizer_once(), Detokenizer()
    deltas = [detokenizer.push(tokenizer.token_bytes(i)) for i in tokenizer.encode(text)]
    assert "".join([*deltas, detokenizer.finish()]) == text
    assert all("\ufffd" not in delta or "\ufffd" in text for delta in deltas)


def load_tokenizer_once(loaded=[]):  # noqa: B006
    if not loaded:
        loaded.append(load_tokenizer(MODEL))
    return loaded[0]
