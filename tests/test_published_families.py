"""Families as published, without PyTorch: config.json is read whole, and engines agree to the bit.

tests/test_families.py compares the same families with transformers.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from family_models import PUBLISHED, SIZES, published, write_family
from models_table import DOCUMENT, renewed
from small_models import SMALL, logits_of, write_model, write_safetensors
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.checkpoint.head_rows import in_halves, norm_in_halves
from verbatim.reference.checkpoint.tensors import Matrix
from verbatim.reference.checkpoint.weights import Tensor, load_weights
from verbatim.reference.commands.quantize import quantize_directory
from verbatim.reference.model.experts import expert_weights
from verbatim.reference.numerics.rotary import position_scales
from verbatim.reference.records.errors import BackendError, ModelError
from verbatim.reference.records.experts import ClampedGate, Experts
from verbatim.reference.records.rope import PositionScale, Rope

IDS = np.random.default_rng(1).integers(0, SIZES["vocab_size"], 80).tolist()


def read(directory, name, **changes):
    (directory / "config.json").write_text(json.dumps(published(name) | changes))
    return load_config(directory)


@pytest.mark.parametrize("quantization", [None, "w4a8"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_engines_agree_to_the_bit(tmp_path, name, quantization):
    dispatch = pytest.importorskip("verbatim.fastpath.machine.dispatch", reason="the fast path is not built")
    from verbatim.fastpath import backend as fast
    from verbatim.reference import backend as reference

    directory = write_family(tmp_path, name, dtype="F32" if quantization else "BF16")
    expected = logits_of(reference, directory, IDS, quantization)
    assert np.isfinite(expected).all() and np.ptp(expected) > 0.1
    chosen = dispatch.level()
    for level in dispatch.available():
        dispatch.use(level)
        found = logits_of(fast, directory, IDS, quantization)
        dispatch.use(chosen)
        np.testing.assert_array_equal(found, expected, err_msg=level)


@pytest.mark.parametrize(
    ("name", "stem"),
    [("gemma3, text part", "language_model.model."), ("ministral3", "model.language_model."), ("qwen2_moe", "model."),
     ("granitemoe", "model."), ("internlm2", "model."), ("phi", "model."), ("deepseek_v2", "model."),
     ("glm4_moe_lite", "model."), ("gemma4", "model.language_model."), ("gemma4, experts", "model.language_model."),
     ("gemma3n", "model.language_model."), ("qwen3_next", "model."),
     ("qwen3_5_moe, text part", "model.language_model.")],
)  # fmt: skip
def test_quantised_on_disk_and_while_loading_is_the_same(backend, tmp_path, name, stem):
    directory = write_family(tmp_path / "floats", name, stem=stem)
    assert f"{stem}layers.0." in " ".join(load_weights(directory).names())
    quantize_directory(directory, tmp_path / "integers", "w4a8")
    expected = logits_of(backend, directory, IDS[:40], "w4a8")
    np.testing.assert_array_equal(logits_of(backend, tmp_path / "integers", IDS[:40]), expected)


def test_internlm2_is_llama_under_other_names(backend, tmp_path):
    """Each group of a key-value head holds its queries, then its key, then its value."""
    sizes = {"tie_word_embeddings": False, "head_dim": 12, "rms_norm_eps": 1e-6, "rope_theta": 1e6}
    llama = write_model(tmp_path / "llama", scale=0.2, **sizes)
    stored = {name: load_weights(llama)._tensors[name].bits for name in load_weights(llama).names()}
    renamed = {"model.tok_embeddings.weight": stored["model.embed_tokens.weight"], "model.norm.weight":
               stored["model.norm.weight"], "output.weight": stored["lm_head.weight"]}  # fmt: skip
    for i in range(SMALL["num_hidden_layers"]):
        old, new = f"model.layers.{i}.", f"model.layers.{i}."
        q, k, v = (stored[f"{old}self_attn.{part}_proj.weight"].reshape(2, -1, 12, 48) for part in "qkv")
        renamed[f"{new}attention.wqkv.weight"] = np.concatenate([q, k, v], axis=1).reshape(-1, 48)
        renamed[f"{new}attention.wo.weight"] = stored[f"{old}self_attn.o_proj.weight"]
        renamed[f"{new}attention_norm.weight"] = stored[f"{old}input_layernorm.weight"]
        renamed[f"{new}ffn_norm.weight"] = stored[f"{old}post_attention_layernorm.weight"]
        for theirs, ours in (("w1", "gate"), ("w3", "up"), ("w2", "down")):
            renamed[f"{new}feed_forward.{theirs}.weight"] = stored[f"{old}mlp.{ours}_proj.weight"]
    other = write_family(tmp_path / "internlm2", "internlm2")
    write_safetensors(other / "model.safetensors", renamed, "F32")
    np.testing.assert_array_equal(logits_of(backend, other, IDS), logits_of(backend, llama, IDS))


def test_what_text_config_omits_has_the_family_s_values(tmp_path):
    config = read(tmp_path, "gemma3, text part")
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (8, 4, 256)
    assert [layer.window for layer in config.layers] == [24] * 5 + [None]
    assert config.layers[0].rope == Rope(theta=10000.0, rotary_dim=256)
    assert config.layers[5].rope.scaling.factor == 8.0
    assert (config.eos_ids, config.tie_embeddings, config.bos_id) == ((1, 106), True, 2)
    assert config.attention_scale == 256**-0.5


def test_olmo3_stretches_the_layers_without_a_window(tmp_path):
    config = read(tmp_path, "olmo3")
    assert [layer.window for layer in config.layers] == [24, 24, 24, None]
    assert config.layers[0].rope == Rope(theta=500000.0, rotary_dim=12)
    assert config.layers[3].rope.scaling.attention_factor == 1.2


def test_biases_norms_and_gates_are_the_family_s(tmp_path):
    phi, seed, starcoder = (read(tmp_path, name) for name in ("phi", "seed_oss", "starcoder2"))
    assert (phi.norms, phi.norm_type, phi.has_gate, phi.head_bias, phi.activation, phi.num_kv_heads) == (
        "parallel", "layer", False, True, "gelu_tanh", 3,
    )  # fmt: skip
    assert (seed.query_bias, seed.output_bias, seed.mlp_bias) == (True, False, False)
    assert (starcoder.mlp_bias, starcoder.tie_embeddings, starcoder.layers[1].window) == (True, True, 24)
    assert read(tmp_path, "gemma").activation == "gelu_tanh"
    assert read(tmp_path, "granitemoe").experts.is_normalized
    assert read(tmp_path, "qwen2_moe").experts.shared_size == 72


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("mamba2", {"time_step_limit": [0.5]}, "time_step_limit must be two numbers, not \\[0.5\\]"),
        ("mamba2", {"time_step_limit": [0.9, 0.5]}, "time_step_limit must be two numbers in order, not"),
        ("mamba2", {"head_dim": 10}, "4 heads of a state space of 10 features each do not make 96"),
        ("mamba2", {"rms_norm": False}, "rms_norm = False is not supported for 'mamba2'"),
        ("granite 4, dense", {"mamba_n_groups": 3}, "4 heads of a state space cannot share 3 groups evenly"),
        ("nemotron h", {"hybrid_override_pattern": "MX"}, "hybrid_override_pattern must be a text of M E"),
        ("nemotron h", {"num_hidden_layers": 4}, "num_hidden_layers is 4, and 5 layers are described"),
        ("nemotron 3", {"moe_latent_size": 16}, "moe_latent_size = 16 is not supported for 'nemotron_h'"),
        ("nemotron 3", {"mlp_bias": True}, "mlp_bias = True is not supported beside experts"),
        ("falcon h1", {"mlp_multipliers": [1.0]}, "mlp_multipliers must be a list of 2 numbers, not"),
        ("falcon h1", {"attention_bias": True}, "attention_bias = True is not supported beside attention_in_mult"),
        ("bamba", {"attn_rotary_emb": 12}, "attn_rotary_emb must be half of 12 features, not 12"),
        ("gpt_oss", {"swiglu_limit": -7.0}, "swiglu_limit must be a number above 0, not -7.0"),
        ("gpt_oss", {"experts_per_token": 4}, "experts_per_token = 4 is not supported for 'gpt_oss'"),
        ("deepseek_v2", {"norm_topk_prob": True}, "norm_topk_prob = True is not supported for 'deepseek_v2'"),
        ("deepseek_v2", {"topk_method": "noaux_tc"}, "topk_method must be greedy or group_limited_greedy"),
        ("deepseek_v2", {"attention_bias": True}, "attention_bias = True is not supported for 'deepseek_v2'"),
        ("deepseek_v3", {"scoring_func": "softmax"}, "scoring_func must be sigmoid, not 'softmax'"),
        ("deepseek_v3", {"n_group": 3}, "8 experts are not 3 equal groups"),
        ("deepseek_v3", {"topk_group": 5}, r"topk_group must lie in 1\.\.4, not 5"),
        ("deepseek_v3", {"num_experts_per_tok": 5}, "num_experts_per_tok must be at most 4, not 5"),
        ("deepseek_v3", {"kv_lora_rank": 5000}, "kv_lora_rank must be at most 2048"),
        ("deepseek_v3", {"qk_rope_head_dim": 7}, "the rotated part of a head must be even, not 7"),
        ("deepseek_v3", {"index_topk": 2048}, "index_topk = 2048 is not supported"),
        ("glm4_moe_lite", {"partial_rotary_factor": 0.5}, "partial_rotary_factor must be 1 with latent attention"),
        ("glm4_moe_lite", {"mlp_layer_types": ["dense", "none", "sparse"]}, "must be 3 times dense or sparse"),
        ("olmoe", {"clip_qkv": 8.0}, "clip_qkv = 8.0 is not supported"),
        ("cohere2", {"layer_switch": 3}, "layer_switch = 3 is not supported for Cohere's models"),
        ("cohere", {"logit_scale": 0}, "logit_scale must be a number above 0, not 0"),
        ("hunyuan", {"norm_type": "layer"}, "norm_type = 'layer' is not supported for HunYuan's models"),
        ("hunyuan", {"attention_head_dim": 32}, "attention_head_dim must be head_dim, 16, not 32"),
        (
            "hunyuan",
            {"rope_scaling": {"type": "linear", "alpha": 2.0}},
            "alpha = 2.0 is not supported without the type",
        ),
        ("hunyuan", {"rope_scaling": {"type": "dynamic", "alpha": -2.0}}, "alpha must be a number above 0, not -2.0"),
        ("hunyuan moe", {"moe_topk": [2, 3]}, "moe_topk must be the same in all layers"),
        (
            "hunyuan moe",
            {"moe_intermediate_size": [40, 40]},
            "moe_intermediate_size must be intermediate_size, 80, not 40",
        ),
        ("ernie4_5 moe", {"use_bias": True}, "use_bias = True is not supported for 'ernie4_5_moe'"),
        ("minimax m2", {"attn_type_list": [1, 0]}, r"attn_type_list must hold 1 alone, not \[1, 0\]"),
        ("minimax m2", {"scoring_func": "softmax"}, "scoring_func = 'softmax' is not supported for MiniMax's models"),
        ("llama4", {"text_config": {"layer_types": ["sliding_attention"]}}, "layer_types must be 48 times chunked_att"),
        ("internlm2", {"bias": True}, "bias = True is not supported"),
        ("stablelm", {"qk_layernorm": True}, "qk_layernorm = True is not supported"),
        ("stablelm", {"hidden_size": 48}, "the rotated part of a head must be even, not 3"),
        ("qwen3_next", {"attn_output_gate": False}, "attn_output_gate = False is not supported for 'qwen3_next'"),
        ("qwen3_next", {"mamba_ssm_dtype": "bfloat16"}, "mamba_ssm_dtype = 'bfloat16' is not supported"),
        ("qwen3_next", {"layer_types": ["mamba"] * 4}, "layer_types has 'mamba', which is not supported"),
        (
            "qwen3_next",
            {"linear_num_value_heads": 3},
            "linear_num_value_heads must be a multiple of linear_num_key_heads",
        ),
        ("qwen3_next", {"linear_key_head_dim": 0}, "linear_key_head_dim must be a positive integer, not 0"),
        ("qwen3_next", {"full_attention_interval": "4"}, "full_attention_interval must be a positive integer, not '4'"),
        ("phi", {"qk_layernorm": True}, "qk_layernorm = True is not supported"),
        ("phimoe", {"num_experts_per_tok": 1}, "num_experts_per_tok must be 2 for PhiMoE, not 1"),
        (
            "gemma4, causal",
            {"use_bidirectional_attention": "all"},
            "use_bidirectional_attention = 'all' is not supported",
        ),
        ("gemma4, causal", {"num_kv_shared_layers": 2}, "num_kv_shared_layers = 2 leaves no layer of each type"),
        ("gemma4, causal", {"per_layer_config": {"1": {"hidden_size": 8}}}, "per_layer_config has hidden_size = 8"),
        ("gemma4, causal", {"per_layer_config": {"2": {}}}, "per_layer_config names layer '2' of 2"),
        ("gemma4, causal", {"sliding_window": 0}, "sliding_window must be a positive integer, not 0"),
        ("gemma4, causal", {"layer_types": ["full_attention"]}, "layer_types has 1 entries for 2 layers"),
        ("gemma4, causal", {"global_head_dim": 15}, "head_dim must be even for rotary positions, not 15"),
        (
            "gemma4, causal",
            {"attention_k_eq_v": True, "num_global_key_value_heads": 3},
            "4 heads cannot share 3 key-value heads evenly",
        ),
        ("gemma3n, causal", {"intermediate_size": [80]}, "intermediate_size has 1 entries for 2 layers"),
        ("gemma3n, causal", {"intermediate_size": [80, 0]}, "intermediate_size must be a positive integer, not 0"),
        ("gemma3n, causal", {"activation_sparsity_pattern": [0.5, 1.0]}, "must list numbers from 0 to below 1"),
        ("gemma3n, causal", {"altup_active_idx": 4}, "altup_active_idx must be below altup_num_inputs, 4, not 4"),
        ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention = True is not supported"),
        ("mistral3, text part", {"text_config": {"model_type": "mistral4"}}, "text_config.model_type 'mistral4'"),
        ("ministral3", {"text_config": 3}, "text_config must be an object, not 3"),
    ],
)
def test_what_would_change_the_arithmetic_is_refused_by_name(tmp_path, name, changes, words):
    with pytest.raises(ModelError, match=words):
        read(tmp_path, name, **changes)


def test_gpt_oss_has_what_its_config_leaves_out(tmp_path):
    raw = {"vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3}
    raw |= {"model_type": "gpt_oss", "num_attention_heads": 64}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    config = load_config(tmp_path)
    assert [layer.window for layer in config.layers] == [128, None, 128]
    assert (config.has_sink_scores, config.query_bias, config.output_bias) == (True, True, True)
    assert config.clamped_gate == ClampedGate(alpha=1.702, limit=7.0)
    assert (config.experts.num_experts, config.experts.num_per_token, config.experts.has_biases) == (128, 4, True)
    scaling = config.layers[0].rope.scaling
    assert (scaling.factor, scaling.original_context, scaling.truncates) == (32.0, 4096, False)


def test_llama4_has_positions_chunks_and_experts_by_layer(tmp_path):
    config = read(tmp_path, "llama4")
    assert [layer.chunk for layer in config.layers] == [24, 24, 24, None]
    assert [layer.rope is None for layer in config.layers] == [False, False, False, True]
    assert [layer.has_experts for layer in config.layers] == [False, True, False, True]
    assert (config.intermediate_size, config.experts.intermediate_size, config.experts.shared_size) == (72, 40, 40)
    assert config.position_scale == PositionScale(beta=0.1, length=16, offset=1, only_unrotated=True)


def test_a_bias_takes_part_in_the_choice_and_not_in_the_weights():
    """Ernie's by softmax; the weights are those of the chosen scores alone."""
    settings = Experts(num_experts=3, num_per_token=2, intermediate_size=8, is_normalized=True, has_score_bias=True)
    scores, bias = np.array([[0.0, 1.0, -1.0]], np.float32), np.array([[-0.9, 0.0, 0.9]], np.float32)
    shares = np.exp([1.0, -1.0])
    expected = [[0, *(shares / shares.sum())]]
    np.testing.assert_allclose(expert_weights(scores, settings, bias), expected, rtol=5e-7)


