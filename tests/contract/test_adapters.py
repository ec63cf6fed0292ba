"""LoRA adapters: what they add, and that a row depends on its own adapter alone (N13)."""

from functools import partial

import numpy as np
import pytest

from family_models import write_family
from lora_adapters import ATTENTION, NETWORK, merged, shapes_in, write_adapter
from small_models import SMALL, random_tensors, tensor_shapes, write_model, write_safetensors
from verbatim.reference.checkpoint.lora.adapter import open_adapter
from verbatim.reference.checkpoint.weights import map_file
from verbatim.reference.records.sequence import Chunk

IDS = tuple(int(i) for i in np.random.default_rng(7).integers(0, 96, 60))
SHAPES = tensor_shapes(SMALL)


def run(part, model, ids=IDS, adapter="", size=60):
    """Logits of all tokens, `size` of them at a time."""
    cache = part("cache.pages").PagedCache(model.config, 4)
    pages, rows = tuple(cache.allocate() for _ in range(4)), []
    for start in range(0, len(ids), size):
        some = ids[start : start + size]
        chunk = Chunk(token_ids=some, start=start, pages=pages, num_logits=len(some), adapter=adapter)
        rows.append(np.array(model.forward([chunk], cache)))
    return np.concatenate(rows)


def same(a, b):
    np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


@pytest.fixture(scope="module")
def small(part, tmp_path_factory):
    return part("backend").load_model(write_model(tmp_path_factory.mktemp("small"), mlp_bias=True))


@pytest.mark.parametrize(("alpha", "is_rslora", "scale"), [(8.0, False, 2.0), (8.0, True, 4.0), (-3.0, False, -0.75)])
def test_an_adapter_computes_what_the_merged_model_would(part, tmp_path, alpha, is_rslora, scale):
    base = write_model(tmp_path / "base")
    adapter = write_adapter(tmp_path / "lora", SHAPES, rank=4, alpha=alpha, use_rslora=is_rslora, scale=0.1)
    tensors = random_tensors(SMALL, seed=0, scale=0.3)
    changed = write_model(tmp_path / "merged")
    write_safetensors(changed / "model.safetensors", merged(tensors, adapter, scale), "F32")
    model, expected = (part("backend").load_model(directory) for directory in (base, changed))
    opened = open_adapter(tmp_path / "lora", model.config)
    model.adapters.add(opened)
    wanted = run(part, expected)
    found = run(part, model, adapter=opened.key)
    assert np.abs(found - wanted).max() < 1e-4 * np.ptp(wanted)
    assert np.abs(run(part, model) - wanted).max() > 0.05 * np.ptp(wanted)


@pytest.mark.parametrize("family", ["cohere", "glm", "glm4", "internlm2", "phi3", "starcoder2"])
def test_rows_of_a_matrix_that_is_rearranged_or_cut_are_those_of_the_file(part, tmp_path, family):
    """Queries and keys whose pairs are neighbours, groups of queries, fused matrices, and other names."""
    base = write_family(tmp_path / "base", family)
    tensors = {name: tensor.float32().copy() for name, tensor in map_file(base / "model.safetensors").items()}
    modules = sorted({name.split(".", 3)[3].removesuffix(".weight") for name in tensors
                      if "layers.0." in name and tensors[name].ndim == 2 and "norm" not in name})  # fmt: skip
    adapter = write_adapter(tmp_path / "lora", shapes_in(base), modules=modules, rank=4, alpha=4.0, scale=0.1)
    changed = write_family(tmp_path / "merged", family)
    write_safetensors(changed / "model.safetensors", merged(tensors, adapter, 1.0), "F32")
    model, expected = (part("backend").load_model(directory) for directory in (base, changed))
    opened = open_adapter(tmp_path / "lora", model.config)
    model.adapters.add(opened)
    wanted = run(part, expected)
    assert np.abs(run(part, model, adapter=opened.key) - wanted).max() < 1e-4 * np.ptp(wanted)
    assert np.abs(run(part, model) - wanted).max() > 0.05 * np.ptp(wanted)


