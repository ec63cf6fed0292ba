"""Every model family compared with transformers in float64, on small random models.

Also each family's config.json in the spelling of transformers 4, as on the hub. The tolerance is 1e-4 of the
range of the logits; transformers computes rotary angles in float32 even in float64, which is part of what it is for.
"""

import json

import numpy as np
import pytest

from small_models import logits_of
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.weights import load_weights
from verbatim.reference.commands.quantize import quantize_directory
from verbatim.reference.numerics.quantization import FORMATS
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.rope import Rope, RopeScaling
from verbatim.reference.records.sequence import Chunk

SMALL = {
    "vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 64}
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75,
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], "long_factor": [1.5, 2.0, 2.5, 3.0, 3.5, 4.0],
    "original_max_position_embeddings": 64,
}  # fmt: skip
GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": 20}
GEMMA3 = GEMMA | {
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
    },
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 32, "head_dim": 16}
SHARED = {
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 40,
}
MINISTRAL3 = YARN | {
    "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 16,
}  # fmt: skip
PHIMOE = {"rope_type": "longrope", "rope_theta": 1e6, "long_mscale": 1.24, "short_mscale": 1.24} | {
    "original_max_position_embeddings": 32,
    # transformers 5.24 takes the short factors always, unlike the authors' code
    "short_factor": [1.0, 1.5, 2.0, 2.5, 3.0, 3.5], "long_factor": [1.0, 1.5, 2.0, 2.5, 3.0, 3.5],
}  # fmt: skip
OLMO3 = {
    "sliding_window": 20, "num_hidden_layers": 4, "rope_parameters": {
        "full_attention": YARN, "sliding_attention": {"rope_type": "default", "rope_theta": 500000.0},
    },
}  # fmt: skip
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8}
QWEN_VISION = {
    "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 48, "patch_size": 8,
    "num_position_embeddings": 16,
}  # fmt: skip
GRANITE = {
    "embedding_multiplier": 12.0, "attention_multiplier": 0.1, "residual_multiplier": 0.22, "logits_scaling": 8.0,
}  # fmt: skip
GPT_OSS = {
    "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 20, "head_dim": 16, "swiglu_limit": 0.5,
    "rope_parameters": YARN | {"truncate": False, "beta_fast": 32.0, "beta_slow": 1.0},
}  # fmt: skip
LATENT = {
    "kv_lora_rank": 32, "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 12, "v_head_dim": 10,
    "num_key_value_heads": 4, "n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 32,
    "n_group": 4, "topk_group": 2, "first_k_dense_replace": 1,
}  # fmt: skip
DEEPSEEK_YARN = YARN | {"mscale": 0.8, "mscale_all_dim": 0.6, "original_max_position_embeddings": 32}
GLM = {
    "n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 32, "routed_scaling_factor": 1.5,
    "num_key_value_heads": 2, "head_dim": 12,
}  # fmt: skip
ALPHA = {"rope_type": "dynamic", "alpha": 1000.0, "rope_theta": 10000.0, "factor": 1.0}
LLAMA4 = {
    "num_hidden_layers": 4, "head_dim": 16, "intermediate_size": 40, "intermediate_size_mlp": 72,
    "num_local_experts": 6, "num_experts_per_tok": 2, "attention_chunk_size": 20, "no_rope_layer_interval": 2,
    "floor_scale": 16, "attn_scale": 0.3,
    "rope_parameters": LLAMA3 | {"factor": 16.0, "low_freq_factor": 1.0, "high_freq_factor": 1.0},
}  # fmt: skip
MAMBA2 = {
    "num_heads": 4, "head_dim": 24, "state_size": 16, "n_groups": 2, "chunk_size": 32, "layer_norm_epsilon": 1e-4,
}  # fmt: skip
MAMBA = {
    "mamba_n_heads": 4, "mamba_d_head": "auto", "mamba_d_state": 20, "mamba_chunk_size": 32, "rms_norm_eps": 1e-4,
}  # fmt: skip
GRANITE4 = GRANITE | MAMBA | {"layer_types": ["mamba", "attention", "mamba"], "shared_intermediate_size": 56}
FALCON = MAMBA | {
    "head_dim": 16, "mamba_d_ssm": 64, "embedding_multiplier": 5.5, "lm_head_multiplier": 0.04, "key_multiplier": 0.4,
    "attention_out_multiplier": 0.9, "ssm_in_multiplier": 1.25, "ssm_out_multiplier": 0.25,
    "ssm_multipliers": [0.35, 0.25, 0.7, 0.5, 0.8], "mlp_multipliers": [0.9, 0.6],
}  # fmt: skip
NEMOTRON = {
    "head_dim": 16, "mamba_num_heads": 4, "mamba_head_dim": 20, "ssm_state_size": 17, "n_groups": 2, "chunk_size": 32,
    # transformers 5.24 takes the smallest step of initialisation for the bound, unlike the authors' code
    "time_step_min": 0.6, "time_step_limit": (0.6, float("inf")),
}  # fmt: skip
DELTA = {
    "head_dim": 16, "partial_rotary_factor": 0.5, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 12, "linear_value_head_dim": 20, "linear_conv_kernel_dim": 4, "full_attention_interval": 3,
}  # fmt: skip
DELTA_EXPERTS = DELTA | SHARED | {"num_experts_per_tok": 3}
MROPE = {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]}
GEMMA4 = {
    "num_hidden_layers": 6, "head_dim": 16, "global_head_dim": 24, "sliding_window": 20,
    "vocab_size_per_layer_input": 96,
    "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 3, "use_double_wide_mlp": True,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
}  # fmt: skip
GEMMA4_EXPERTS = GEMMA4 | {
    "hidden_size_per_layer_input": 0, "attention_k_eq_v": True, "num_global_key_value_heads": 1,
    "num_kv_shared_layers": 0, "enable_moe_block": True, "num_experts": 6, "top_k_experts": 2,
    "moe_intermediate_size": 32, "final_logit_softcapping": 30.0, "use_bidirectional_attention": "vision",
}  # fmt: skip
GEMMA3N = {
    "num_hidden_layers": 6, "head_dim": 16, "sliding_window": 20, "vocab_size_per_layer_input": 80, "laurel_rank": 8,
    "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 3, "intermediate_size": [80, 80, 40, 40, 40, 64],
    "activation_sparsity_pattern": [0.95, 0.6, 0.0, 0.0, 0.3, 0.0],
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
}  # fmt: skip
CASES = {
    "llama, llama3 rope": ("llama", {"rope_parameters": LLAMA3}),
    "llama, linear rope": ("llama", {"rope_parameters": LINEAR}),
    "llama, yarn": ("llama", {"rope_parameters": YARN}),
    "mistral": ("mistral", {"sliding_window": None, "head_dim": 16}),
    "ministral, windows": ("ministral", {
        "sliding_window": 20, "head_dim": 16, "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    }),
    "mistral, window": ("mistral", {"sliding_window": 20, "head_dim": 16}),
    "qwen2": ("qwen2", {}),
    "qwen2, windows": ("qwen2", {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "gemma2": ("gemma2", GEMMA),
    "gemma3": ("gemma3_text", GEMMA3),
    "phi3": ("phi3", {"tie_word_embeddings": False, "sliding_window": 33}),
    "phi4, longrope": ("phi3", {"rope_parameters": LONGROPE, "num_attention_heads": 3, "num_key_value_heads": 1}),
    "phi4, longrope, long": (
        "phi3",
        {"rope_parameters": LONGROPE, "num_attention_heads": 3, "num_key_value_heads": 1}
        | {"original_max_position_embeddings": 64},
    ),
    "smollm3": ("smollm3", {"num_hidden_layers": 5}),
    "olmo2": ("olmo2", {}),
    "granite": ("granite", GRANITE),
    "gemma": ("gemma", {"head_dim": 16}),
    "gemma3, text part": (
        "gemma3",
        {"text_config": SMALL | GEMMA3, "vision_config": VISION | {"image_size": 16}, "mm_tokens_per_image": 1},
    ),
    "mistral3, text part": (
        "mistral3",
        {
            "text_config": SMALL | {"model_type": "mistral", "head_dim": 16, "sliding_window": None},
            "vision_config": VISION,
        },
    ),
    "ministral3": ("ministral3", {"head_dim": 16, "rope_parameters": MINISTRAL3}),
    "ministral3, text part": (
        "mistral3",
        {
            "text_config": SMALL | {"model_type": "ministral3", "head_dim": 16, "rope_parameters": MINISTRAL3},
            "vision_config": VISION,
        },
    ),
    "olmo3": ("olmo3", OLMO3),
    "seed_oss": ("seed_oss", {"head_dim": 16}),
    "qwen2 moe": ("qwen2_moe", SHARED | {"mlp_only_layers": [1]}),
    "qwen2 moe, normalised": ("qwen2_moe", SHARED | {"norm_topk_prob": True, "decoder_sparse_step": 2}),
    "phimoe": (
        "phimoe",
        {"num_local_experts": 4, "attention_bias": True, "lm_head_bias": True, "rope_parameters": PHIMOE},
    ),
    "phimoe, more near scores": ("phimoe", {"num_local_experts": 8, "router_jitter_noise": 0.4}),
    "granitemoe": ("granitemoe", GRANITE | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "olmoe": ("olmoe", {"num_experts": 6, "num_experts_per_tok": 3}),
    "starcoder2": ("starcoder2", {"sliding_window": 20}),
    "stablelm": ("stablelm", {"hidden_size": 64}),
    "stablelm, parallel, biases": (
        "stablelm", {"use_parallel_residual": True, "use_qkv_bias": True, "partial_rotary_factor": 0.5}
    ),
    "lfm2": ("lfm2", {
        "num_hidden_layers": 4, "layer_types": ["conv", "full_attention", "conv", "conv"], "block_multiple_of": 16,
    }),
    "lfm2, biases, four tokens": ("lfm2", {
        "full_attn_idxs": [1], "conv_bias": True, "conv_L_cache": 4, "block_auto_adjust_ff_dim": False,
    }),
    "lfm2 moe": ("lfm2_moe", {
        "num_hidden_layers": 4, "layer_types": ["conv", "full_attention", "conv", "full_attention"], "num_experts": 6,
        "num_experts_per_tok": 3, "moe_intermediate_size": 32, "num_dense_layers": 1, "routed_scaling_factor": 1.5,
    }),
    "phi": ("phi", {"partial_rotary_factor": 0.4, "num_attention_heads": 3, "num_key_value_heads": 3}),
    "gpt_oss": ("gpt_oss", GPT_OSS),
    "gpt_oss, without biases of attention": ("gpt_oss", GPT_OSS | {"attention_bias": False, "layer_types": None}),
    "deepseek v2, no state of queries": ("deepseek_v2", LATENT | {"q_lora_rank": None, "routed_scaling_factor": 1.5}),
    "deepseek v2, groups, yarn": (
        "deepseek_v2", LATENT | {"topk_method": "group_limited_greedy", "rope_parameters": DEEPSEEK_YARN}
    ),
    "deepseek v3, yarn": ("deepseek_v3", LATENT | {"rope_parameters": DEEPSEEK_YARN, "n_shared_experts": 2}),
    "deepseek v3, weights as they are, halves": (
        "deepseek_v3", LATENT | {"norm_topk_prob": False, "rope_interleave": False, "q_lora_rank": None}
    ),
    "glm 4.7 flash": ("glm4_moe_lite", LATENT | {"n_group": 1, "topk_group": 1}),
    "glm 4.5": ("glm4_moe", GLM | {"attention_bias": True}),
    "glm 4.6, norms": ("glm4_moe", GLM | {"use_qk_norm": True, "n_group": 2, "head_dim": 16}),
    "glm": ("glm", {"head_dim": 16}),
    "glm4": ("glm4", {"head_dim": 16, "attention_bias": False, "partial_rotary_factor": 0.75}),
    "cohere": ("cohere", {"logit_scale": 0.3, "layer_norm_eps": 0.01}),
    "cohere, norms of heads": ("cohere", {"use_qk_norm": True, "attention_bias": True, "tie_word_embeddings": False}),
    "cohere2": ("cohere2", {"sliding_window": 20, "num_hidden_layers": 4, "logit_scale": 0.25}),
    "ernie4_5": ("ernie4_5", {"head_dim": 16, "use_bias": True}),
    "ernie4_5 moe": ("ernie4_5_moe", {
        "moe_num_experts": 6, "moe_k": 2, "moe_intermediate_size": 32, "moe_num_shared_experts": 2,
        "num_hidden_layers": 4, "moe_layer_end_index": 2,
    }),
    "minimax m2": ("minimax_m2", {
        "num_local_experts": 6, "num_experts_per_tok": 3, "head_dim": 16, "rotary_dim": 8, "intermediate_size": 40,
    }),
    "hunyuan": ("hunyuan_v1_dense", {"head_dim": 16, "attention_bias": True, "rope_parameters": ALPHA}),
    "hunyuan moe": ("hunyuan_v1_moe", {"num_experts": 6, "moe_topk": 3, "head_dim": 16}),
    "llama4": ("llama4_text", LLAMA4),
    "llama4, dense layers": ("llama4_text", LLAMA4 | {
        "interleave_moe_layer_step": 2, "use_qk_norm": False, "attention_bias": True, "attn_temperature_tuning": False,
        "no_rope_layers": [1, 1, 0, 1], "attention_chunk_size": 64, "num_experts_per_tok": 1,
    }),
    "llama4, text part": ("llama4", {
        "text_config": SMALL | LLAMA4 | {"model_type": "llama4_text"}, "vision_config": VISION | {"image_size": 16},
    }),
    "mamba2": ("mamba2", MAMBA2),
    "mamba2, biases, bounds": ("mamba2", MAMBA2 | {
        "use_bias": True, "use_conv_bias": False, "n_groups": 1, "time_step_limit": (0.5, 0.9), "state_size": 21,
        "tie_word_embeddings": True,
    }),
    "granite 4, experts": ("granitemoehybrid", GRANITE4 | {"num_local_experts": 6, "num_experts_per_tok": 3}),
    "granite 4, dense, positions": ("granitemoehybrid", GRANITE4 | {
        "num_local_experts": 0, "position_embedding_type": "rope", "mamba_n_groups": 2, "mamba_proj_bias": True,
        "mamba_conv_bias": False,
    }),
    "bamba": ("bamba", MAMBA | {"attn_layer_indices": [1], "mlp_bias": True}),
    "falcon h1": ("falcon_h1", FALCON),
    "falcon h1, norms": ("falcon_h1", FALCON | {
        "mamba_rms_norm": True, "mamba_n_groups": 2, "attention_in_multiplier": 0.7, "projectors_bias": True,
    }),
    "falcon h1, norms after gates": ("falcon_h1", FALCON | {"mamba_rms_norm": True, "mamba_norm_before_gate": False}),
    "nemotron h": ("nemotron_h", NEMOTRON | {
        "layers_block_type": ["mamba", "mlp", "mamba", "attention", "mlp"], "mlp_bias": True,
    }),
    "nemotron h, experts": ("nemotron_h", NEMOTRON | {
        "layers_block_type": ["mamba", "moe", "attention", "mlp"], "n_routed_experts": 8, "num_experts_per_tok": 3,
        "moe_intermediate_size": 32, "moe_shared_expert_intermediate_size": 40, "n_group": 4, "topk_group": 2,
        "routed_scaling_factor": 1.5, "use_bias": True,
    }),
    "qwen3 next": ("qwen3_next", DELTA_EXPERTS | {"norm_topk_prob": True, "mlp_only_layers": [1]}),
    "qwen3 next, biases, weights as they are": ("qwen3_next", DELTA_EXPERTS | {
        "attention_bias": True, "norm_topk_prob": False, "linear_conv_kernel_dim": 3, "linear_num_key_heads": 4,
        "decoder_sparse_step": 2, "layer_types": ["full_attention", "linear_attention", "linear_attention"],
    }),
    "qwen3.5": ("qwen3_5_text", DELTA | {"rope_parameters": MROPE | {"mrope_interleaved": True}}),
    "qwen3.5, text part": (
        "qwen3_5",
        {"text_config": SMALL | DELTA | {"model_type": "qwen3_5_text"}, "vision_config": QWEN_VISION},
    ),
    "qwen3.5 moe": ("qwen3_5_moe_text", DELTA_EXPERTS),
    "qwen3.5 moe, text part": (
        "qwen3_5_moe",
        {"text_config": SMALL | DELTA_EXPERTS | {"model_type": "qwen3_5_moe_text"}, "vision_config": QWEN_VISION},
    ),
    "gemma4": ("gemma4_text", GEMMA4),
    "gemma4, experts": ("gemma4_text", GEMMA4_EXPERTS),
    "gemma4, text part": ("gemma4", {
        "text_config": SMALL | GEMMA4 | {"attention_k_eq_v": True, "attention_bias": True},
        "vision_config": None, "audio_config": None,
    }),
    "gemma4 unified": ("gemma4_unified_text", GEMMA4 | {"num_kv_shared_layers": 0, "attention_k_eq_v": True}),
    "gemma3n": ("gemma3n_text", GEMMA3N),
    "gemma3n, another active stream": ("gemma3n_text", GEMMA3N | {
        "altup_num_inputs": 3, "altup_active_idx": 1, "altup_correct_scale": False, "num_kv_shared_layers": 0,
        "attention_bias": True,
    }),
    "mixtral": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen3 moe, a dense layer": ("qwen3_moe", EXPERTS | {"norm_topk_prob": True, "mlp_only_layers": [1]}),
    "qwen3 moe, weights as they are": ("qwen3_moe", EXPERTS | {"norm_topk_prob": False}),
}  # fmt: skip
LESS_ONE = ("gemma", "gemma2", "gemma3", "gemma3_text")  # whose norms' weights are stored less one
OURS = {  # which transformers does not have
    "mistral, sinks": ("mistral", {"sliding_window": 20, "head_dim": 16, "attention_sink_size": 3}),
}
IDS = np.random.default_rng(1).integers(0, SMALL["vocab_size"], 150).tolist()


@pytest.fixture(scope="module")
def peers(tmp_path_factory):
    """Makes, once for each case, a random model of transformers: its directory, and its logits for IDS."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", minversion="5", reason="transformers 5 is not installed")
    made = {}

    def make(name):
        if name in made:
            return made[name]
        model_type, changes = (CASES | OURS)[name]
        torch.manual_seed(len(name))
        config = transformers.AutoConfig.for_model(model_type, **({} if "text_config" in changes else SMALL) | changes)
        multimodal = "text_config" in changes
        auto = transformers.AutoModelForImageTextToText if multimodal else transformers.AutoModelForCausalLM
        peer = auto.from_config(config, attn_implementation="eager", experts_implementation="eager")
        with torch.no_grad():
            for parameter, values in peer.named_parameters():
                is_norm = "norm" in parameter and model_type not in LESS_ONE
                values.copy_(torch.randn_like(values) * 0.15 + is_norm)
            for buffer, values in peer.named_buffers():
                if buffer.endswith("layer_scalar"):
                    values.copy_(torch.rand_like(values) + 0.5)
                if buffer.endswith(("e_score_correction_bias", "expert_bias")):
                    values.copy_(torch.randn_like(values) * 0.15)
            directory = tmp_path_factory.mktemp(model_type)
            peer.save_pretrained(directory)
            if model_type == "llama4":  # whose whole class fails in transformers 5.24 where there is no image
                peer = peer.language_model
            made[name] = directory, peer.double().eval()(torch.tensor([IDS])).logits[0].numpy()
        return made[name]

    return make


@pytest.mark.parametrize("name", CASES)
def test_logits_agree_with_transformers(backend, peers, name):
    directory, expected = peers(name)
    ours = logits_of(backend, directory, IDS)
    assert np.abs(ours - expected).max() < 1e-4 * np.ptp(expected)


@pytest.mark.parametrize("quantization", [None, *FORMATS])
@pytest.mark.parametrize("name", ["qwen2", "phi3", "mixtral", "qwen3 moe, a dense layer"])
def test_a_library_of_packed_weights_changes_no_bit(peers, tmp_path, name, quantization):
    backend = pytest.importorskip("verbatim.fastpath.backend", reason="the fast path is not built")
    from verbatim.fastpath.model.model_lib import open_model_lib

    directory, _ = peers(name)
    config = load_config(directory)
    checkpoint, found = open_checkpoint(config, load_weights(directory)), []
    for packs in ("in memory", "into a file", "not at all"):
        lib = open_model_lib(directory, quantization, tmp_path / "packed") if found else None
        assert lib is None or lib.is_complete == (packs == "not at all")
        model = backend.PARTS.Model(config, checkpoint, quantization=quantization, model_lib=lib)
        chunk = Chunk(token_ids=tuple(IDS[:40]), start=0, pages=(0, 1, 2), num_logits=40)
        found.append(np.array(model.forward([chunk], backend.PARTS.PagedCache(config, 3))).tobytes())
    assert found[0] == found[1] == found[2]


def read(directory, architecture, **changes):
    raw = {name: value for name, value in SMALL.items() if value is not None} | changes
    (directory / "config.json").write_text(json.dumps(raw | {"architectures": [architecture]}))
    return load_config(directory)


def test_mistral_of_version_4_has_a_window_in_all_layers(tmp_path):
    config = read(tmp_path, "MistralForCausalLM", sliding_window=4096, rope_theta=1e6, torch_dtype="bfloat16")
    assert [layer.window for layer in config.layers] == [4096] * 3
    assert config.layers[0].rope == Rope(theta=1e6, rotary_dim=12)
    assert read(tmp_path, "MistralForCausalLM", sliding_window=None).layers[0].window is None


def test_qwen2_of_version_4_names_a_window_that_it_does_not_use(tmp_path):
    settings = {"sliding_window": 32768, "max_window_layers": 1}
    assert [x.window for x in read(tmp_path, "Qwen2ForCausalLM", use_sliding_window=False, **settings).layers] == [
        None
    ] * 3
    used = read(tmp_path, "Qwen2ForCausalLM", use_sliding_window=True, **settings)
    assert [layer.window for layer in used.layers] == [None, 32768, 32768]
    assert (used.query_bias, used.output_bias) == (True, False)


def test_gemma_of_version_4_omits_fields(tmp_path):
    second = read(
        tmp_path, "Gemma2ForCausalLM", sliding_window=4096, hidden_activation="gelu_pytorch_tanh", head_dim=16
    )
    assert [layer.window for layer in second.layers] == [4096, None, 4096]
    assert second.tie_embeddings
    assert second.attention_scale == 256**-0.5
    third = read(
        tmp_path, "Gemma3ForCausalLM", sliding_window=512, sliding_window_pattern=3, rope_local_base_freq=10000,
        rope_theta=1e6, rope_scaling={"rope_type": "linear", "factor": 8.0}, head_dim=16,
        hidden_activation="gelu_pytorch_tanh",
    )  # fmt: skip
    assert [layer.window for layer in third.layers] == [512, 512, None]
    assert third.layers[0].rope == Rope(theta=10000, rotary_dim=16)
    assert third.layers[2].rope == Rope(theta=1e6, rotary_dim=16, scaling=RopeScaling(rope_type="linear", factor=8.0))


def test_phi3_of_version_4_calls_it_su(tmp_path):
    settings = {"original_max_position_embeddings": 64, "partial_rotary_factor": 0.5, "head_dim": 12}
    scaling = {"type": "su", "short_factor": [1.0, 1.0, 1.0], "long_factor": [1.0, 2.0, 4.0]}
    rope = read(tmp_path, "Phi3ForCausalLM", rope_scaling=scaling, **settings).layers[0].rope
    assert rope.rotary_dim == 6
    assert rope.scaling.factors == (1.0, 2.0, 4.0)
    assert rope.scaling.attention_factor == pytest.approx((1 + np.log(4) / np.log(64)) ** 0.5, rel=1e-14)


def test_smollm3_omits_what_its_family_has(tmp_path):
    config = read(tmp_path, "SmolLM3ForCausalLM", num_hidden_layers=4)
    assert config.tie_embeddings
    assert config.layers[0].rope.theta == 2e6
    assert [layer.rope is None for layer in config.layers] == [False, False, False, True]
    assert not read(tmp_path, "SmolLM3ForCausalLM", tie_word_embeddings=False).tie_embeddings
    second = read(tmp_path, "SmolLM3ForCausalLM", num_hidden_layers=4, no_rope_layer_interval=2)
    assert [layer.rope is None for layer in second.layers] == [False, True, False, True]


@pytest.mark.parametrize(("model_type", "family"), [("qwen3", "qwen3"), ("gemma3_text", "gemma3")])
def test_without_architectures_the_model_type_counts(tmp_path, model_type, family):
    raw = {name: value for name, value in SMALL.items() if value is not None} | {"model_type": model_type}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert load_config(tmp_path).family == family


def test_qwen3_moe_of_version_4_counts_num_experts(tmp_path):
    config = read(tmp_path, "Qwen3MoeForCausalLM", decoder_sparse_step=2, norm_topk_prob=True, **EXPERTS)
    assert [layer.has_experts for layer in config.layers] == [False, True, False]
    assert config.experts.num_experts == 6
    assert config.experts.is_normalized


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rope_scaling": {"rope_type": "axial"}}, "rope type 'axial' is not supported"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope type 'yarn' needs a number for 'factor'"),
        ({"rope_scaling": LONGROPE | {"long_factor": [1.0]}, "head_dim": 16}, "1 factors for 6 frequencies"),
        ({"sliding_window": 8, "layer_types": ["full_attention"]}, "layer_types has 1 entries for 3 layers"),
        ({"no_rope_layers": [1]}, "no_rope_layers has 1 entries for 3 layers"),
        ({"hidden_act": "relu"}, "hidden_act 'relu' is not supported; supported: silu, gelu_pytorch_tanh"),
    ],
)
def test_a_fault_is_named(tmp_path, changes, words):
    with pytest.raises(ModelError, match=words):
        read(tmp_path, "LlamaForCausalLM", **changes)


@pytest.mark.parametrize("name", ["phi3", "mixtral", "qwen3 moe, a dense layer", "gemma2", "olmo2"])
def test_quantised_on_disk_and_while_loading_is_the_same(backend, peers, tmp_path, name):
    directory, _ = peers(name)
    quantize_directory(directory, tmp_path / "integers", "w4a8")
    expected = logits_of(backend, directory, IDS, "w4a8")
    np.testing.assert_array_equal(logits_of(backend, tmp_path / "integers", IDS), expected)


@pytest.mark.parametrize("quantization", [None, *FORMATS])
@pytest.mark.parametrize("name", CASES | OURS)
def test_engines_agree_to_the_bit(peers, name, quantization):
    fastpath = pytest.importorskip("verbatim.fastpath.machine.dispatch", reason="the fast path is not built")
    from verbatim.fastpath import backend as fast
    from verbatim.reference import backend as reference

    directory, _ = peers(name)
    expected = logits_of(reference, directory, IDS, quantization).astype(np.float32)
    chosen = fastpath.level()
    for level in fastpath.available():
        fastpath.use(level)
        found = logits_of(fast, directory, IDS, quantization).astype(np.float32)
        fastpath.use(chosen)
        np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32), err_msg=level)
