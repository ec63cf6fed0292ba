"""GGUF files that are truncated, damaged, or made to do harm: one line of error, quickly, in little memory."""

import os
import struct
import time
import tracemalloc

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_models import STORIES, story_words, write_gguf
from small_models import write_model
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.records.errors import ModelError

MOST_SECONDS, MOST_BYTES = 5, 48 << 20
HUGE = (1 << 62).to_bytes(8, "little")


def opened(path):
    """All that a server reads of a model but the products."""
    read_all(open_source(path))


def read_all(source):
    config = source.config()
    open_checkpoint(config, source.weights())
    tokenizer = source.tokenizer()
    source.chat_template(tokenizer)
    source.pooling()
    source.generation_defaults()


def refused(path, *words):
    """The error's single line, in time and in memory."""
    tracemalloc.start()
    begun = time.monotonic()
    try:
        with pytest.raises(ModelError) as error:
            opened(path)
        assert time.monotonic() - begun < MOST_SECONDS
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    line = str(error.value)
    assert "\n" not in line and len(line) < 1000
    assert all(word in line for word in words), line


def text(content):
    content = content if isinstance(content, bytes) else content.encode()
    return len(content).to_bytes(8, "little") + content


def entry(name, type_, value):
    return text(name) + struct.pack("<I", type_) + value


def header(*entries, tensors=(), magic=b"GGUF", version=3, num_tensors=None, num_entries=None):
    counts = len(tensors) if num_tensors is None else num_tensors, len(entries) if num_entries is None else num_entries
    return magic + struct.pack("<IQQ", version, *counts) + b"".join([*entries, *tensors])


def tensor(name="a", shape=(32,), type_=0, offset=0):
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, type_, offset)


ARCHITECTURE = entry("general.architecture", 8, text("llama"))
DAMAGED = {
    "empty": (b"", "cannot be read"),
    "another format": (b"PK\3\4" + bytes(100), "does not begin with GGUF"),
    "cut in the version": (b"GGUF\3", "truncated or damaged"),
    "version 1": (header(version=1), "version 1 of GGUF is not supported"),
    "big-endian": (header(version=3 << 24), "big-endian"),
    "2^62 tensors": (header(num_tensors=1 << 62), "it has 4611686018427387904 tensors"),
    "2^62 entries": (header(num_entries=1 << 62), "entries of metadata"),
    "more entries than there are": (header(num_entries=5), "does not end within"),
    "a name of 2^62 bytes": (header(HUGE + b"abc", num_entries=1), "a text of 4611686018427387904 bytes"),
    "a text of 2^62 bytes": (header(entry("a", 8, HUGE)), "a text of 4611686018427387904 bytes"),
    "a text beyond the end": (header(entry("a", 8, struct.pack("<Q", 1000))), "does not end within"),
    "a text that is not UTF-8": (header(entry("a", 8, text(b"\xff\xfe"))), "is not UTF-8"),
    "an unknown type": (header(entry("a", 13, bytes(8))), "has the type 13"),
    "an array of 2^62": (header(entry("a", 9, struct.pack("<I", 0) + HUGE)), "has 4611686018427387904 elements"),
    "an array beyond the end": (header(entry("a", 9, struct.pack("<IQ", 12, 1 << 20))), "does not end within"),
    "arrays within arrays": (header(entry("a", 9, struct.pack("<IQ", 9, 1) * 5000)), "array of the type 9"),
    "an array of no type": (header(entry("a", 9, struct.pack("<IQ", 77, 1))), "array of the type 77"),
    "the same name twice": (header(ARCHITECTURE, ARCHITECTURE), "general.architecture is there twice"),
    "a tensor of no dimension": (header(tensors=[tensor(shape=())]), "has 0 dimensions"),
    "a tensor of 2^31 dimensions": (header(tensors=[text("a") + struct.pack("<I", 1 << 31)]), "2147483648 dimensions"),
    "a tensor of nothing": (header(tensors=[tensor(shape=(0, 4))]), "has the shape (4, 0)"),
    "a tensor of 2^63 by 2^63": (header(tensors=[tensor(shape=(1 << 63, 1 << 63))]), "has the shape"),
    "a tensor of an unknown type": (header(tensors=[tensor(type_=99)]), "stored as type 99; supported: F32"),
    "a tensor of a type without products": (header(tensors=[tensor(type_=16)]), "stored as IQ2_XXS; supported: F32"),
    "rows that are no blocks": (header(tensors=[tensor(shape=(33, 2), type_=8)]), "rows of 33"),
    "an offset between": (header(tensors=[tensor(offset=1)]) + bytes(999), "no multiple of 32"),
    "a tensor beyond the end": (header(tensors=[tensor(offset=1 << 40)]), "is truncated"),
    "an offset that wraps around": (header(tensors=[tensor(offset=(1 << 64) - 32)]), "is truncated"),
    "tensors upon each other": (
        header(tensors=[tensor("a", (64,)), tensor("b", (64,), offset=128)]) + bytes(999), "b lies upon tensor a"
    ),
    "the same tensor twice": (
        header(tensors=[tensor("a"), tensor("a", offset=128)]) + bytes(999), "tensor a is there twice"
    ),
    "an alignment of 0": (
        header(entry("general.alignment", 4, bytes(4)), tensors=[tensor()]) + bytes(999), "general.alignment must be"
    ),
    "an alignment that is a text": (
        header(entry("general.alignment", 8, text("32")), tensors=[tensor()]) + bytes(999), "general.alignment must be"
    ),
    "no architecture": (header(), "general.architecture '' is not supported"),
    "an unknown architecture": (header(entry("general.architecture", 8, text("mamba"))), "'mamba' is not supported"),
    "an architecture that is a number": (header(entry("general.architecture", 4, bytes(4))), "'0' is not supported"),
    "nothing but an architecture": (header(ARCHITECTURE), "llama.block_count"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_header_is_refused(tmp_path, name):
    content, *words = DAMAGED[name]
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    refused(path, *words)


def test_texts_are_counted_over_all_lists(tmp_path, monkeypatch):
    monkeypatch.setattr("verbatim.reference.checkpoint.gguf.header.MAX_ELEMENTS", 10)
    six = struct.pack("<IQ", 8, 6) + text("") * 6
    path = tmp_path / "m.gguf"
    path.write_bytes(header(entry("a", 9, six), entry("b", 9, six)))
    refused(path, "its lists have 12 texts, above 10")


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "self.gguf").symlink_to(tmp_path / "self.gguf")
    os.mkfifo(tmp_path / "pipe.gguf")
    refused(tmp_path / "none.gguf", "does not exist")
    refused(tmp_path / "pipe.gguf", "is no file")
    with pytest.raises(ModelError, match=r"self.gguf"):
        opened(tmp_path / "self.gguf")
    (tmp_path / "m-00001-of-99999.gguf").write_bytes(b"GGUF")
    refused(tmp_path / "m-00001-of-99999.gguf", "has 1 to 1000 parts")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "story.gguf"
    return write_gguf(path, STORIES, "Q4_0", vocabulary=story_words).read_bytes()


@pytest.mark.parametrize("share", [0.001, 0.02, 0.05, 0.5, 0.9999])
def test_a_truncated_file_is_refused(tmp_path, whole, share):
    path = tmp_path / "m.gguf"
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(path, "truncated")


def test_a_scale_that_is_no_number_is_refused(tmp_path):
    file = write_gguf(tmp_path / "m.gguf", write_model(tmp_path / "m", hidden_size=64), "Q8_0")
    place = next(t for t in gguf.GGUFReader(file).tensors if t.name == "blk.1.attn_k.weight").data_offset
    content = bytearray(file.read_bytes())
    content[place : place + 2] = np.float16("nan").tobytes()
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"layers.1.self_attn.k_proj.weight holds NaN or infinite values"):
        source = open_source(file)
        open_checkpoint(source.config(), source.weights())