def test_patterns_give_modules_ranks_and_alphas_of_their_own(part, small, tmp_path):
    """The same numbers with one alpha each, and with the alphas of patterns, give the same bits."""
    write_adapter(
        tmp_path / "patterns", SHAPES, rank=4, alpha=8, ranks={"mlp.up_proj": 6}, rank_pattern={"up_proj": 6},
        alpha_pattern={r".*\.1\.self_attn\.(q|k)_proj": 2.0, "up_proj": 3.0},
    )  # fmt: skip
    opened = open_adapter(tmp_path / "patterns", small.config)
    scales = [{place: float(stored.scale) for place, stored in layer.items()} for layer in opened.layers]
    others = dict.fromkeys(("value", "output", "gate", "down"), 2.0) | {"up": 0.5}
    assert scales == [others | {"query": 2.0, "key": 2.0}, others | {"query": 0.5, "key": 0.5}]
    small.adapters.add(opened)
    assert not np.array_equal(run(part, small), run(part, small, adapter=opened.key))


FAMILIES = {  # each with modules of an adapter, under the names of the family
    "float": ({}, (*ATTENTION, *NETWORK), {}),
    "w8a8": ({"quantization": "w8a8"}, (*ATTENTION, *NETWORK), {}),
    "w4a8, down alone": ({"quantization": "w4a8", "hidden_size": 40}, ("mlp.down_proj",), {}),
    "bfloat16, an odd rank": ({"dtype": "BF16"}, (*ATTENTION, *NETWORK), {"dtype": "BF16", "rank": 5}),
    "a rank above 64": ({}, (*ATTENTION, *NETWORK), {"dtype": "F16", "rank": 70}),
    "fused matrices": (
        {"family": "phi3", "dtype": "F16"},
        ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj"),
        {},
    ),
    "grouped queries": ({"family": "internlm2"}, ("attention.wqkv", "feed_forward.w2"), {}),
    "no gate, parallel": ({"family": "phi"}, ("self_attn.dense", "mlp.fc1", "mlp.fc2"), {}),
    "latent attention": ({"family": "deepseek_v3"}, ("self_attn.o_proj", *NETWORK), {}),
    "experts": ({"family": "qwen2_moe", "quantization": "w8a8"}, ATTENTION, {}),
}


@pytest.fixture(scope="module", params=FAMILIES)
def adapted(request, part, tmp_path_factory):
    """A model with three adapters, and their keys."""
    changes, modules, settings = FAMILIES[request.param]
    changes, place = dict(changes), tmp_path_factory.mktemp("adapted")
    quantization = changes.pop("quantization", None)
    write = partial(write_family, name=changes.pop("family")) if "family" in changes else write_model
    directory = write(place / "model", **changes)
    model, keys = part("backend").load_model(directory, quantization=quantization), []
    for seed in range(3):
        write_adapter(place / str(seed), shapes_in(directory), modules=modules, seed=seed, **settings)
        opened = open_adapter(place / str(seed), model.config)
        model.adapters.add(opened)
        keys.append(opened.key)
    return model, keys


def test_neighbours_and_chunks_change_nothing(part, adapted):
    """Three adapters and none in one batch, each row with the bits that it has alone; and so with the next tokens."""
    model, keys = adapted
    wanted = {key: run(part, model, adapter=key) for key in ("", *keys)}
    assert len({rows.tobytes() for rows in wanted.values()}) == 4
    same(run(part, model, adapter=keys[0], size=7), wanted[keys[0]])
    order = ("", keys[1], keys[0], "", keys[1], keys[2], keys[0], keys[0])
    cache = part("cache.pages").PagedCache(model.config, 32)
    pages = [tuple(cache.allocate() for _ in range(4)) for _ in order]
    for start, stop in ((0, 41), (41, 42), (42, 43), (43, 60)):
        chunks = [
            Chunk(token_ids=IDS[start:stop], start=start, pages=own, num_logits=stop - start, adapter=key)
            for own, key in zip(pages, order, strict=True)
        ]
        rows = np.split(np.array(model.forward(chunks, cache)), len(order))
        for key, found in zip(order, rows, strict=True):
            same(found, wanted[key][start:stop])


def test_a_model_knows_only_adapters_that_are_loaded(part, small, tmp_path):
    write_adapter(tmp_path, SHAPES, modules=("self_attn.v_proj",), seed=9)
    opened, base = open_adapter(tmp_path, small.config), run(part, small)
    small.adapters.add(opened)
    assert opened.key in small.adapters
    assert not np.array_equal(run(part, small, adapter=opened.key), base)
    small.adapters.remove(opened.key)
    assert opened.key not in small.adapters
    with pytest.raises(KeyError):
        run(part, small, adapter=opened.key)
    same(run(part, small), base)
