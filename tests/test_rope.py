"""Rotary positions as config.json describes them, beside transformers: frequencies, factors, and logits."""

import json
from dataclasses import replace

import numpy as np
import pytest

from small_models import SMALL, write_model
from verbatim.reference.checkpoint.families import load_config, read_config
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.weights import load_weights
from verbatim.reference.numerics.rotary import inverse_frequencies, rotary_table
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.sequence import Chunk
from verbatim.reference.records.told import told

SHORT, LONG = [1.0, 1.05, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6], [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0]
LONGROPE = {
    "rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
SETTINGS = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 32},
    "llama3, original context left out": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    },
    "yarn": YARN,
    "yarn, original context left out": {"rope_type": "yarn", "factor": 4.0},
    "yarn, factor from the contexts": YARN | {"factor": None},
    "yarn, whole bounds or not": YARN | {"truncate": False, "beta_fast": 8.0, "beta_slow": 1.5},
    "yarn, attention_factor": YARN | {"attention_factor": 0.7, "mscale": 1.0, "mscale_all_dim": 0.5},
    "yarn, mscale": YARN | {"mscale": 0.707, "mscale_all_dim": 0.5},
    "yarn, mscale alone": YARN | {"mscale": 0.707},
    "longrope": LONGROPE,
    "longrope, factor": LONGROPE | {"factor": 16.0},
    "longrope, attention_factor": LONGROPE | {"attention_factor": 1.5},
    "a part of each head": {"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5},
}  # fmt: skip
SERVED = {"dynamic": (400, 512, 256, 100), "longrope": (256, 65, 64, 40)}  # contexts of servers


@pytest.fixture(scope="module")
def peer():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", minversion="5", reason="transformers 5 is not installed")
    transformers.logging.set_verbosity_error()
    return torch, transformers


def both_spellings(settings):
    """config.json of transformers 4 and of 5."""
    plain = SMALL | {"rope_theta": 50000.0}
    kept = {name: value for name, value in plain.items() if name != "rope_theta"}
    return {
        "rope_scaling": plain | {"rope_scaling": settings},
        "rope_parameters": kept | {"rope_parameters": settings | {"rope_theta": 50000.0}},
    }


def served(config, context):
    return EngineLimits(context_window_size=context).reshape(config)


@pytest.mark.parametrize("name", SETTINGS)
def test_frequencies_and_factors_are_those_of_transformers(peer, name):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    settings, found = SETTINGS[name], []
    for raw in both_spellings(settings).values():
        theirs = peer[1].LlamaConfig.from_dict(json.loads(json.dumps(raw)))
        for context in SERVED.get(settings["rope_type"], (256,)):
            rope = served(read_config(raw, {}), context).layers[0].rope
            expected, factor = ROPE_INIT_FUNCTIONS[settings["rope_type"]](theirs, "cpu", seq_len=context)
            np.testing.assert_allclose(inverse_frequencies(rope), expected.numpy(), rtol=1e-6)
            assert rope.scaling.attention_factor == pytest.approx(factor, rel=1e-12)
            found.append(rope)
    assert found[: len(found) // 2] == found[len(found) // 2 :]


@pytest.mark.parametrize(("name", "context"), [("dynamic", 400), ("dynamic", 256), ("longrope", 150), ("longrope", 64)])
def test_logits_of_a_served_context_agree_with_transformers(peer, backend, tmp_path, name, context):
    """transformers decides anew for each text: those of the served context's length are the same."""
    torch, transformers = peer
    write_model(tmp_path, scale=0.15, rope_scaling=SETTINGS[name])
    ids = np.random.default_rng(1).integers(0, SMALL["vocab_size"], context).tolist()
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float64, attn_implementation="eager")
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0].numpy()
    found = logits_served(backend, tmp_path, ids, context)
    assert np.abs(found - expected).max() < 1e-4 * np.ptp(expected)


def logits_served(backend, directory, ids, context):
    config = served(load_config(directory), context)
    model = backend.PARTS.Model(config, open_checkpoint(config, load_weights(directory)))
    num_pages = -(-len(ids) // backend.PARTS.page_size)
    cache = backend.PARTS.PagedCache(config, num_pages)
    pages = tuple(cache.allocate() for _ in range(num_pages))
    chunk = Chunk(token_ids=tuple(ids), start=0, pages=pages, num_logits=len(ids))
    return np.array(model.forward([chunk], cache)).astype(np.float64)


def test_attn_factor_multiplies_the_usual_correction():
    """As in the code of YaRN's authors: this is how DeepSeek's distilled Qwen 3 comes to a correction of 1."""
    raw = SMALL | {"rope_scaling": YARN | {"attn_factor": 0.8782488562869419}}
    assert read_config(raw, {}).layers[0].rope.scaling.attention_factor == pytest.approx(1.0, rel=1e-12)
    raw["rope_scaling"] |= {"attention_factor": 1.25}
    assert read_config(raw, {}).layers[0].rope.scaling.attention_factor == 1.25


def test_a_server_has_one_choice_and_what_was_not_chosen_is_not_told():
    config = read_config(SMALL | {"rope_scaling": LONGROPE}, {})
    assert config.layers[0].rope.scaling.factors == tuple(LONG)
    assert served(config, 64).layers[0].rope.scaling.factors == tuple(SHORT)
    assert "short" not in told(config) and "original_context=0" in told(served(config, 64).layers[0])
    assert served(config, 65) == replace(config, context_size=65)


def test_dynamic_positions_serve_more_than_the_model_s_context():
    config = read_config(SMALL | {"rope_scaling": SETTINGS["dynamic"]}, {})
    assert config.context_size == 256 and config.longest_context == 512
    plain = read_config(SMALL, {}).layers[0].rope
    np.testing.assert_array_equal(rotary_table(config.layers[0].rope, 256), rotary_table(plain, 256))
    np.testing.assert_array_equal(rotary_table(served(config, 100).layers[0].rope, 256), rotary_table(plain, 256))
    with pytest.raises(ModelError, match="context_window_size must be at most the model's own, 512, not 513"):
        served(config, 513)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (YARN | {"ntk_alpha": 3.0}, "rotary setting ntk_alpha = 3.0 is not supported"),
        (YARN | {"apply_yarn_scaling": False}, "rotary setting apply_yarn_scaling = False is not supported"),
        ({"rope_type": "linear", "factor": "two"}, "rotary setting factor must be a number, not 'two'"),
        ({"rope_type": "linear", "factor": 0}, "rotary setting factor must be a number above 0, not 0"),
        ({"rope_type": "dynamic"}, "rope type 'dynamic' needs a number for 'factor'"),
        (LONGROPE | {"short_factor": [1.0]}, "longrope has 1 factors for 8 frequencies"),
        ({"type": "mrope", "mrope_section": [16, 24, 24]}, "rope type 'mrope' is not supported"),
        ({"rope_type": 3}, "rotary setting rope_type must be a text, not 3"),
        (LONGROPE | {"long_factor": "all"}, "rotary setting long_factor must be a list of numbers, not 'all'"),
        (YARN | {"original_max_position_embeddings": 1}, "original_max_position_embeddings must be at least 2, not 1"),
        (YARN | {"rope_theta": -1}, "rope_theta must be a number above 0, not -1"),
        (["yarn"], r"rope_scaling must be an object, not \['yarn'\]"),
    ],
)
def test_a_fault_is_named(settings, words):
    with pytest.raises(ModelError, match=words):
        read_config(SMALL | {"rope_scaling": settings}, {})
