"""LoRA adapters on disk: what is read of them, and that a bad one is refused with one line that names what is wrong."""

import json
import time

import numpy as np
import pytest

from family_models import write_family
from lora_adapters import ATTENTION, shapes_in, write_adapter
from small_models import SMALL, tensor_shapes, write_model, write_safetensors
from verbatim.reference.checkpoint.lora.adapter import open_adapter
from verbatim.reference.checkpoint.lora.base_name import other_base
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.records.errors import ModelError
from verbatim.server.engine.memory import estimate
from verbatim.server.settings.options import Options

SHAPES = tensor_shapes(SMALL)
P = "base_model.model."
Q, K = f"{P}model.layers.0.self_attn.q_proj.lora_", f"{P}model.layers.1.self_attn.k_proj.lora_"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return open_source(write_model(tmp_path_factory.mktemp("model"))).config()


def refusal(directory, config):
    """The one line that refuses an adapter; it names the directory."""
    began = time.monotonic()
    with pytest.raises(ModelError) as error:
        open_adapter(directory, config)
    text = str(error.value)
    assert time.monotonic() - began < 5
    assert "\n" not in text and str(directory) in text and len(text) < 1200
    return text


PREFIXES = {"causal": f"{P}model.", "headless": P, "without peft": "model.", "multimodal": f"{P}model.language_model."}


@pytest.mark.parametrize("name", PREFIXES)
def test_prefixes_of_names(tmp_path, config, name):
    shapes = {name.removeprefix("model."): shape for name, shape in SHAPES.items()}
    write_adapter(tmp_path, shapes, prefix=PREFIXES[name])
    everything = ["down", "gate", "key", "output", "query", "up", "value"]
    assert [sorted(layer) for layer in open_adapter(tmp_path, config).layers] == [everything, everything]


def test_the_key_is_that_of_the_content(tmp_path, config):
    keys = []
    for place, changes in (("a", {}), ("b", {}), ("c", {"alpha": 9.0}), ("d", {"seed": 1})):
        write_adapter(tmp_path / place, SHAPES, **changes)
        keys.append(open_adapter(tmp_path / place, config).key)
    assert keys[0] == keys[1] and len(set(keys)) == 3 and len(keys[0]) == 64


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"target_modules": "all-linear"}, [7, 7]),
        ({"target_modules": r".*\.(q|k)_proj", "modules": ATTENTION[:2]}, [2, 2]),
        ({"target_modules": ["self_attn.q_proj", "c_attn"], "modules": ATTENTION[:1]}, [1, 1]),
        ({"target_modules": ["q_proj", "mlp.up_proj"], "exclude_modules": ["layers.0.self_attn.q_proj"]}, None),
        ({"layers_to_transform": 1, "modules": ATTENTION}, None),
        ({"fan_in_fan_out": True, "loftq_config": {"loftq_bits": 4}, "lora_bias": False}, [7, 7]),
    ],
)
def test_target_modules(tmp_path, config, changes, wanted):
    tensors = write_adapter(tmp_path, SHAPES, **changes)
    if wanted is None:  # the file has modules that the settings leave out
        assert "is not among target_modules" in refusal(tmp_path, config)
        left = [name for name in tensors if "layers.1." in name or ("up_proj" in name and "exclude_modules" in changes)]
        left = [n for n in left if "exclude_modules" not in changes or "q_proj" in n or "up_proj" in n]
        write_safetensors(tmp_path / "adapter_model.safetensors", {name: tensors[name] for name in left}, "F32")
        wanted = [1, 2] if "exclude_modules" in changes else [0, 4]
    assert [len(layer) for layer in open_adapter(tmp_path, config).layers] == wanted


