"""LFM2's config.json: its own names for sizes, and what would change the arithmetic."""

import json

import pytest

from family_models import published
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.mixer import ShortConvolution


def read(directory, name="lfm2", **changes):
    (directory / "config.json").write_text(json.dumps(published(name) | changes))
    return load_config(directory)


def test_layers_and_sizes_are_those_of_the_file(tmp_path):
    config = read(tmp_path)
    assert [layer.has_mixer for layer in config.layers] == [True, False, True, True]
    assert [layer.has_attention for layer in config.layers] == [False, True, False, False]
    assert config.mixer == ShortConvolution(channels=48, length=3)
    assert (config.num_paged_layers, config.num_stateful_layers, config.tie_embeddings) == (1, 3, True)
    assert config.norm_epsilon == 1e-5
    experts = read(tmp_path, "lfm2 moe")
    assert [layer.has_experts for layer in experts.layers] == [False, False, True, True]
    assert (experts.experts.routing, experts.experts.least_sum) == ("sigmoid", 1e-6)


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, 64),
        ({"block_ff_dim": 12288, "block_multiple_of": 256}, 8192),
        ({"block_ffn_dim_multiplier": 1.3}, 80),
        ({"block_auto_adjust_ff_dim": False}, 80),
        ({"block_ff_dim": None, "intermediate_size": 96}, 64),
    ],
)
def test_the_inner_size_follows_from_the_given_one(tmp_path, changes, size):
    assert read(tmp_path, **changes).intermediate_size == size


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("lfm2", {"conv_dim": 64}, "conv_dim = 64 is not supported: hidden_size is 48"),
        ("lfm2", {"num_heads": 8}, "num_heads = 8 is not supported: num_attention_heads is 4"),
        ("lfm2", {"use_pos_enc": False}, "use_pos_enc = False is not supported for LFM2"),
        ("lfm2", {"conv_L_cache": 0}, "conv_L_cache must be a positive integer, not 0"),
        ("lfm2", {"full_attn_idxs": "1"}, "full_attn_idxs must be a list of integers, not '1'"),
        ("lfm2", {"layer_types": ["conv", "gru", "conv", "conv"]}, "layer_types has 'gru', which is not supported"),
        ("lfm2", {"layer_types": ["conv"]}, "layer_types has 1 entries for 4 layers"),
        ("lfm2 moe", {"use_expert_bias": False}, "use_expert_bias = False is not supported for LFM2"),
        ("lfm2 moe", {"num_experts_per_tok": 7}, "num_experts_per_tok must be at most 6, not 7"),
    ],
)
def test_what_cannot_be_or_is_not_computed_is_refused_by_name(tmp_path, name, changes, words):
    with pytest.raises(ModelError, match=words):
        read(tmp_path, name, **changes)
