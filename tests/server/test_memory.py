"""What is worked out from the memory that is free: the three modes, what the user says, and what does not fit."""

import numpy as np
import pytest

from family_models import write_family
from live_server import is_built
from small_models import write_chat_model, write_safetensors
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.checkpoint.source import open_source
from verbatim.server.engine.backends import load_engine
from verbatim.server.engine.cgroups import rest_of_limits
from verbatim.server.engine.memory import SHARE, estimate, fit_all, free_bytes
from verbatim.server.errors import NotEnoughMemoryError
from verbatim.server.settings.options import Options

GIB = 1 << 30
LONG = 131072


@pytest.fixture
def model(tmp_path):
    return write_chat_model(tmp_path / "long", max_position_embeddings=LONG)


def fitted(model, free=8 * GIB, **options):
    [options] = fit_all([(Options(model=model, **options), load_config(model))], free)
    return options.max_num_sequence, options.max_total_seq_length, options.prefill_chunk_size


def test_each_mode_without_want_of_memory(model):
    assert fitted(model) == (4, 8192, 512)
    assert fitted(model, mode="interactive") == (1, LONG, 512)
    assert fitted(model, 1 << 50, mode="server") == (128, 128 * LONG, 512)


def test_what_the_user_says_counts(model):
    assert fitted(model, mode="server", max_num_sequence=3, max_total_seq_length=5000, prefill_chunk_size=64) == (
        3, 5000, 64,
    )  # fmt: skip
    assert fitted(model, max_num_sequence=600) == (600, 8192, 600)
    assert fitted(model, max_total_seq_length=100) == (4, 100, 100)


def test_the_cache_takes_what_the_rest_leaves(model):
    for free in (GIB, 2 * GIB):
        sequences, total, chunk = fitted(model, free, mode="server")
        needs = estimate(Options(model=model), load_config(model), sequences, chunk)
        used = needs.weights + needs.scratch + total * needs.token
        assert used <= SHARE * free < used + needs.token
    assert fitted(model, 2 * GIB, mode="server", prefill_chunk_size=8192)[1] < total


@pytest.mark.parametrize("stem", ["language_model.model.", "model.language_model."])
def test_of_a_multimodal_model_the_text_part_counts(tmp_path, stem):
    """Its embedding is the head, too, and the image part is not loaded."""
    plain = write_family(tmp_path / "plain", "ministral3")
    other = write_family(tmp_path / "other", "ministral3", stem=stem)
    stored = {name: tensor.float32() for name, tensor in open_source(other).tensors().items()}
    write_safetensors(
        other / "model.safetensors", stored | {"vision_tower.patch": np.ones((64, 64), np.float32)}, "F32"
    )
    needs = [estimate(Options(model=path), load_config(path), 4, 512).weights for path in (plain, other)]
    assert needs[0] == needs[1]


def test_weights_are_as_wide_as_the_backend_holds_them(model):
    config = load_config(model)
    num_weights = config.num_layers * (48 * 64 * 2 + 48 * 32 * 2 + 3 * 48 * 80) + config.vocab_size * 48

    embedded = config.vocab_size * 48 * 4  # float32 in the file, and rows of it are taken as they are

    def weights(**options):
        return estimate(Options(model=model, **options), config, 4, 512).weights - embedded

    assert 4 * num_weights < weights(backend="reference") < 4.02 * num_weights
    eight = weights(backend="fastpath", quantization="w8a8")
    four = weights(backend="fastpath", quantization="w4a8")
    assert num_weights < eight < 1.1 * num_weights
    assert weights(backend="reference", quantization="w4a8") == eight
    assert eight - four == pytest.approx(num_weights / 2, rel=0.01)


def test_narrower_pages_take_half_the_room(model):
    draft = write_chat_model(model.parent / "small", num_hidden_layers=1)
    speculating = {"model": model, "speculative_mode": "small_draft", "additional_models": (draft,)}
    wide, narrow = (
        estimate(Options(**speculating, kv_cache_dtype=dtype), load_config(model), 4, 512)
        for dtype in ("float32", "bfloat16")
    )
    assert (wide.token, wide.weights, wide.scratch) == (2 * narrow.token, narrow.weights, narrow.scratch)
    assert fitted(model, GIB, mode="server", kv_cache_dtype="float16")[1] > 1.99 * fitted(model, GIB, mode="server")[1]


