"""Which keys of config.json are read, which change nothing, and which are refused as they may change the arithmetic.

A key that nothing here knows is refused where its name is that of arithmetic and its value is not a neutral one (false,
null, 0, 1, nothing). Other unknown keys pass; `unread` names them for the log.
"""

import re
from collections.abc import Collection
from typing import Any

from verbatim.reference.records.errors import ModelError

READ = frozenset((  # by all families
    "architectures", "model_type", "quantization", "quantization_config", "vocab_size", "hidden_size",
    "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "max_position_embeddings", "original_max_position_embeddings", "rms_norm_eps", "hidden_act",
    "tie_word_embeddings", "bos_token_id", "eos_token_id", "rope_theta", "rope_scaling", "rope_parameters",
    "partial_rotary_factor", "layer_types", "sliding_window", "use_sliding_window", "attention_sink_size",
    "no_rope_layers", "no_rope_layer_interval",
))  # fmt: skip
EXPERTS = frozenset((  # by those that have a mixture of experts
    "num_local_experts", "num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob",
    "mlp_only_layers", "decoder_sparse_step",
))  # fmt: skip
# Of training, of other programs' ways to compute the same, of sampling, and what files say of themselves.
HARMLESS = frozenset((
    "use_cache", "pretraining_tp", "use_bfloat16", "is_decoder", "is_encoder_decoder", "chunk_size_feed_forward",
    "output_attentions", "output_hidden_states", "output_scores", "output_router_logits", "return_dict",
    "return_dict_in_generate", "num_logits_to_keep", "cache_implementation", "kv_cache_dtype", "kv_cache_scheme",
    "router_jitter_noise", "input_jitter_noise", "max_window_layers", "dual_chunk_attention_config",
    "transformers_version", "transformers.js_config", "_name_or_path", "name_or_path", "auto_map", "torch_dtype",
    "dtype", "model_max_length", "max_sequence_length", "seq_length", "n_ctx", "n_positions", "tokenizer_class",
    "prefix", "torchscript", "id2label", "label2id", "problem_type", "task_specific_params", "finetuning_task",
    "unsloth_version", "unsloth_fixed", "is_llama_config", "temperature", "top_k", "top_p", "typical_p", "do_sample",
    "max_length", "min_length", "max_new_tokens", "num_beams", "num_beam_groups", "num_return_sequences",
    "early_stopping", "repetition_penalty", "length_penalty", "diversity_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens",
    "remove_invalid_values",
))  # fmt: skip
HARMLESS_NAMES = re.compile(
    r"dropout|pdrop|flash|xformers|implementation|initializer|xavier|loss|checkpointing|fp32|token_ids?$|nextn|mtp"
)
ALIASES = {  # what other programs call the same number
    "num_layers": "num_hidden_layers", "n_layer": "num_hidden_layers", "n_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads", "n_head": "num_attention_heads", "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads", "num_kv_heads": "num_key_value_heads", "kv_channels": "head_dim",
    "ffn_hidden_size": "intermediate_size", "norm_eps": "rms_norm_eps", "layer_norm_epsilon": "rms_norm_eps",
    "experts_per_token": "num_experts_per_tok",
}  # fmt: skip
SAME: dict[str, tuple] = {  # where only such a value is what is computed anyway
    "scale_attn_weights": (True,), "mlp_type": ("default",), "norm_type": ("rms_norm", "rmsnorm"), "no_bias": (True,),
    "use_rmsnorm": (True,), "use_rope": (True,), "causal": (True,), "is_causal": (True,),
    "position_embedding_type": ("rope", "rotary", "absolute"),
}  # fmt: skip
ARITHMETIC = re.compile(
    r"attn|attention|bias|norm|clip|softcap|capping|_cap$|alibi|rope|rotary|ntk|logn|position|scal|multiplier|_mult$"
    r"|sink|window|expert|dense|moe|rout|scoring|topk|gate|gating|residual|parallel_(attn|attention|residual|block|mlp)|use_parallel|logit|qk|kv|mlp|ffn|glu|activation"
    r"|_act$|act_fn|mup|lora|layer|mamba|ssm|state_size|(^|_)conv(_|1d|$)|delta|recurrent|temperature|causal|bidirection"
    r"|embed|mixing|altup|laurel|(^|_)eps(_|$)|epsilon|rank|value_dim|key_dim|head_dim|num_heads|n_head"
)
NEUTRAL_TEXTS = ("", "none", "null", "default")


def check_keys(raw: dict, known: Collection[str], family: str) -> None:
    """ModelError for a key that would change the arithmetic, and that the family, which reads the `known`, has not."""
    for name in raw:
        if not _passes(name, raw, known) and ARITHMETIC.search(name.lower()):
            raise ModelError(f"config.json: {name} = {_shown(raw[name])} is not supported for {family!r}")


def unread(raw: dict, known: Collection[str]) -> list[str]:
    """The keys that are passed over although nothing here knows them, sorted."""
    return sorted(name for name in raw if not (_passes(name, raw, known) or ARITHMETIC.search(name.lower())))


def is_neutral(value: Any) -> bool:
    """Whether a value switches nothing on: false, null, 0, 1, or nothing."""
    if isinstance(value, str):
        return value.lower() in NEUTRAL_TEXTS
    return value is not True and (not value or value == 1)


def _passes(name: str, raw: dict, known: Collection[str]) -> bool:
    value = raw[name]
    if name in known or name in HARMLESS or HARMLESS_NAMES.search(name.lower()):
        return True
    if name in SAME:
        return value is None or value in SAME[name]
    return is_neutral(value) or (name in ALIASES and raw.get(ALIASES[name]) == value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
