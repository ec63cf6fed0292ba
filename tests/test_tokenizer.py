"""Tokenizers: text to ids and back by bytes, and control tokens that no text can produce."""

import base64
import functools
import json
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from verbatim.demo import MODEL
from verbatim.reference.records.errors import ModelError
from verbatim.reference.text.detokenizer import Detokenizer
from verbatim.reference.text.template import ChatTemplate
from verbatim.reference.text.tokenizers import load_tokenizer

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


def test_line_breaks_after_a_control_token_stay_what_they_are(tmp_path):
    """Also where the vocabulary has several of them as one piece; spaces that a text begins with stay, too."""
    spm = pytest.importorskip("sentencepiece")
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter([*CORPUS, "x\n\ny"]), model_prefix=str(tmp_path / "tokenizer"), vocab_size=340,
        model_type="bpe", byte_fallback=True, minloglevel=2, user_defined_symbols=["\n\n"],
        normalization_rule_name="identity",
    )  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text('{"legacy": false}')
    ids = load_tokenizer(tmp_path)
    for text in ("\nthe", "\n\nthe", "the", " the", "\n"):
        assert ids.decode(ids.encode(text, is_first=False)) == text
    assert ids.encode("\n\n", is_first=False) == [ids.encode("a\n\n")[-1]]


def test_a_missing_or_damaged_tokenizer_is_named(tmp_path):
    with pytest.raises(
        ModelError,
        match=r"has no tokenizer: neither tokenizer\.json nor tokenizer\.model nor tekken\.json nor vocab\.json",
    ):
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


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """Runs of spaces and tags as added tokens that are not special, and marks that take the white space beside them."""
    pieces = ["<unk>", "<s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz:.<>/|"]
    bpe = models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[], byte_fallback=True, unk_token="<unk>")
    tokenizer = tokenizers.Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    plain = [tokenizers.AddedToken(name, normalized=False) for name in ("▁▁", "▁▁▁▁", "<table>", "<think>", "</think>")]
    tokenizer.add_tokens(plain)
    right = tokenizers.AddedToken("<|user|>", special=True, normalized=False, rstrip=True)
    left = tokenizers.AddedToken("<|end|>", special=True, normalized=False, lstrip=True)
    tokenizer.add_special_tokens([right, left])
    return save(tokenizer, tmp_path_factory.mktemp("marked"), {})


def library_ids(tokenizer, text):
    """What the library makes of a text whose marks are marks."""
    known = tokenizers.Tokenizer.from_str(tokenizer._tokenizer.to_str())
    known.encode_special_tokens = False
    return known.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("text", ["if x:\n    y", "a  b    c", "  ", "x      y", "<table>    a"])
def test_runs_of_spaces_are_spaces(marked, text):
    ids = marked.encode(text)
    assert ids == library_ids(marked, text)
    assert b"".join(map(marked.token_bytes, ids)) == text.encode() and marked.decode(ids) == text


def chat(tokenizer, source, content):
    names = {name: i for name, i in tokenizer.added_ids.items() if name.strip(" ▁") and name in source}
    template = ChatTemplate(source, tokenizer.control_ids | names, visible=frozenset(names))
    return tokenizer.encode_pieces(template.render([{"role": "user", "content": content}]))


TURN = "<|user|>\n{{ messages[0].content }}   <|end|>\n<|user|>\n<think>\nb"


@pytest.mark.parametrize("content", ["hello", "  a    b", "<table>  x", "", "    "])
def test_marks_take_the_white_space_beside_them(marked, content):
    """A chat has the ids that the library gives for its text."""
    assert chat(marked, TURN, content) == library_ids(marked, TURN.replace("{{ messages[0].content }}", content))


@pytest.mark.parametrize("content", ["<think>", "a<think>b</think>", "<|end|>", "x <|user|><think> y"])
def test_what_a_message_spells_out_is_no_mark(marked, content):
    """Neither marks that are special, nor those that the template writes; what it does not write is text."""
    source = TURN + "</think>"
    ids, names = chat(marked, source, content), marked.added_ids | marked.control_ids
    marks = [i for i in ids if i in names.values()]
    assert marks == [names[name] for name in ("<|user|>", "<|end|>", "<|user|>", "<think>", "</think>")]
    shown = {i: name.encode() for name, i in marked.control_ids.items()}
    text = b"".join(shown.get(i) or marked.token_bytes(i) for i in ids).decode()
    assert content.strip() in text