def test_the_engine_stores_what_was_asked_for(model):
    for dtype in ("float32", "float16"):
        assert load_engine(Options(backend="reference", model=model, kv_cache_dtype=dtype)).cache.dtype == dtype


def test_speculation_needs_memory_too(model):
    draft = write_chat_model(model.parent / "draft", num_hidden_layers=1)
    alone = estimate(Options(model=model), load_config(model), 4, 512)
    speculating = Options(model=model, speculative_mode="small_draft", additional_models=(draft,))
    both = estimate(speculating, load_config(model), 4, 512)
    assert both.weights > alone.weights
    assert both.token == alone.token * 3 // 2  # two layers, and one of the draft's


def test_what_does_not_fit_is_refused_with_every_part(model):
    with pytest.raises(NotEnoughMemoryError) as caught:
        fitted(model, GIB, max_total_seq_length=10**9)
    for word in (
        "weights 0.",
        "1000000000 tokens 4",
        "scratch 0.",
        "85% of the free 1.00 GiB",
        "--max-total-seq-length",
    ):
        assert word in str(caught.value)
    with pytest.raises(NotEnoughMemoryError, match="--quantization"):
        fitted(model, 100 << 20)
    with pytest.raises(ValueError, match=r"--prefill-chunk-size must be at least --max-num-sequence \(64\).*not 32"):
        fitted(model, max_num_sequence=64, prefill_chunk_size=32)


def test_the_machine_has_memory():
    assert 1 << 20 < free_bytes() < 1 << 50


def test_the_engine_gets_what_was_worked_out(start, model):
    if reason := is_built("fastpath"):
        pytest.skip(reason)
    server = start("fastpath", "--model", str(model), "--mode", "interactive").wait_ready()
    assert server.health()["total_pages"] == LONG // 16
    assert server.http.get("/v1/models").json()["data"][0]["max_model_len"] == LONG


def group(folder, **files):
    """Write a control group's files; a double underscore stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def test_limits_of_all_control_groups_above_a_process_count(tmp_path):
    """Version 2: a systemd unit in a slice; the innermost group has no limit, an outer one has."""
    own, membership = tmp_path / "a.slice" / "b.service", tmp_path / "cgroup"
    membership.write_text("0::/a.slice/b.service\n")
    group(own, memory__max="max", memory__current=1 * GIB)
    group(
        tmp_path / "a.slice", memory__max=4 * GIB, memory__current=3 * GIB, memory__stat=f"anon 5\ninactive_file {GIB}"
    )
    assert list(rest_of_limits(tmp_path, membership)) == [2 * GIB]
    group(own, memory__max=1 * GIB, memory__current=2 * GIB)
    assert min(rest_of_limits(tmp_path, membership)) == 0


def test_limits_of_control_groups_of_version_1(tmp_path):
    membership = tmp_path / "cgroup"
    membership.write_text("5:devices:/\n4:cpu,memory:/job/7\n0::/\n")
    group(tmp_path / "memory" / "job" / "7", memory__limit_in_bytes=3 * GIB, memory__usage_in_bytes=GIB)
    group(tmp_path / "memory" / "job", memory__limit_in_bytes=(1 << 63) - 4096, memory__usage_in_bytes=GIB)
    assert min(rest_of_limits(tmp_path, membership)) == 2 * GIB


@pytest.mark.parametrize("text", ["0::/../../x\n", "0::/gone\n", "4:memory:/gone\n", ""])
def test_a_container_sees_its_own_group_as_the_root(tmp_path, text):
    membership = tmp_path / "cgroup"
    membership.write_text(text)
    for folder in (tmp_path, tmp_path / "memory"):
        group(folder, memory__max=2 * GIB, memory__current=GIB, memory__limit_in_bytes=2 * GIB)
        group(folder, memory__usage_in_bytes=GIB)
    assert list(rest_of_limits(tmp_path, membership)) == ([GIB] if text else [])
    assert list(rest_of_limits(tmp_path, tmp_path / "no such file")) == []
