"""Which keys of config.json are read, which change nothing, and which are refused as they may change the arithmetic.

A key that nothing here knows is refused where its name is that of arithmetic and its value is not a neutral one (false,
null, 0, 1, nothing). Other unknown keys pass; `unread` names them for the log.
"""

import re
from collections.abc import Collection
from typing import Any

from verbatim.reference.records.errors import ModelError

READ = frozenset((  # by all families
    "architectures", "model_type", "quantization", "vocab_size", "hidden_size", "intermediate_size",
    "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings",
    "original_max_position_embeddings", "rms_norm_eps", "hidden_act", "tie_word_embeddings", "bos_token_id",
    "eos_token_id", "rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor", "layer_types",
    "sliding_window", "use_sliding_window", "attention_sink_size", "no_rope_layers", "no_rope_layer_interval",
))  # fmt: skip
EXPERTS = frozenset((  # by those that have a mixture of experts
    "num_local_experts", "num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob",
    "mlp_only_layers", "decoder_sparse_step",
))  # fmt: skip
# Of training, of other programs' ways to compute the same, of sampling, and what files say of themselves.
HARMLESS = frozenset((
    "attention_dropout", "attn_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop", "hidden_dropout", "mlp_dropout",
    "residual_dropout", "embedding_dropout", "classifier_dropout", "initializer_range", "initializer_factor",
    "router_aux_loss_coef", "router_z_loss_coef", "aux_loss_coef", "output_router_logits", "router_jitter_noise",
    "input_jitter_noise", "gradient_checkpointing", "num_nextn_predict_layers", "max_window_layers",
    "attn_implementation", "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal",
    "_experts_implementation", "use_flash_attn", "use_flash_attn_2", "flash_attention", "use_cache", "pretraining_tp",
    "attention_softmax_in_fp32", "scale_attention_softmax_in_fp32", "fp32_residual_connection", "kv_cache_dtype",
    "kv_cache_scheme",
    "output_attentions", "output_hidden_states", "output_scores", "return_dict", "return_dict_in_generate",
    "is_decoder", "is_encoder_decoder", "chunk_size_feed_forward", "cache_implementation", "use_bfloat16",
    "transformers_version", "transformers.js_config", "_name_or_path", "name_or_path", "auto_map", "torch_dtype",
    "dtype", "model_max_length", "max_sequence_length", "seq_length", "tokenizer_class", "prefix", "torchscript",
    "pad_token_id", "unk_token_id", "sep_token_id", "decoder_start_token_id", "id2label", "label2id", "problem_type",
    "task_specific_params", "finetuning_task", "tf_legacy_loss", "unsloth_version", "unsloth_fixed",
    "temperature", "top_k", "top_p", "typical_p", "do_sample", "max_length", "min_length", "max_new_tokens",
    "num_beams", "num_beam_groups", "num_return_sequences", "early_stopping", "repetition_penalty", "length_penalty",
    "diversity_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "suppress_tokens",
    "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values",
))  # fmt: skip
SAME: dict[str, tuple] = {  # where only such a value is what is computed anyway
    "scale_attn_weights": (True,), "mlp_type": ("default",), "norm_type": ("rms_norm", "rmsnorm"), "no_bias": (True,),
    "use_rmsnorm": (True,), "use_rope": (True,), "causal": (True,), "is_causal": (True,),
    "position_embedding_type": ("rope", "rotary", "absolute"),
}  # fmt: skip
ARITHMETIC = re.compile(
    r"attn|attention|bias|norm|clip|softcap|capping|_cap$|alibi|rope|rotary|ntk|logn|position|scal|multiplier|_mult$"
    r"|sink|window|expert|dense|moe|rout|scoring|topk|gate|gating|residual|parallel|logit|qk|kv|mlp|ffn|glu|activation"
    r"|_act$|act_fn|mup|lora|layer|mamba|ssm|state_size|(^|_)conv(_|1d|$)|delta|recurrent|temperature|causal|bidirection"
    r"|embed|mixing|altup|laurel|(^|_)eps(_|$)|epsilon|rank|value_dim|key_dim|head_dim|num_heads|n_head"
)
NEUTRAL_TEXTS = ("", "none", "null", "default")


def check_keys(raw: dict, known: Collection[str], family: str) -> None:
    """ModelError for a key that would change the arithmetic, and that the family, which reads the `known`, has not."""
    for name, value in raw.items():
        if not _passes(name, value, known) and ARITHMETIC.search(name.lower()):
            raise ModelError(f"config.json: {name} = {_shown(value)} is not supported for {family!r}")


def unread(raw: dict, known: Collection[str]) -> list[str]:
    """The keys that are passed over although nothing here knows them, sorted."""
    names = [name for name, value in raw.items() if not _passes(name, value, known)]
    return sorted(name for name in names if not ARITHMETIC.search(name.lower()))


def is_neutral(value: Any) -> bool:
    """Whether a value switches nothing on: false, null, 0, 1, or nothing."""
    if isinstance(value, str):
        return value.lower() in NEUTRAL_TEXTS
    return value is not True and (not value or value == 1)


def _passes(name: str, value: Any, known: Collection[str]) -> bool:
    if name in known or name in HARMLESS:
        return True
    return value is None or value in SAME[name] if name in SAME else is_neutral(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