WRONG = (
    -1,
    0,
    1 << 40,
    2.5,
    float("nan"),
    True,
    "text",
    "",
    [],
    ["a", "b"],
    np.arange(3),
    np.zeros(512),
    np.zeros(0, "?"),
)
NAMES = (
    "llama.context_length", "llama.attention.key_length", "llama.rope.dimension_count", "llama.rope.scaling.type",
    "llama.rope.scaling.factor", "llama.expert_count", "llama.feed_forward_length", "llama.attention.causal",
    "llama.pooling_type", "llama.attention.layer_norm_rms_epsilon", "tokenizer.chat_template",
    "tokenizer.chat_templates", "tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.scores",
    "tokenizer.ggml.token_type", "tokenizer.ggml.merges", "tokenizer.ggml.pre", "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id", "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_space_prefix", "general.sampling.temp", "general.sampling.top_k", "general.architecture",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", ["llama", "gpt2"])
def test_metadata_of_a_wrong_type_is_used_or_refused_in_a_line(tmp_path, whole, name, model):
    path = tmp_path / "m.gguf"
    path.write_bytes(whole)
    for value in WRONG:
        source = open_source(path)
        found = source._opened[0]
        found.values = found.values | {"tokenizer.ggml.model": model, "tokenizer.ggml.merges": ["a b"]} | {name: value}
        found.values.setdefault("tokenizer.ggml.pre", "gpt-2")
        try:
            read_all(source)
        except ModelError as error:
            assert "\n" not in str(error), (name, value)


@settings(deadline=None, max_examples=150, print_blob=True)
@given(st.data())
def test_any_bytes_in_the_header_are_read_or_refused(whole, tmp_path_factory, data):
    """Some bytes anywhere before the weights become others: a ModelError, or a model."""
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, 900), st.integers(0, 16000)))
        content[at] = data.draw(st.one_of(st.sampled_from([0, 1, 127, 128, 255]), st.integers(0, 255)))
    path = tmp_path_factory.getbasetemp() / "any.gguf"
    path.write_bytes(content)
    try:
        opened(path)
    except ModelError as error:
        assert "\n" not in str(error)