def test_weights_of_inputs_are_sigmoids_of_the_largest_scores():
    settings = Experts(num_experts=3, num_per_token=1, intermediate_size=8, is_normalized=False, routing="input")
    scores = np.array([[30.0, 40.0, -1.0], [0.5, 0.5, -1.0]], np.float32)  # both sigmoids of the first row are 1
    expected = [[0, 1, 0], [1 / (1 + np.exp(-0.5)), 0, 0]]
    np.testing.assert_allclose(expert_weights(scores, settings), expected, rtol=2e-7)


def test_pairs_of_neighbours_are_put_in_halves():
    rows = np.arange(12, dtype=np.float32)  # two heads of six features, four of them rotated
    matrix = Matrix(weight=Tensor("m", "F32", rows[:, None]), bias=Tensor("b", "F32", rows), num_inputs=1)
    found = in_halves(matrix, 6, 4)
    assert found.weight.bits[:, 0].tolist() == found.bias.bits.tolist() == [0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11]
    norms = norm_in_halves(Tensor("n", "F32", rows.reshape(2, 6)), 4)
    assert norms.bits.reshape(-1).tolist() == found.bias.bits.tolist()
    assert in_halves(matrix, 6, 0) is matrix


def test_sparsemixer_takes_shares_among_near_scores():
    settings = Experts(num_experts=4, num_per_token=2, intermediate_size=8, is_normalized=False,
                       routing="sparsemixer", tolerance=0.5)  # fmt: skip
    scores = np.array([[2.0, 1.5, 0.9, -3.0], [0.0, 0.0, -1.0, -1.0]], np.float32)
    first = np.exp([0, -0.5])  # 0.9 lies more than half of 2.0 below it
    second = np.exp([0, -0.6])  # without 2.0, 0.9 is near 1.5
    expected = [[1 / first.sum(), 1 / second.sum(), 0, 0], [1 / 2, 1, 0, 0]]
    np.testing.assert_allclose(expert_weights(scores, settings), expected, rtol=2e-7)


def test_factors_of_queries_grow_by_steps():
    found = position_scales(PositionScale(beta=0.1, length=16), 100)
    assert found.dtype == np.float32
    assert (found == (1 + 0.1 * np.log1p(np.arange(100) // 16)).astype(np.float32)).all()
    assert (found[:16] == 1).all()


@pytest.mark.parametrize("name", ["phi", "qwen2_moe", "gpt_oss", "olmo3"])
def test_the_gpu_path_names_what_it_lacks(tmp_path, name):
    """Heads that are too large for its kernels; nothing else of these families."""
    from verbatim.fastpath.gpu.support import check_support

    config = read(tmp_path, name)
    check_support(config)
    with pytest.raises(
        BackendError, match="not on the GPU path yet: head_dim 1026, above 1024; --device cpu runs this"
    ):
        check_support(replace(config, head_dim=1026))


def test_the_table_of_architectures_is_current():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == renewed(text), "run: python tests/models_table.py"
    assert all(f"`{architecture}`" in text for architecture, _ in PUBLISHED.values())
