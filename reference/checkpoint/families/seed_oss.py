"""Seed-OSS: Llama with biases on query, key and value, and a flag of its own for the output's."""

from verbatim.reference.checkpoint.families.family import Family, no_layer

FAMILIES = (
    Family(
        name="seed_oss",
        architecture="SeedOssForCausalLM",
        defaults={
            "attention_bias": True,
            "head_dim": 128,
            "num_key_value_heads": 8,
            "max_position_embeddings": 524288,
            "bos_token_id": 0,
        },
        reads=("attention_bias", "attention_out_bias", "mlp_bias"),
        fields=lambda raw: {"output_bias": bool(raw.get("attention_out_bias", False))},
        slides=no_layer,
    ),
)
