"""From a GGUF file's metadata to the config.json that the same model has elsewhere, which its family then reads."""

from typing import Any

from verbatim.reference.checkpoint.gguf.architectures import architecture_of
from verbatim.reference.checkpoint.gguf.latents import VALUES
from verbatim.reference.checkpoint.gguf.metadata import Metadata
from verbatim.reference.checkpoint.gguf.rope import MAX_CONTEXT, Tensors, rope_settings
from verbatim.reference.checkpoint.gguf.state_spaces import same_in_layers
from verbatim.reference.records.errors import ModelError

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"


def raw_config(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    """The config.json; ModelError names what is missing, wrong, or not supported."""
    known, whole = architecture_of(found), found
    found = same_in_layers(found) if known.differs else found
    num_layers, hidden = found.required(".block_count", most=len(tensors)), found.required(".embedding_length")
    heads = found.required(".attention.head_count")
    head_dim = found.integer(".attention.key_length") or hidden // heads
    if VALUES not in known.reads and (found.integer(VALUES) or head_dim) != head_dim:
        raise found.error(VALUES, f"must be that of keys, {head_dim}")
    raw = {
        "architectures": [known.name],
        "vocab_size": _rows(tensors, EMBEDDING),
        "hidden_size": hidden,
        "num_hidden_layers": num_layers,
        "num_attention_heads": heads,
        "num_key_value_heads": found.integer(".attention.head_count_kv") or heads,
        "head_dim": head_dim,
        "max_position_embeddings": found.required(".context_length", most=MAX_CONTEXT),
        "intermediate_size": found.integer(".feed_forward_length") or found.required(".expert_feed_forward_length"),
        "tie_word_embeddings": OUTPUT not in tensors,
        "rope_theta": found.number(".rope.freq_base") or 10000.0,
        "partial_rotary_factor": (found.integer(".rope.dimension_count") or head_dim) / head_dim,
    }
    raw |= _epsilon(found) | _experts(found) | rope_settings(found, tensors)
    _refuse(found, known.reads)
    return raw | known.more(whole, tensors)


def biases(tensors: Tensors) -> dict[str, bool]:
    """Fields of ModelConfig: the matrices that have a bias, as the first layer shows."""
    return {
        "query_bias": "blk.0.attn_q.bias" in tensors or "blk.0.attn_qkv.bias" in tensors,
        "output_bias": "blk.0.attn_output.bias" in tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in tensors,
        "head_bias": "output.bias" in tensors,
    }


def _rows(tensors: Tensors, name: str) -> int:
    if name not in tensors:
        raise ModelError(f"weights: tensor {name} is missing")
    return tensors[name].shape[0]


def _epsilon(found: Metadata) -> dict[str, Any]:
    """Under each of the names that families read."""
    value = found.number(".attention.layer_norm_rms_epsilon") or found.number(".attention.layer_norm_epsilon")
    return {} if value is None else dict.fromkeys(("rms_norm_eps", "layer_norm_eps", "norm_epsilon"), value)


def _experts(found: Metadata) -> dict[str, Any]:
    count = found.integer(".expert_count", least=0)
    if not count:
        return {}
    raw: dict[str, Any] = {
        "num_local_experts": count,
        "num_experts": count,
        "num_experts_per_tok": found.required(".expert_used_count", most=count),
    }
    if inner := found.integer(".expert_feed_forward_length"):
        raw["moe_intermediate_size"] = inner
    if (is_normalized := found.flag(".expert_weights_norm")) is not None:
        raw["norm_topk_prob"] = is_normalized
    return raw


def _refuse(found: Metadata, read: tuple[str, ...]) -> None:
    """What would change the arithmetic, and is not implemented."""
    for name in (".attention.max_alibi_bias", ".attention.clamp_kqv", ".rope.scaling.yarn_log_multiplier",
                 ".attention.temperature_scale", ".router_logit_softcapping", ".expert_group_count"):  # fmt: skip
        if name not in read and (value := found.number(name, is_positive=False)):
            raise found.error(name, f"= {value} is not supported")
    if found.flag(".attention.causal") is False:
        raise found.error(".attention.causal", "= False is not supported")
