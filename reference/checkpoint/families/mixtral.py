"""Mixtral: Mistral with a mixture of experts, whose tensors have names of their own."""

from verbatim.reference.checkpoint.families.family import ExpertNames, Family

FAMILIES = (
    Family(
        name="mixtral",
        architecture="MixtralForCausalLM",
        defaults={
            "rms_norm_eps": 1e-5,
            "rope_theta": 1e6,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        },
        has_experts=True,
        normalizes_experts=True,
        experts=ExpertNames(part="block_sparse_moe.", gate="w1", up="w3", down="w2"),
    ),
)
