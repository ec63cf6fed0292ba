"""Every family from a GGUF file of floats: the bits that its directory gives, with the names that `gguf` knows."""

import numpy as np
import pytest

from family_models import write_family
from gguf_models import write_gguf
from small_models import logits_of
from verbatim.fastpath import backend as fastpath
from verbatim.reference import backend as reference
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.records.errors import ModelError

IDS = list(range(3, 43))
FACTORS = [1.0, 1.125, 1.25, 1.5, 2.0, 2.5]
HEADS = {"head_dim": 16}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}
GELU = {"hidden_activation": "gelu_pytorch_tanh"}
GEMMA2 = GELU | {"sliding_window": 24, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 50.0,
          "final_logit_softcapping": 30.0, "num_hidden_layers": 4}  # fmt: skip
LLAMA3 = {"rope_type": "longrope", "long_factor": [1.0] * 4 + [8.0] * 4, "short_factor": [1.0] * 8,
          "attention_factor": 1.0, "original_max_position_embeddings": 128}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
GRANITE = {"embedding_scale": 12.0, "attention__scale": 0.015625, "residual_scale": 0.22, "logit_scale": 6.0}
STATES = {"ssm__conv_kernel": 4, "ssm__inner_size": 96, "ssm__state_size": 20, "ssm__time_step_rank": 4,
          "ssm__group_count": 1}  # fmt: skip
PLAIN_FALCON = dict.fromkeys(  # its factors are in the matrices of such files
    ("attention_in_multiplier", "attention_out_multiplier", "embedding_multiplier", "key_multiplier",
     "lm_head_multiplier", "ssm_in_multiplier", "ssm_out_multiplier")
) | {"mlp_multipliers": None, "ssm_multipliers": None, "rope_theta": 1e10}  # fmt: skip
DELTA = {"ssm__conv_kernel": 4, "ssm__inner_size": 40, "ssm__state_size": 12, "ssm__time_step_rank": 2,
         "ssm__group_count": 2, "rope__dimension_count": 4}  # fmt: skip
DELTA_CONFIG = {"head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 12,
                "linear_value_head_dim": 20, "num_hidden_layers": 4}  # fmt: skip
LATENTS = {"attention__kv_lora_rank": 40, "attention__key_length_mla": 20, "attention__value_length_mla": 10,
           "rope__dimension_count": 8, "expert_count": 8, "expert_used_count": 3, "expert_feed_forward_length": 24,
           "leading_dense_block_count": 1, "attention.head_count_kv": 1, "attention.key_length": 48,
           "attention.value_length": 40}  # fmt: skip
LATENT_YARN = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0,
               "rope__scaling__original_context_length": 32}  # fmt: skip
