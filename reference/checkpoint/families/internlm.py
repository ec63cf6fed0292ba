"""InternLM 2 and 2.5: Llama under other names, with query, key and value as one matrix, group by group."""

from verbatim.reference.checkpoint.families.family import Family, no_layer

FAMILIES = (
    Family(
        name="internlm2",
        architecture="InternLM2ForCausalLM",
        defaults={"bias": True},  # which is refused
        slides=no_layer,
        groups_queries=True,
        names={
            "embed_tokens": "tok_embeddings",
            "lm_head": "output",
            "input_layernorm": "attention_norm",
            "post_attention_layernorm": "ffn_norm",
            "self_attn.qkv_proj": "attention.wqkv",
            "self_attn.o_proj": "attention.wo",
            "mlp.gate_proj": "feed_forward.w1",
            "mlp.up_proj": "feed_forward.w3",
            "mlp.down_proj": "feed_forward.w2",
        },
    ),
)