REFUSED = {
    "use_dora": (True, "is DoRA"),
    "bias": ("all", "trained biases"),
    "modules_to_save": (["lm_head"], "whole modules"),
    "trainable_token_indices": ([1], "trained tokens"),
    "target_parameters": (["mlp.experts.up"], "experts"),
    "peft_type": ("IA3", "supported is 'LORA'"),
    "init_lora_weights": ("pissa_niter_4", "path_initial_model_for_weight_conversion"),
    "a_thing_of_the_future": (7, "a_thing_of_the_future = 7 is not known here"),
    "r": (0, "r must be an integer from 1"),
    "lora_alpha": ("x", "lora_alpha must be a number"),
    "use_rslora": ("yes", "use_rslora must be true or false"),
    "rank_pattern": ([1], "rank_pattern must be an object"),
    "alpha_pattern": ({"q_proj": None}, "alpha_pattern must be a number"),
    "target_modules": ([1], "target_modules must be a list of names"),
    "layers_to_transform": ([-1], "layers_to_transform must be numbers of layers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_are_refused_by_name(tmp_path, config, name):
    value, message = REFUSED[name]
    write_adapter(tmp_path, SHAPES, **{name: value})
    assert message in refusal(tmp_path, config)


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(.*)*x", ".*.*.*.*.*x", "((x", "x" * 300, r"(?:\w|\w)*", "a{1,99}{1,99}"]
)
def test_expressions_that_take_for_ever_are_refused(tmp_path, config, pattern):
    write_adapter(tmp_path, SHAPES, alpha_pattern={pattern: 1.0})
    assert "alpha_pattern has the expression" in refusal(tmp_path, config)


def change(tensors, name, values):
    return {key: values if key == name else array for key, array in tensors.items()}


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


EDITS = {  # of the tensors, and words of the line that refuses what they become
    "no B": (lambda t: {k: v for k, v in t.items() if k != f"{Q}B.weight"}, "q_proj.lora_B.weight is missing"),
    "no pair": (
        lambda t: {k: v for k, v in t.items() if not k.startswith(K)},
        "names module layers.1.self_attn.k_proj",
    ),
    "another rank": (lambda t: t | {f"{Q}A.weight": zeros(5, 48)}, "has shape (5, 48); the model and"),
    "another model": (lambda t: t | {f"{Q}B.weight": zeros(72, 4)}, "(72, 4); the model and adapter_config.json (r, "),
    "three axes": (lambda t: t | {f"{Q}B.weight": zeros(64, 4, 1)}, "rank_pattern) require (64, 4)"),
    "not finite": (lambda t: t | {f"{Q}A.weight": zeros(4, 48) + np.nan}, "NaN or infinite"),
    "integers": (lambda t: t | {f"{Q}A.weight": zeros(4, 48, dtype=np.uint8)}, "is stored as U8, not as F32"),
    "the head": (lambda t: t | {f"{P}lm_head.lora_A.weight": zeros(4, 48)}, "module lm_head is none that an adapter"),
    "DoRA": (lambda t: t | {f"{Q}magnitude_vector": zeros(4)}, "is none of a LoRA matrix"),
    "embedding": (lambda t: t | {f"{P}embed.base_layer.weight": zeros(4)}, "is a trained embedding or head"),
    "layer 7": (lambda t: t | {Q.replace(".0.", ".7.") + "A.weight": zeros(4, 48)}, "of layers 0 to 1; or merge it"),
    "twice": (lambda t: t | {f"{Q}A.default.weight": zeros(4, 48)}, "are the same matrix"),
    "nothing": (lambda t: {}, "holds no tensors"),
}


@pytest.mark.parametrize("name", EDITS)
def test_tensors_are_checked_against_the_model(tmp_path, config, name):
    edit, message = EDITS[name]
    write_safetensors(tmp_path / "adapter_model.safetensors", edit(write_adapter(tmp_path, SHAPES)), "F32")
    assert message in refusal(tmp_path, config)


def test_experts_cannot_have_one(tmp_path):
    directory = write_family(tmp_path / "model", "qwen2_moe")
    modules = ("experts.1.up_proj", "mlp.gate", "shared_expert.down_proj")
    for module in modules:
        write_adapter(tmp_path / module, shapes_in(directory), modules=(module,), target_modules="all-linear")
        assert "experts and their router cannot have one" in refusal(tmp_path / module, open_source(directory).config())


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("adapter_config.json", b"[]", "must hold a JSON object"),
        ("adapter_config.json", b"{" * 100000, "cannot be read as JSON"),
        ("adapter_config.json", b'{"r": ' + b"9" * 10000 + b"}", "cannot be read as JSON"),
        ("adapter_model.safetensors", b"", "cannot be read"),
        ("adapter_model.safetensors", b"\xff" * 64, "truncated or not a safetensors file"),
        ("adapter_model.safetensors", (50).to_bytes(8, "little") + b"[" * 50, "damaged header"),
        ("adapter_model.safetensors", (2).to_bytes(8, "little") + b"[]", "damaged header"),
        ("adapter_model.safetensors", (11).to_bytes(8, "little") + b'{"a": null}', "damaged"),
        ("adapter_model.safetensors", (100000).to_bytes(8, "little") + b"[" * 100000, "damaged header"),
    ],
)
def test_damaged_files(tmp_path, config, file, content, message):
    write_adapter(tmp_path, SHAPES)
    (tmp_path / file).write_bytes(content)
    assert message in refusal(tmp_path, config)


def test_what_is_no_adapter_at_all(tmp_path, config):
    write_adapter(tmp_path / "pickled", SHAPES)
    (tmp_path / "pickled" / "adapter_model.safetensors").rename(tmp_path / "pickled" / "adapter_model.bin")
    assert "pickled weights (adapter_model.bin)" in refusal(tmp_path / "pickled", config)
    write_model(tmp_path / "model")
    assert "has no adapter_config.json" in refusal(tmp_path / "model", config)
    assert "does not exist: give a directory" in refusal(tmp_path / "nowhere", config)
    entry = {"dtype": "F32", "shape": [1 << 40, 1 << 20], "data_offsets": [0, 8]}
    header = json.dumps({f"{Q}A.weight": entry}).encode()
    (tmp_path / "pickled" / "adapter_model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + b"0" * 8
    )
    assert "has 8 bytes" in refusal(tmp_path / "pickled", config)


@pytest.mark.parametrize(
    ("base", "names", "is_other"),
    [
        ("Qwen/Qwen3-8B", ["Qwen3-8B-AWQ"], False),
        ("Qwen/Qwen3-8B", ["qwen", "Qwen3-4B"], True),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", ["Llama-3.1-8B-Instruct-GGUF"], False),
        ("meta-llama/Llama-3.1-8B", ["Qwen3-8B"], True),
        ("google/gemma-3-270m-it", ["model"], False),
        ("./checkpoint-500", ["Qwen3-8B"], False),
        ("/data/Mixtral-8x7B-v0.1/", ["Mixtral-8x22B-Instruct"], True),
        (None, ["Qwen3-8B"], False),
    ],
)
def test_a_base_that_is_plainly_another_model_is_told(base, names, is_other):
    assert other_base(base, names) == (base if is_other else None)


def test_the_memory_plan_counts_adapters(tmp_path, config):
    model = write_model(tmp_path / "model")
    write_adapter(tmp_path / "adapter", SHAPES, rank=4, modules=ATTENTION)
    size = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    plain = estimate(Options(model=model), config, 2, 16)
    twice = tuple(f"{name}={tmp_path / 'adapter'}" for name in ("a", "b"))  # the same files are loaded once
    found = estimate(Options(model=model, lora=twice), config, 2, 16)
    assert 0.5 * size < found.weights - plain.weights <= size
    assert found.scratch - plain.scratch == 4 * 16 * 3 * 4
