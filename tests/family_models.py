"""Small random models of the families, made without PyTorch: config.json as published, with small sizes."""

import json
from pathlib import Path

import numpy as np

from small_models import stored_bits, write_safetensors
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.weights import Tensor, Weights

SIZES = {
    "vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0, "original_max_position_embeddings": 16}
GRANITE = {
    "attention_multiplier": 0.015625, "embedding_multiplier": 12.0, "logits_scaling": 6.0, "residual_multiplier": 0.22,
}  # fmt: skip
LATENT = {  # as DeepSeek's files spell it
    "aux_loss_alpha": 0.001, "ep_size": 1, "kv_lora_rank": 40, "moe_intermediate_size": 24, "moe_layer_freq": 1,
    "n_routed_experts": 8, "num_experts_per_tok": 3, "num_hidden_layers": 3, "num_key_value_heads": 4,
    "pretraining_tp": 1, "q_lora_rank": 20, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "rope_theta": 10000,
    "seq_aux": True, "v_head_dim": 10,
}  # fmt: skip
LATENT_YARN = {
    "beta_fast": 32, "beta_slow": 1, "factor": 4, "mscale": 1.0, "mscale_all_dim": 1.0, "type": "yarn",
    "original_max_position_embeddings": 32,
}  # fmt: skip
MAMBA = {
    "attention_bias": False, "mamba_chunk_size": 256, "mamba_conv_bias": True, "mamba_d_conv": 4, "mamba_d_head": 24,
    "mamba_d_state": 20, "mamba_expand": 2, "mamba_n_groups": 1, "mamba_n_heads": 4, "mamba_proj_bias": False,
}  # fmt: skip
NEMOTRON = {
    "attention_bias": False, "chunk_size": 128, "conv_kernel": 4, "expand": 2, "layer_norm_epsilon": 1e-5,
    "mamba_head_dim": 20, "mamba_hidden_act": "silu", "mamba_num_heads": 4, "mamba_proj_bias": False, "mlp_bias": False,
    "mlp_hidden_act": "relu2", "model_type": "nemotron_h", "n_groups": 2, "residual_in_fp32": False,
    "rescale_prenorm_residual": True, "rms_norm_eps": 1e-5, "sliding_window": None, "ssm_state_size": 17,
    "time_step_floor": 0.0001, "time_step_limit": [0.0, float("inf")], "time_step_max": 0.1, "time_step_min": 0.001,
    "use_bias": False, "use_conv_bias": True, "use_mamba_kernels": True, "mamba_ssm_cache_dtype": "float32",
}  # fmt: skip
DELTA = {  # as Qwen's files spell it
    "attn_output_gate": True, "full_attention_interval": 4, "head_dim": 16, "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 12, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_value_head_dim": 20,
    "mamba_ssm_dtype": "float32", "num_hidden_layers": 5,
}  # fmt: skip
MROPE = {
    "mrope_interleaved": True, "mrope_section": [2, 1, 1], "partial_rotary_factor": 0.25, "rope_theta": 1e7,
    "rope_type": "default",
}  # fmt: skip
GEMMA4_ROPE = {
    "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional"},
    "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
}  # fmt: skip
FACTORS = [1.0, 1.1, 1.3, 1.6, 2.0, 2.5]
PUBLISHED = {
    "mamba2": ("Mamba2ForCausalLM", {
        "chunk_size": 256, "conv_kernel": 4, "expand": 2, "head_dim": 24, "hidden_act": "silu",
        "initializer_range": 0.1, "layer_norm_epsilon": 1e-5, "model_type": "mamba2", "n_groups": 2,
        "norm_before_gate": True, "num_heads": 4, "rescale_prenorm_residual": False, "residual_in_fp32": True,
        "rms_norm": True, "state_size": 19, "time_step_floor": 0.0001, "time_step_init_scheme": "random",
        "time_step_limit": [0.0, float("inf")], "time_step_max": 0.1, "time_step_min": 0.001, "time_step_rank": 256,
        "time_step_scale": 1.0, "use_bias": False, "use_conv_bias": True, "num_attention_heads": None,
        "num_key_value_heads": None, "max_position_embeddings": None,
    }),
    "granite 4, with experts": ("GraniteMoeHybridForCausalLM", GRANITE | MAMBA | {
        "layer_types": ["mamba", "attention"], "position_embedding_type": "nope", "num_experts_per_tok": 3,
        "num_local_experts": 6, "shared_intermediate_size": 72, "rope_theta": 10000, "tie_word_embeddings": True,
        "init_method": "mup", "model_type": "granitemoehybrid", "normalization_function": "rmsnorm",
    }),
    "granite 4, dense": ("GraniteMoeHybridForCausalLM", GRANITE | MAMBA | {
        "layer_types": ["mamba", "attention"], "position_embedding_type": "rope", "num_experts_per_tok": 0,
        "num_local_experts": 0, "shared_intermediate_size": 80, "rope_theta": 10000, "tie_word_embeddings": True,
        "mamba_conv_bias": False, "mamba_proj_bias": True, "model_type": "granitemoehybrid",
    }),
    "falcon h1": ("FalconH1ForCausalLM", MAMBA | {
        "attention_bias": False, "attention_in_multiplier": 0.9, "attention_out_multiplier": 0.9375,
        "attn_layer_indices": None, "embedding_multiplier": 5.656854249492381, "head_dim": 16, "hidden_act": "silu",
        "key_multiplier": 0.39062499999999994, "lm_head_multiplier": 0.0390625, "mamba_d_head": 16, "mamba_d_ssm": 64,
        "mamba_norm_before_gate": False, "mamba_rms_norm": False, "mamba_use_mlp": True, "mlp_bias": False,
        "mlp_expansion_factor": 8, "mlp_multipliers": [0.8838834764831844, 0.5859375], "model_type": "falcon_h1",
        "projectors_bias": False, "rms_norm_eps": 1e-5, "rope_scaling": None, "rope_theta": 1e11,
        "ssm_in_multiplier": 1.25, "ssm_out_multiplier": 0.23570226039551587,
        "ssm_multipliers": [0.3535533905932738, 0.25, 0.3535533905932738, 0.5, 0.3535533905932738],
    }),
    "nemotron h": ("NemotronHForCausalLM", NEMOTRON | {
        "hybrid_override_pattern": "M-M*-", "num_hidden_layers": 5, "attention_head_dim": 16,
    }),
    "nemotron 3": ("NemotronHForCausalLM", NEMOTRON | {
        "hybrid_override_pattern": "MEM*E", "num_hidden_layers": 5, "head_dim": 16, "moe_intermediate_size": 24,
        "moe_shared_expert_intermediate_size": 40, "n_group": 1, "n_routed_experts": 6, "n_shared_experts": 1,
        "norm_topk_prob": True, "num_experts_per_tok": 3, "routed_scaling_factor": 2.5, "topk_group": 1,
        "moe_shared_expert_overlap": False, "mtp_hybrid_override_pattern": "*E", "num_nextn_predict_layers": 1,
    }),
    "bamba": ("BambaForCausalLM", MAMBA | {
        "attn_layer_indices": [1], "attn_rotary_emb": 6, "model_type": "bamba", "num_logits_to_keep": 1,
        "rms_norm_eps": 1e-5, "z_loss_coefficient": 0.0, "rope_theta": 10000.0,
    }),
    "gemma": ("GemmaForCausalLM", {"head_dim": 16, "hidden_act": "gelu", "hidden_activation": None}),
    "gemma3, text part": ("Gemma3ForConditionalGeneration", {"eos_token_id": [1, 106], "text_config": {
        "vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "model_type": "gemma3_text", "sliding_window": 24,
        "num_hidden_layers": 6, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "max_position_embeddings": 256,
    }}),
    "mistral3, text part": ("Mistral3ForConditionalGeneration", {"text_config": SIZES | {
        "head_dim": 16, "hidden_act": "silu", "model_type": "mistral", "rope_theta": 1e9, "sliding_window": None,
    }}),
    "ministral3": ("Mistral3ForConditionalGeneration", {"tie_word_embeddings": True, "text_config": SIZES | {
        "head_dim": 16, "model_type": "ministral3", "rope_parameters": YARN | {
            "llama_4_scaling_beta": 0.1, "mscale": 1.0, "mscale_all_dim": 1.0, "rope_theta": 1e6, "type": "yarn",
        },
    }}),
    "olmo3": ("Olmo3ForCausalLM", {
        "num_hidden_layers": 4, "rope_scaling": YARN | {"attention_factor": 1.2}, "rope_theta": 500000,
        "sliding_window": 24,
    }),
    "seed_oss": ("SeedOssForCausalLM", {
        "head_dim": 16, "attention_bias": True, "attention_out_bias": False, "mlp_bias": False, "rope_theta": 1e7,
        "rope_scaling": {"rope_type": "default"},
    }),
    "qwen2_moe": ("Qwen2MoeForCausalLM", {
        "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 72,
        "norm_topk_prob": False, "sliding_window": 32768, "use_sliding_window": False, "max_window_layers": 21,
    }),
    "phimoe": ("PhiMoEForCausalLM", {
        "num_local_experts": 6, "num_experts_per_tok": 2, "attention_bias": True, "lm_head_bias": True,
        "sliding_window": 256, "original_max_position_embeddings": 32, "router_jitter_noise": 0.3, "rope_scaling": {
            "type": "longrope", "long_factor": FACTORS, "short_factor": FACTORS, "long_mscale": 1.24,
            "short_mscale": 1.24, "original_max_position_embeddings": 32,
        },
    }),
    "gpt_oss": ("GptOssForCausalLM", {
        "attention_bias": True, "experts_per_token": 2, "head_dim": 16, "hidden_act": "silu", "hidden_size": 64,
        "initial_context_length": 16, "layer_types": ["sliding_attention", "full_attention"], "model_type": "gpt_oss",
        "num_experts_per_tok": 2, "num_local_experts": 5, "rms_norm_eps": 1e-5, "rope_scaling": YARN | {
            "truncate": False,
        }, "rope_theta": 150000, "router_aux_loss_coef": 0.9, "sliding_window": 24, "swiglu_limit": 0.7,
    }),
    "glm": ("GlmForCausalLM", {
        "attention_bias": True, "head_dim": 16, "partial_rotary_factor": 0.5, "rms_norm_eps": 1.5625e-07,
        "model_type": "glm", "eos_token_id": [3, 4], "pad_token_id": 3,
    }),
    "glm4": ("Glm4ForCausalLM", {
        "attention_bias": False, "head_dim": 16, "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-05,
        "model_type": "glm4", "eos_token_id": [3, 4], "pad_token_id": 3, "rope_theta": 10000.0,
    }),
    "cohere": ("CohereForCausalLM", {
        "model_type": "cohere", "layer_norm_eps": 1e-5, "logit_scale": 0.8333333333333334, "use_qk_norm": True,
        "num_key_value_heads": 4, "model_max_length": 131072, "rope_theta": 75000000.0,
    }),
    "cohere2": ("Cohere2ForCausalLM", {
        "model_type": "cohere2", "num_hidden_layers": 4, "cache_implementation": "hybrid", "head_dim": 12,
        "layer_norm_eps": 1e-5, "layer_switch": 4, "logit_scale": 0.25, "position_embedding_type": "rope_gptj",
        "order_of_interleaved_layers": "local_attn_first", "rope_scaling": None, "rotary_pct": 1.0, "rope_theta": 50000,
        "sliding_window": 24, "sliding_window_pattern": 4, "use_embedding_sharing": True, "use_gated_activation": True,
        "use_parallel_block": True, "use_parallel_embedding": True,
    }),
    "ernie4_5": ("Ernie4_5ForCausalLM", {
        "head_dim": 16, "model_type": "ernie4_5", "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "use_bias": False,
        "tie_word_embeddings": True,
    }),
    "ernie4_5 moe": ("Ernie4_5_MoeForCausalLM", {
        "model_type": "ernie4_5_moe", "moe_capacity": [64, 64, 64], "moe_gate": "topk", "moe_intermediate_size": 32,
        "moe_k": 2, "moe_layer_end_index": 27, "moe_layer_interval": 1, "moe_layer_start_index": 1,
        "moe_num_experts": 6, "moe_num_shared_experts": 2, "moe_use_aux_free": True, "num_nextn_predict_layers": 1,
        "rms_norm_eps": 1e-5, "rope_scaling": None, "rope_theta": 500000.0, "tie_word_embeddings": True,
        "use_bias": False,
    }),
    "minimax m2": ("MiniMaxM2ForCausalLM", {
        "model_type": "minimax", "attn_type_list": [1, 1], "head_dim": 16, "intermediate_size": 40, "rotary_dim": 8,
        "layernorm_full_attention_beta": 1.0, "mlp_intermediate_size": 80, "mtp_transformer_layers": 1,
        "num_experts_per_tok": 2, "num_local_experts": 6, "num_mtp_modules": 3, "qk_norm_type": "per_layer",
        "scoring_func": "sigmoid", "shared_intermediate_size": 0, "shared_moe_mode": "sigmoid", "use_mtp": True,
        "use_qk_norm": True, "use_routing_bias": True, "sliding_window": None, "rope_theta": 5000000,
    }),
    "hunyuan": ("HunYuanDenseV1ForCausalLM", {
        "attention_head_dim": 16, "head_dim": 16, "cla_share_factor": 2, "eod_token_id": 3, "mlp_bias": False,
        "model_type": "hunyuan_v1_dense", "norm_type": "rms", "org_vocab_size": 96, "rope_scaling": {
            "alpha": 1000.0, "beta_fast": 32, "beta_slow": 1, "factor": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0,
            "type": "dynamic",
        }, "use_cla": False, "use_qk_norm": True, "use_rotary_pos_emb": True,
    }),
    "hunyuan moe": ("HunYuanMoEV1ForCausalLM", {
        "model_type": "hunyuan_v1_moe", "num_experts": 6, "moe_topk": [2, 2], "moe_intermediate_size": [80, 80],
        "num_shared_expert": [1, 1], "use_mixed_mlp_moe": True, "moe_layer_num_skipped": 0, "use_qk_norm": True,
        "kv_lora_rank": None, "moe_drop_tokens": False, "rope_scaling": {"alpha": 1000.0, "type": "dynamic"},
    }),
    "llama4": ("Llama4ForConditionalGeneration", {"text_config": SIZES | {
        "model_type": "llama4_text", "num_hidden_layers": 4, "head_dim": 16, "intermediate_size": 40,
        "intermediate_size_mlp": 72, "attention_chunk_size": 24, "attn_temperature_tuning": 4, "floor_scale": 16,
        "attn_scale": 0.1, "interleave_moe_layer_step": 2, "moe_layers": [1, 3], "no_rope_layers": [],
        "num_experts_per_tok": 1, "num_local_experts": 4, "use_qk_norm": True, "for_llm_compressor": False,
        "rope_theta": 500000.0, "rope_scaling": {
            "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 64,
            "rope_type": "llama3",
        },
    }}),
    "granitemoe": ("GraniteMoeForCausalLM", GRANITE | {"num_local_experts": 5, "num_experts_per_tok": 2}),
    "olmoe": ("OlmoeForCausalLM", {
        "num_experts": 6, "num_experts_per_tok": 3, "norm_topk_prob": False, "clip_qkv": None, "rope_scaling": None,
    }),
    "starcoder2": ("Starcoder2ForCausalLM", {
        "hidden_act": "gelu_pytorch_tanh", "mlp_type": "default", "norm_epsilon": 1e-5, "norm_type": "layer_norm",
        "sliding_window": 24, "use_bias": True,
    }),
    "internlm2": ("InternLM2ForCausalLM", {"bias": False, "rope_scaling": None, "rope_theta": 1e6}),
    "stablelm": ("StableLmForCausalLM", {
        "hidden_size": 64, "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.25, "use_qkv_bias": True,
        "use_parallel_residual": False, "qk_layernorm": False,
    }),
    "stablelm, parallel": ("StableLmForCausalLM", {"partial_rotary_factor": 0.5, "use_parallel_residual": True}),
    "phi3": ("Phi3ForCausalLM", {"original_max_position_embeddings": 256, "sliding_window": None}),
    "deepseek_v2": ("DeepseekV2ForCausalLM", LATENT | {
        "first_k_dense_replace": 1, "n_group": 4, "n_shared_experts": 2, "norm_topk_prob": False,
        "rope_scaling": LATENT_YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}, "routed_scaling_factor": 16.0,
        "scoring_func": "softmax", "topk_group": 2, "topk_method": "group_limited_greedy",
    }),
    "deepseek_v2, lite": ("DeepseekV2ForCausalLM", LATENT | {
        "first_k_dense_replace": 1, "n_group": 1, "n_shared_experts": 2, "norm_topk_prob": False, "q_lora_rank": None,
        "rope_scaling": LATENT_YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}, "routed_scaling_factor": 1.0,
        "scoring_func": "softmax", "topk_group": 1, "topk_method": "greedy",
    }),
    "deepseek_v3": ("DeepseekV3ForCausalLM", LATENT | {
        "first_k_dense_replace": 1, "n_group": 4, "n_shared_experts": 1, "norm_topk_prob": True,
        "num_nextn_predict_layers": 1, "rope_scaling": LATENT_YARN, "routed_scaling_factor": 2.5,
        "scoring_func": "sigmoid", "topk_group": 2, "topk_method": "noaux_tc",
    }),
    "kimi_k2": ("DeepseekV3ForCausalLM", LATENT | {
        "first_k_dense_replace": 1, "model_type": "kimi_k2", "n_group": 1, "n_shared_experts": 1,
        "norm_topk_prob": True, "num_nextn_predict_layers": 0, "rope_scaling": LATENT_YARN,
        "routed_scaling_factor": 2.827, "scoring_func": "sigmoid", "topk_group": 1, "topk_method": "noaux_tc",
    }),
    "glm4_moe_lite": ("Glm4MoeLiteForCausalLM", LATENT | {
        "first_k_dense_replace": 1, "n_group": 1, "n_shared_experts": 1, "norm_topk_prob": True,
        "num_nextn_predict_layers": 1, "partial_rotary_factor": 1.0, "rms_norm_eps": 1e-5, "rope_scaling": None,
        "routed_scaling_factor": 1.8, "topk_group": 1, "topk_method": "noaux_tc",
    }),
    "glm4_moe": ("Glm4MoeForCausalLM", {
        "attention_bias": True, "first_k_dense_replace": 1, "head_dim": 16, "moe_intermediate_size": 24, "n_group": 1,
        "n_routed_experts": 8, "n_shared_experts": 1, "norm_topk_prob": True, "num_experts_per_tok": 3,
        "num_hidden_layers": 3, "num_nextn_predict_layers": 1, "partial_rotary_factor": 0.5, "rope_scaling": None,
        "rope_theta": 1000000, "routed_scaling_factor": 2.5, "topk_group": 1, "use_qk_norm": True,
    }),
    "lfm2": ("Lfm2ForCausalLM", {
        "block_auto_adjust_ff_dim": True, "block_dim": 48, "block_ff_dim": 80, "block_ffn_dim_multiplier": 1.0,
        "block_mlp_init_scale": 1.0, "block_multiple_of": 16, "block_norm_eps": 1e-5, "block_out_init_scale": 1.0,
        "block_use_swiglu": True, "block_use_xavier_init": True, "conv_L_cache": 3, "conv_bias": False, "conv_dim": 48,
        "conv_dim_out": 48, "conv_use_xavier_init": True, "full_attn_idxs": [1], "model_type": "lfm2",
        "norm_eps": 1e-5, "num_heads": 4, "num_hidden_layers": 4, "rope_theta": 1000000.0, "tie_embedding": True,
        "use_pos_enc": True,
    }),
    "lfm2 moe": ("Lfm2MoeForCausalLM", {
        "conv_L_cache": 3, "conv_bias": False, "layer_types": ["conv", "conv", "full_attention", "conv"],
        "model_type": "lfm2_moe", "moe_intermediate_size": 24, "norm_eps": 1e-5, "norm_topk_prob": True,
        "num_dense_layers": 2, "num_experts": 6, "num_experts_per_tok": 2, "num_hidden_layers": 4,
        "rope_theta": 1000000.0, "routed_scaling_factor": 1.0, "tie_embedding": True, "use_expert_bias": True,
    }),
    "qwen3_next": ("Qwen3NextForCausalLM", {
        "decoder_sparse_step": 1, "full_attention_interval": 4, "head_dim": 16, "hidden_act": "silu",
        "linear_conv_kernel_dim": 4, "linear_key_head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_value_head_dim": 72, "mlp_only_layers": [], "moe_intermediate_size": 24, "norm_topk_prob": True,
        "num_experts": 8, "num_experts_per_tok": 3, "num_hidden_layers": 4, "output_router_logits": False,
        "partial_rotary_factor": 0.25, "rope_scaling": None, "rope_theta": 10000000, "router_aux_loss_coef": 0.001,
        "shared_expert_intermediate_size": 40, "use_sliding_window": False,
    }),
    "qwen3_5, text part": ("Qwen3_5ForConditionalGeneration", {
        "image_token_id": 90, "tie_word_embeddings": False, "vision_config": {"depth": 1}, "text_config": SIZES | {
            **DELTA,
            "model_type": "qwen3_5_text", "mtp_num_hidden_layers": 1, "mtp_use_dedicated_embeddings": False,
            "output_gate_type": "swish", "rope_parameters": MROPE, "layer_types": [
                "linear_attention", "linear_attention", "full_attention", "linear_attention", "linear_attention",
            ],
        },
    }),
    "qwen3_5_moe, text part": ("Qwen3_5MoeForConditionalGeneration", {
        "text_config": SIZES | DELTA | {
            "intermediate_size": None, "model_type": "qwen3_5_moe_text", "mlp_only_layers": [],
            "moe_intermediate_size": 24, "num_experts": 8, "num_experts_per_tok": 3, "rope_parameters": MROPE,
            "shared_expert_intermediate_size": 40,
        },
    }),
    "gemma4": ("Gemma4ForConditionalGeneration", {"eos_token_id": [1, 106], "text_config": SIZES | {
        "attention_bias": False, "attention_k_eq_v": False, "enable_moe_block": False, "final_logit_softcapping": 30.0,
        "global_head_dim": 32, "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh", "model_type": "gemma4_text",
        "hidden_size_per_layer_input": 8, "moe_intermediate_size": None, "num_experts": None, "num_hidden_layers": 5,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention", "full_attention"],
        "num_global_key_value_heads": None, "num_kv_shared_layers": 3, "sliding_window": 24, "top_k_experts": None,
        "rope_parameters": GEMMA4_ROPE, "use_bidirectional_attention": None, "use_double_wide_mlp": True,
        "vocab_size_per_layer_input": 96,
    }}),
    "gemma4, experts": ("Gemma4ForConditionalGeneration", {"text_config": SIZES | {
        "attention_k_eq_v": True, "enable_moe_block": True, "final_logit_softcapping": 30.0, "global_head_dim": 32,
        "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh", "hidden_size_per_layer_input": 0,
        "layer_types": ["sliding_attention", "full_attention"], "model_type": "gemma4_text",
        "moe_intermediate_size": 32, "num_experts": 6, "num_global_key_value_heads": 1, "num_kv_shared_layers": 0,
        "sliding_window": 24, "top_k_experts": 3, "rope_parameters": GEMMA4_ROPE, "use_double_wide_mlp": False,
        "use_bidirectional_attention": "vision",
    }}),
    "gemma4, causal": ("Gemma4ForCausalLM", {
        "head_dim": 16, "global_head_dim": 16, "hidden_size_per_layer_input": 0, "model_type": "gemma4_text",
    }),
    "gemma4 unified": ("Gemma4UnifiedForConditionalGeneration", {"text_config": SIZES | {
        "attention_k_eq_v": True, "global_head_dim": 32, "head_dim": 16, "model_type": "gemma4_unified_text",
        "num_global_key_value_heads": 1, "sliding_window": 24, "rope_parameters": GEMMA4_ROPE,
        "layer_types": ["sliding_attention", "full_attention"], "use_bidirectional_attention": "vision",
    }}),
    "gemma4 unified, causal": ("Gemma4UnifiedForCausalLM", {
        "head_dim": 16, "global_head_dim": 16, "model_type": "gemma4_unified_text",
    }),
    "gemma3n": ("Gemma3nForConditionalGeneration", {"eos_token_id": [1, 106], "text_config": SIZES | {
        "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0, 0.0], "altup_active_idx": 0, "altup_coef_clip": 120.0,
        "altup_correct_scale": True, "altup_lr_multiplier": 1.0, "altup_num_inputs": 4, "head_dim": 16,
        "final_logit_softcapping": 30.0, "hidden_activation": "gelu_pytorch_tanh", "hidden_size_per_layer_input": 8,
        "intermediate_size": [80] * 5, "laurel_rank": 8, "model_type": "gemma3n_text", "num_hidden_layers": 5,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention", "full_attention"],
        "num_kv_shared_layers": 2, "query_pre_attn_scalar": 256, "rope_local_base_freq": 10000.0, "rope_scaling": None,
        "rope_theta": 1000000.0, "sliding_window": 24, "vocab_size_per_layer_input": 90,
    }}),
    "gemma3n, causal": ("Gemma3nForCausalLM", {
        "head_dim": 16, "laurel_rank": 8, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 8,
        "model_type": "gemma3n_text",
    }),
    "phi": ("PhiForCausalLM", {
        "hidden_act": "gelu_new", "layer_norm_eps": 1e-5, "num_attention_heads": 3, "num_key_value_heads": None,
        "partial_rotary_factor": 0.5, "qk_layernorm": False,
    }),
}  # fmt: skip