# Name -> what of tests/family_models.py it begins with, its architecture, changes of config.json, metadata.
FAMILIES = {
    "llama": ("internlm2", "Llama", HEADS, {}),
    "llama 3": ("internlm2", "Llama", HEADS | {"rope_scaling": LLAMA3, "original_max_position_embeddings": 128},
                {"rope_freqs": np.float32(LLAMA3["long_factor"])}),
    "mixtral": ("internlm2", "Mixtral", HEADS | {"num_local_experts": 4, "num_experts_per_tok": 2},
                {"expert_count": 4, "expert_used_count": 2}),
    "qwen2": ("internlm2", "Qwen2", HEADS | {"rope_scaling": YARN},
              {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0,
               "rope__scaling__original_context_length": 64}),
    "qwen3": ("internlm2", "Qwen3", HEADS | {"tie_word_embeddings": True}, {}),
    "qwen3_moe": ("internlm2", "Qwen3Moe", HEADS | EXPERTS,
                  {"expert_count": 6, "expert_used_count": 2, "expert_feed_forward_length": 32}),
    "qwen2_moe": ("qwen2_moe", "Qwen2Moe", {},
                  {"expert_count": 6, "expert_used_count": 2, "expert_feed_forward_length": 32,
                   "expert_shared_feed_forward_length": 72}),
    "gemma": ("gemma", "Gemma", {}, {}),
    "gemma2": ("internlm2", "Gemma2", HEADS | GEMMA2, {"attention__sliding_window": 24}),
    "gemma3": ("internlm2", "Gemma3", HEADS | {"num_hidden_layers": 6, "query_pre_attn_scalar": 16,
                                               "sliding_window": 24, "rope_local_base_freq": 10000.0,
                                               "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
               {"attention__sliding_window": 24, "rope__scaling__type": "linear", "rope__scaling__factor": 8.0}),
    "phi": ("phi", "Phi", {}, {"rope__dimension_count": 8}),
    "phi3": ("internlm2", "Phi3", {"original_max_position_embeddings": 64, "sliding_window": 24, "rope_scaling": {
                 "rope_type": "longrope", "long_factor": FACTORS, "short_factor": FACTORS, "attention_factor": 1.25}},
             {"rope_factors_long": np.float32(FACTORS), "rope_factors_short": np.float32(FACTORS),
              "rope__scaling__attn_factor": 1.25, "rope__scaling__original_context_length": 64,
              "attention__sliding_window": 24}),
    "olmo2": ("internlm2", "Olmo2", HEADS, {}),
    "olmo3": ("olmo3", "Olmo3", {"rope_scaling": YARN},
              {"attention__sliding_window": 24, "attention__sliding_window_pattern": [True, True, True, False],
               "rope__scaling__type": "yarn", "rope__scaling__factor": 4.0,
               "rope__scaling__original_context_length": 64}),
    "olmoe": ("olmoe", "Olmoe", {}, {"expert_count": 6, "expert_used_count": 3}),
    "glm4": ("glm4", "Glm4", {}, {"rope__dimension_count": 8}),
    "cohere": ("cohere", "Cohere", {"logit_scale": 0.5}, {"logit_scale": 0.5}),
    "cohere2": ("cohere2", "Cohere2", {}, {"logit_scale": 0.25, "attention__sliding_window": 24}),
    "ernie4_5": ("ernie4_5", "Ernie4_5", {}, {}),
    "ernie4_5 moe": ("ernie4_5 moe", "Ernie4_5_Moe", {},
                     {"expert_count": 6, "expert_used_count": 2, "expert_feed_forward_length": 32,
                      "expert_shared_count": 2, "leading_dense_block_count": 1, "interleave_moe_layer_step": 1}),
    "minimax m2": ("minimax m2", "MiniMaxM2", {},
                   {"expert_count": 6, "expert_used_count": 2, "expert_feed_forward_length": 40,
                    "expert_gating_func": 2, "rope__dimension_count": 8}),
    "hunyuan": ("hunyuan", "HunYuanDenseV1", {"rope_scaling": None}, {"rope__scaling__type": "none"}),
    "hunyuan moe": ("hunyuan moe", "HunYuanMoEV1", {"head_dim": 12, "rope_scaling": None},
                    {"expert_count": 6, "expert_used_count": 2, "expert_shared_feed_forward_length": 80}),
    "gpt_oss": ("gpt_oss", "GptOss", {"swiglu_limit": 7.0, "rope_scaling": YARN | {"truncate": False}},
                {"expert_count": 5, "expert_used_count": 2, "attention__sliding_window": 24,
                 "rope__scaling__type": "yarn", "rope__scaling__factor": 4.0,
                 "rope__scaling__original_context_length": 64}),
    "deepseek_v3": ("deepseek_v3", "DeepseekV3", {},
                    LATENTS | LATENT_YARN | {"attention__q_lora_rank": 20, "expert_shared_count": 1,
                    "expert_weights_scale": 2.5, "expert_weights_norm": True, "expert_gating_func": 2,
                    "expert_group_count": 4, "expert_group_used_count": 2,
                    "rope__scaling__yarn_log_multiplier": 0.1}),
    "deepseek_v2": ("deepseek_v2, lite", "DeepseekV2", {},
                    LATENTS | LATENT_YARN | {"expert_shared_count": 2, "expert_gating_func": 1,
                    "rope__scaling__yarn_log_multiplier": 0.0707}),
    "granitemoe": ("granitemoe", "GraniteMoe", {}, GRANITE | {"expert_count": 5, "expert_used_count": 2}),
    "smollm3": ("internlm2", "SmolLM3", HEADS | {"num_hidden_layers": 4, "rope_theta": 2e6}, {}),
    "stablelm": ("stablelm", "StableLm", {}, {"rope__dimension_count": 4}),
    "stablelm, parallel": ("stablelm, parallel", "StableLm", {},
                           {"rope__dimension_count": 6, "use_parallel_residual": True}),
    "starcoder2": ("starcoder2", "Starcoder2", {"sliding_window": None, "tie_word_embeddings": True}, {}),
    "seed_oss": ("seed_oss", "SeedOss", {}, {}),
    "qwen3_next": ("qwen3_next", "Qwen3Next", {}, DELTA | {
        "ssm__inner_size": 288, "ssm__state_size": 16, "ssm__time_step_rank": 4, "expert_count": 8,
        "expert_used_count": 3, "expert_feed_forward_length": 24, "expert_shared_feed_forward_length": 40,
    }),
    "qwen3_5": ("internlm2", "Qwen3_5", DELTA_CONFIG | {"full_attention_interval": 2},
                DELTA | {"full_attention_interval": 2}),
    "qwen3_5_moe": ("internlm2", "Qwen3_5Moe", DELTA_CONFIG | EXPERTS | {"shared_expert_intermediate_size": 40},
                    DELTA | {"expert_count": 6, "expert_used_count": 2, "expert_feed_forward_length": 32,
                             "expert_shared_feed_forward_length": 40}),
    "mamba2": ("mamba2", "Mamba2", {"max_position_embeddings": 1 << 20}, STATES | {
        "attention__head_count": 0, "attention__head_count_kv": 0, "feed_forward_length": 0, "ssm__state_size": 19,
        "ssm__group_count": 2, "context_length": 1 << 20,
    }),
    "granite 4, experts": ("granite 4, with experts", "GraniteMoeHybrid", {}, GRANITE | STATES | {
        "expert_count": 6, "expert_used_count": 3, "expert_shared_feed_forward_length": 72,
        "attention.head_count_kv": [0, 2], "rope__scaling__finetuned": False,
    }),
    "granite 4, dense": ("granite 4, dense", "GraniteMoeHybrid", {"mamba_conv_bias": True}, GRANITE | STATES | {
        "attention.head_count_kv": [0, 2], "rope__scaling__finetuned": True,
    }),
    "nemotron h": ("nemotron h", "NemotronH", {}, STATES | {
        "attention.head_count_kv": [0, 0, 0, 2, 0], "feed_forward_length": [0, 80, 0, 0, 80], "ssm__inner_size": 80,
        "ssm__state_size": 17, "ssm__group_count": 2, "attention.key_length": 16, "attention.value_length": 16,
    }),
    "falcon h1": ("falcon h1", "FalconH1", PLAIN_FALCON, STATES | {"ssm__inner_size": 64}),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_gives_the_bits_of_its_directory(tmp_path, name):
    base, architecture, changes, metadata = FAMILIES[name]
    changes = changes | {"architectures": [f"{architecture}ForCausalLM"]}
    stem = "backbone." if base in ("mamba2", "nemotron h") else "model."
    directory = write_family(tmp_path / "model", base, stem=stem, **changes)
    file = write_gguf(tmp_path / "m.gguf", directory, "F32", **metadata)
    expected = logits_of(reference, directory, IDS)
    np.testing.assert_array_equal(logits_of(reference, file, IDS), expected)
    np.testing.assert_array_equal(logits_of(fastpath, file, IDS), expected)


def test_the_value_heads_of_qwen3_5_lie_in_another_order(tmp_path):
    """Sums over all heads are then in another order, too: nearly the numbers of the directory."""
    changes = DELTA_CONFIG | {"linear_num_value_heads": 6, "architectures": ["Qwen3_5ForCausalLM"]}
    directory = write_family(tmp_path / "model", "internlm2", **changes)
    metadata = DELTA | {"ssm__time_step_rank": 6, "ssm__inner_size": 120}
    file = write_gguf(tmp_path / "m.gguf", directory, "F32", **metadata)
    expected, found = (logits_of(reference, path, IDS) for path in (directory, file))
    assert 0 < np.abs(found - expected).max() < 1e-5 * np.ptp(expected)
    np.testing.assert_array_equal(logits_of(fastpath, file, IDS), found)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"attention__clamp_kqv": 8.0}, "llama.attention.clamp_kqv = 8.0 is not supported"),
        ({"rope__scaling__type": "longrope", "rope__scaling__factor": 4.0}, "'longrope' with an attention factor"),
        ({"attention__value_length": 8}, "llama.attention.value_length must be that of keys, 16"),
        ({"block_count": 1 << 30}, "llama.block_count must be a whole number from 1 to 21, not 1073741824"),
        ({"expert_count": 4, "expert_used_count": 5}, "llama.expert_used_count must be a whole number from 1 to 4"),
        ({"rope__freq_base": float("nan")}, "llama.rope.freq_base must be a finite number, not nan"),
        ({"attention__head_count": "four"}, "llama.attention.head_count must be a whole number"),
        ({"rope_freqs": np.zeros(8, np.float32)}, "tensor rope_freqs.weight must hold numbers above 0"),
        ({"attn_sinks": np.zeros(8, np.float32)}, "tensor attn_sinks.weight is not known for the family llama"),
    ],
)
def test_what_would_change_the_arithmetic_is_refused_by_name(tmp_path, metadata, message):
    directory = write_family(tmp_path / "model", "internlm2", architectures=["LlamaForCausalLM"], **HEADS)
    file = write_gguf(tmp_path / "m.gguf", directory, "F32", **metadata)
    with pytest.raises(ModelError, match=message):
        open_source(file).tensors()