@given(st.lists(st.sampled_from(["<think>", "a", " ", "  ", "<table>", "\n", "b c", "    "]), max_size=8).map("".join))
def test_chats_are_encoded_as_the_library_does(content):
    tokenizer = marked_once()
    source = "<|user|>{{ messages[0].content }}<|end|>"  # without <think>, which is a token like any other here
    assert chat(tokenizer, source, content) == library_ids(tokenizer, f"<|user|>{content}<|end|>")


@functools.cache
def marked_once():
    """The tokenizer of the fixture `marked`, for tests that cannot have fixtures."""
    with tempfile.TemporaryDirectory() as folder:
        return marked.__wrapped__(SimpleNamespace(mktemp=lambda name: Path(folder)))


def test_vocab_json_with_merges(byte_level, tmp_path):
    """The two files of GPT-2's and Qwen 2's own form give the ids of the tokenizer.json that they belong to."""
    raw = json.loads(byte_level._tokenizer.to_str())
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in raw["model"]["merges"]]
    (tmp_path / "vocab.json").write_text(json.dumps(raw["model"]["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    known = byte_level.control_ids | byte_level.added_ids
    added = {str(token["id"]): token for token in raw["added_tokens"] if token["content"] in known}
    settings = {"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": added, "bos_token": "<|begin|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    read = load_tokenizer(tmp_path)
    for text in [*TEXTS, "the quick <tool_call> <|end|>"]:
        assert read.encode(text) == byte_level.encode(text)
    assert read.control_ids == byte_level.control_ids and read.added_ids == byte_level.added_ids
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}')
    with pytest.raises(ModelError, match=r"'RobertaTokenizer' is known with tokenizer\.json only"):
        load_tokenizer(tmp_path)


def test_tekken(tmp_path):
    """Mistral's own file: control tokens in front, then byte pieces; text never becomes a control token."""
    pytest.importorskip("tiktoken")
    pieces = [bytes([i]) for i in range(256)] + [b"he", b"hel", b"hell", b"hello", b" w"]
    vocab = [{"rank": i, "token_bytes": base64.b64encode(piece).decode()} for i, piece in enumerate(pieces)]
    config = {"pattern": r"\s?\S+|\s+", "default_vocab_size": 261 + 20, "default_num_special_tokens": 20}
    (tmp_path / "tekken.json").write_text(json.dumps({"config": config, "vocab": vocab}))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.control_ids["[INST]"] == 3 and tokenizer.bos_ids == (1,)
    assert tokenizer.encode("hello w") == [20 + 259, 20 + 260]
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert all(i >= 20 for i in tokenizer.encode("[INST]<s>"))
    (tmp_path / "tekken.json").write_text('{"config": {}}')
    with pytest.raises(ModelError, match=r"tekken\.json is no tekken\.json: KeyError"):
        load_tokenizer(tmp_path)


def test_a_spelled_mark_changes_nothing_around_it(tmp_path):
    """Only the first text of a chat gets a space in front, also where the user spells a mark out."""
    pieces = ["<unk>", "<s>", "▁", "a", "b", "<", "s", ">", "▁a"]
    bpe = models.BPE({piece: i for i, piece in enumerate(pieces)}, [("▁", "a")], unk_token="<unk>")
    library = tokenizers.Tokenizer(bpe)
    library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    library.add_special_tokens(["<s>"])
    ours = save(library, tmp_path, {})
    assert ours.encode_pieces(["a", 1, "a", 1, "b"]) == library.encode("a<s>a<s>b", add_special_tokens=False).ids
    assert ours.encode_pieces(["a", 1, "a<s>", 1, "b"]) == [8, 1, 3, 5, 6, 7, 1, 4]
    assert (ours.encode("a"), ours.encode("a", is_first=False)) == ([8], [3])


def test_a_mark_among_the_ordinary_pieces_is_not_read_from_text(tmp_path):
    pieces = ["<s>", "a", "<", "s", ">"]
    bpe = models.BPE({piece: i for i, piece in enumerate(pieces)}, [], ignore_merges=True)
    library = tokenizers.Tokenizer(bpe)
    library.add_special_tokens(["<s>"])
    ours = save(library, tmp_path, {})
    assert ours.encode("<s>") == [2, 3, 4]
    assert ours.encode_pieces([0, "<s>", 0]) == [0, 2, 3, 4, 0]


DECODERS = {
    "replace": decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
    "replace, first space": decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    ),
    "metaspace": decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never")]),
    "metaspace, first space": decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")]),
    "each piece": decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Replace(tokenizers.Regex("c|zz+"), "q"), decoders.ByteFallback(),
         decoders.Strip("y", 1, 0), decoders.Fuse()]
    ),
}  # fmt: skip