class RandomWeights(Weights):
    """Random tensors that are made, and kept in `made`, as they are asked for; norms' weights are near 1.

    Bytes are those of MXFP4: any blocks, and exponents for numbers of about 0.2.
    """

    def __init__(self, dtype: str = "F32", seed: int = 0, stem: str = "model."):
        super().__init__({})
        self.dtype, self.seed, self.stem = dtype, seed, stem
        self.made: dict[str, np.ndarray] = {}

    def __contains__(self, name):
        return name.startswith(self.stem)

    def get(self, name, shape, *, dtypes=()):
        random = np.random.default_rng([self.seed, *name.encode()])
        if dtypes == ("U8",):
            low, high = (122, 125) if name.endswith("_scales") else (0, 256)
            self.made[name] = random.integers(low, high, shape).astype(np.uint8)
            return Tensor(name, "U8", self.made[name])
        is_norm = "norm" in name and name.endswith("weight")
        self.made[name] = (random.standard_normal(shape) * 0.2 + is_norm).astype(np.float32)
        return Tensor(name, self.dtype, stored_bits(self.made[name], self.dtype))


def published(name: str) -> dict:
    """The config.json of a family."""
    architecture, changes = PUBLISHED[name]
    return {"architectures": [architecture]} | ({} if "text_config" in changes else SIZES) | changes


def write_family(directory: Path, name: str, *, dtype: str = "F32", stem: str = "model.", **changes) -> Path:
    """A model directory of a family with random weights; `changes` go into config.json. Returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(published(name) | changes))
    weights = RandomWeights(dtype, stem=stem)
    open_checkpoint(load_config(directory), weights)
    write_safetensors(directory / "model.safetensors", weights.made, dtype)
    return directory
