"""Model directories that come from anywhere: whatever they say, one line, in seconds, and little memory."""

import contextlib
import json
import os
import resource
import time

import pytest

from small_models import write_chat_model
from verbatim.reference import backend as reference
from verbatim.reference.engine import loading
from verbatim.reference.records.errors import ModelError
from verbatim.server.models.served import load_served_model
from verbatim.server.settings.options import Options

EMBEDDING = "model.embed_tokens.weight"
DEEP, WIDE = "[" * 200_000, '{"a":[' + "[]," * 600_000 + "1]}"
MAX_SECONDS, MAX_GROWTH = 2, 1 << 20  # of the processor, KiB


def with_text(name, text):
    return lambda directory: (directory / name).write_text(text)


def with_file(name, make):
    def change(directory):
        (directory / name).unlink(missing_ok=True)
        make(directory / name)

    return change


def with_size(path):
    with path.open("wb") as file:
        file.truncate(40 << 30)  # of holes


def with_config(**changes):
    def change(directory):
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def with_header(edit):
    def change(directory):
        path = directory / "model.safetensors"
        content = path.read_bytes()
        size = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:size])
        edit(header)
        encoded = json.dumps(header).encode()
        path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + content[size:])

    return change


def onto_the_next_layer(header):
    name = "model.layers.{}.self_attn.q_proj.weight"
    header[name.format(0)] |= {"data_offsets": header[name.format(1)]["data_offsets"]}


CASES = {
    "deep config": (with_text("config.json", DEEP), "cannot be read as JSON: maximum recursion depth"),
    "wide config": (with_text("config.json", WIDE), "600002 lists and objects; at most 524288"),
    "deep words": (with_text("tokenizer_config.json", '{"a":' * 100_000), "cannot be read as JSON"),
    "long number": (with_text("config.json", '{"vocab_size":' + "9" * 100_000 + "}"), "cannot be read as JSON"),
    "pipe": (with_file("generation_config.json", os.mkfifo), "is no ordinary file"),
    "device": (with_file("config.json", lambda path: path.symlink_to("/dev/zero")), "is no ordinary file"),
    "loop": (with_file("config.json", lambda path: path.symlink_to(path.name)), "cannot be read"),
    "directory": (with_file("tokenizer.model", lambda path: path.mkdir()), "cannot be read"),
    "giant text": (with_file("chat_template.jinja", with_size), "42949672960 bytes; at most 4194304"),
    "giant weights": (with_file("model.safetensors", with_size), "its header has 0 bytes"),
    "no words": (with_text("tokenizer.model", ""), "its tokenizer cannot be read: RuntimeError"),
    "overlap": (with_header(onto_the_next_layer), r"layers\.[01]\.self_attn\.q_proj\.weight overlap"),
    "no header": (with_text("model.safetensors", "\x02\0\0\0\0\0\0\0[]"), "it is no object"),
    "huge shape": (with_header(lambda header: header[EMBEDDING].update(shape=[2**62, 2**62])), "bytes, F32"),
    "many dimensions": (with_header(lambda header: header[EMBEDDING].update(shape=[1] * 100_000)), "is damaged"),
    "no number": (with_config(rms_norm_eps=float("nan")), "rms_norm_eps must be a number above 0"),
    "layers": (with_config(num_hidden_layers=10**9), "num_hidden_layers must be at most 10000"),
    "many layers": (with_config(num_hidden_layers=9999), r"tensor model\.layers\.2\..* is missing"),
    "index": (with_text("model.safetensors.index.json", '{"weight_map": {"a": ["b"]}}'), "cannot be read: TypeError"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_directory_is_one_line(tmp_path, case):
    change, expected = CASES[case]
    directory = write_chat_model(tmp_path / "model")
    change(directory)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ModelError, match=expected) as refusal:
        reference.load_engine(directory)
    with contextlib.suppress(ModelError):  # of what lies in weights alone a worker knows nothing
        load_served_model(Options(model=directory, backend="reference"))
    assert time.process_time() - start < 2 * MAX_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_GROWTH
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("changes", [{}, {"model_type": "mistral", "sliding_window": 64}])
def test_a_context_without_end_takes_no_memory(tmp_path, monkeypatch, changes):
    """The cache, and the tables of positions, have the size that the memory has, or that somebody has given."""
    monkeypatch.setattr(loading, "MOST_TOKENS", 1 << 14)
    architectures = ["MistralForCausalLM" if changes else "LlamaForCausalLM"]
    directory = write_chat_model(
        tmp_path / "model", max_position_embeddings=2**31 - 1, architectures=architectures, **changes
    )
    engine = reference.load_engine(directory)
    assert engine.context_size == 1 << 14
    assert all(len(table[0]) == 1 << 14 for table in engine.model.tables.values())