@functools.cache
def decoded_by(name):
    """A tokenizer of ours, and the library's, whose decoder is the named one."""
    pieces = ["<unk>", "<s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", *"abcxyz", "ay", "ya", "▁x", "xz"]
    merges = [("a", "y"), ("y", "a"), ("▁", "x"), ("x", "z")]
    bpe = models.BPE({p: i for i, p in enumerate(pieces)}, merges, byte_fallback=True, unk_token="<unk>")
    library = tokenizers.Tokenizer(bpe)
    prefix = [normalizers.Prepend("▁")] if "first space" in name else []
    library.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", "▁")])
    library.decoder = DECODERS[name]
    with tempfile.TemporaryDirectory() as folder:
        return save(library, Path(folder), {}), library


@pytest.mark.parametrize("name", DECODERS)
@given(st.text(st.one_of(st.sampled_from("abcxyz  "), st.characters(exclude_categories=["Cs"]))))
def test_pieces_are_what_the_library_s_decoder_makes_of_them(name, text):
    """Whole and streamed: joined, the pieces are the library's text."""
    ours, library = decoded_by(name)
    ids = ours.encode(text)
    assert ids == library.encode(text).ids
    content = b"".join(map(ours.token_bytes, ids))
    assert content.removeprefix(b" " if ours.strips_first_space else b"").decode() == library.decode(ids)
    detokenizer = Detokenizer()
    assert "".join([detokenizer.push(ours.token_bytes(i)) for i in ids] + [detokenizer.finish()]) == ours.decode(ids)


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        (decoders.WordPiece(), "decoder 'WordPiece' is not supported; supported: ByteFallback, ByteLevel, Fuse"),
        (decoders.BPEDecoder("</w>"), "decoder 'BPEDecoder' is not supported"),
        (decoders.Sequence([decoders.Fuse(), decoders.CTC()]), "decoder 'CTC' is not supported"),
        (decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 0, 1)]), "'Strip' of more than the first space"),
        (decoders.Sequence([decoders.Fuse(), decoders.Replace("ab", "c")]), r"'Replace' of {'String': 'ab'} behind"),
    ],
)
def test_decoders_that_need_more_than_one_piece_are_refused_by_name(tmp_path, decoder, words):
    library = tokenizers.Tokenizer(models.BPE({"a": 0}, []))
    library.decoder = decoder
    with pytest.raises(ModelError, match=words):
        save(library, tmp_path, {})


def test_models_of_whole_words_are_refused_by_name(tmp_path):
    library = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    with pytest.raises(ModelError, match="a model of type 'WordPiece' is not supported; supported: BPE, Unigram"):
        save(library, tmp_path, {})


def test_a_piece_outside_of_the_byte_alphabet_is_its_own_text(tmp_path):
    library = tokenizers.Tokenizer(models.BPE({"a": 0, "\u0120": 1, "<\uff5cx\uff5c>": 2}, []))
    library.decoder = decoders.ByteLevel()
    ours = save(library, tmp_path, {})
    assert ours.decode([0, 1, 2]) == library.decode([0, 1, 2]) == "a <\uff5cx\uff5c>"


