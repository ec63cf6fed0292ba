"""Fingerprints: equal where answers are, different where they may be."""

import shutil
from dataclasses import replace

import pytest

from verbatim.demo import MODEL
from verbatim.reference.checkpoint import model_source
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.records.told import told
from verbatim.server.engine import identity
from verbatim.server.models.served import load_served_model
from verbatim.server.settings.options import Options


def fingerprint(model=MODEL, **options) -> str:
    return load_served_model(Options(**{"backend": "reference", "device": "cpu", "model": model} | options)).fingerprint


@pytest.fixture
def copy(tmp_path):
    """The demo model elsewhere, under another name."""
    return shutil.copytree(MODEL, tmp_path / "elsewhere")


def test_it_names_version_and_forms():
    parts = fingerprint(quantization="w8a8", kv_cache_dtype="bfloat16").split("-")
    assert parts[:2] == ["verbatim", identity.own_version()] and parts[3:] == ["w8a8", "kv", "bfloat16"]
    assert len(parts[2]) == identity.DIGITS


def test_it_is_what_it_has_always_been(stories):
    """Clients compare fingerprints over time: a change of these is a change of the answers, or to be announced."""
    assert fingerprint(stories) == f"verbatim-{identity.own_version()}-e3e32ebe9ab9c753"


def test_the_demo_models_is_what_it_has_always_been():
    assert fingerprint() == f"verbatim-{identity.own_version()}-9c75ae46163b4483"


@pytest.mark.parametrize(
    "same",
    [
        {"backend": "fastpath"}, {"threads": 1}, {"speculative_mode": "ngram"}, {"prefix_cache_mode": "disable"},
        {"max_num_sequence": 3}, {"prefill_chunk_size": 16}, {"served_model_name": ("other",)}, {"device": "auto"},
    ],
)  # fmt: skip
def test_what_changes_no_bit_changes_no_fingerprint(copy, same):
    assert fingerprint(copy, **same) == fingerprint()


@pytest.mark.parametrize(
    "other",
    [
        {"context_window_size": 100}, {"max_total_seq_length": 128}, {"sliding_window_size": 64},
        {"tool_parser": "mistral"}, {"kv_cache_dtype": "float16"}, {"quantization": "w4a8"},
    ],
)  # fmt: skip
def test_what_may_change_an_answer_changes_the_fingerprint(other):
    assert fingerprint(**other) != fingerprint()


def test_a_template_of_ones_own(tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    assert fingerprint(chat_template=path) != fingerprint()


def test_a_field_that_came_later_counts_once_a_model_uses_it():
    """Fingerprints of models that do not use it stay what they were."""
    config = load_config(MODEL)
    assert "norm_type" not in told(config) and "query_bias=False" in told(config)
    assert told(config).startswith("ModelConfig(family='llama', vocab_size=896,")
    changed = replace(config, norm_type="layer")
    assert "norm_type='layer'" in told(changed) and told(changed) != told(config)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer_config.json", "config.json"])
def test_every_file_counts(copy, name):
    path = copy / name
    content = bytearray(path.read_bytes())
    if name == "model.safetensors":
        content[-1] ^= 1
    else:
        content += b" "
    try:
        path.write_bytes(content)
        assert fingerprint(copy) != fingerprint()
    finally:
        shutil.rmtree(copy)


def test_of_large_models_blocks_from_end_to_end_are_read(copy, monkeypatch):
    """A training that moves every weight shows, though not all are read."""
    monkeypatch.setattr(model_source, "READ_BYTES", 1 << 20)
    before, path = fingerprint(copy), copy / "model.safetensors"
    content = path.read_bytes()
    assert len(content) > 4 << 20
    header = 8 + int.from_bytes(content[:8], "little")
    for part in range(4):  # a quarter of the weights moves
        size = (len(content) - header) // 4
        start = header + part * size
        moved = bytes(byte ^ 1 for byte in content[start : start + size])
        path.write_bytes(content[:start] + moved + content[start + size :])
        assert fingerprint(copy) != before