ADDED = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
BESIDE = {
    "<|user|>": {"rstrip": True}, "<|end|>": {"lstrip": True}, "<think>": {"special": False},
    "WORD": {"single_word": True}, "<both>": {"lstrip": True, "rstrip": True, "special": False},
}  # fmt: skip


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """A sentencepiece model with tokens added beside it, and the library's tokenizer of the same marks."""
    spm = pytest.importorskip("sentencepiece")
    directory = tmp_path_factory.mktemp("beside")
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter([*CORPUS, "a WORD b"]), model_prefix=str(directory / "tokenizer"), vocab_size=340,
        model_type="bpe", byte_fallback=True, remove_extra_whitespaces=False, minloglevel=2,
        normalization_rule_name="identity",
    )  # fmt: skip
    added = {str(340 + i): ADDED | {"content": name} | flags for i, (name, flags) in enumerate(BESIDE.items())}
    settings = {"legacy": False, "added_tokens_decoder": added, "add_bos_token": False}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return load_tokenizer(directory)


def test_tokens_beside_sentencepiece_are_marks_or_text(beside):
    assert beside.vocab_size == 345
    assert beside.control_ids["<|user|>"] == 340 and beside.added_ids == {"<think>": 342, "<both>": 344}
    assert beside.token_bytes(342) == b"<think>" and beside.token_bytes(340) == beside.token_bytes(345) == b""
    assert beside.encode("a<think>b") == [*beside.encode("a"), 342, *beside.encode("b", is_first=False)]
    assert 340 not in beside.encode("<|user|> a")


@pytest.mark.parametrize(
    ("marked", "same"),
    [
        (["x", 340, "  \n a"], ["x", 340, "a"]),
        (["x \n", 341, " a"], ["x", 341, " a"]),
        ([" a  <both>  b"], [" a", 344, "b"]),
        ([340, "   ", 341], [340, 341]),
        (["a ", 343, " b"], ["a ", 343, " b"]),
        (["a", 343, " b"], ["aWORD b"]),
        (["a ", 343, "b ", 343], ["a WORDb ", 343]),
        ([340, 343, "2"], [340, "WORD2"]),
    ],
)
def test_marks_beside_sentencepiece_take_what_they_are_declared_to_take(beside, marked, same):
    expected, is_first = [], True
    for part in same:
        expected += [part] if isinstance(part, int) else beside.encode(part, is_first=is_first)
        is_first = False
    assert beside.encode_pieces(marked) == expected


def test_a_mark_that_is_a_single_word_is_text_beside_one(tmp_path):
    library = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate("WORD ab")}, []))
    library.add_special_tokens([tokenizers.AddedToken("WORD", single_word=True, special=True, normalized=False)])
    ours, mark = save(library, tmp_path, {}), library.token_to_id("WORD")
    for parts in (["a ", mark, " b"], ["a", mark, " b"], [mark, "b", mark], [mark, mark], [mark]):
        text = "".join(part if isinstance(part, str) else "WORD" for part in parts)
        assert ours.encode_pieces(parts) == library.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("is_special", [True, False])
def test_a_mark_that_the_library_does_not_find_is_the_text_of_its_name(tmp_path, is_special):
    """Of a `normalized` mark the library looks for the name in normal form: here one that begins with a space."""
    library = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate("▁ab<u>\n")}, []))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    add = library.add_special_tokens if is_special else library.add_tokens
    add([tokenizers.AddedToken("<u>", normalized=True, special=is_special)])
    library.add_special_tokens([tokenizers.AddedToken("<b>", normalized=False, special=True)])
    ours, mark, other = save(library, tmp_path, {}), library.token_to_id("<u>"), library.token_to_id("<b>")
    for parts in ([mark, "a"], ["a", mark, "b"], ["a ", mark, "b", mark], ["a", other, mark, mark, "a", other], [mark]):
        names = {mark: "<u>", other: "<b>"}
        text = "".join(part if isinstance(part, str) else names[part] for part in parts)
        assert ours.encode_pieces(parts) == library.encode(text, add_special_tokens=False).ids


def test_what_a_tokenizer_config_says_of_added_tokens_must_be_right(tmp_path, stories):
    shutil.copy(stories / "tokenizer.model", tmp_path)
    for added in ({"3": {"special": True}}, {"three": {"content": "a"}}, ["<a>"]):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
        with pytest.raises(ModelError, match="the added tokens cannot be read"):
            load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "added_tokens.json").write_text('{"<|im_start|>": 512, "<|im_end|>": 513}')
    loaded = load_tokenizer(tmp_path)
    assert loaded.control_ids["<|im_end|>"] == 513 and loaded.vocab_size == 514
