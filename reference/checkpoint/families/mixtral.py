"""Mixtral: Mistral with a mixture of experts, whose tensors have names of their own."""

from verbatim.reference.checkpoint.families.family import ExpertNames, Family

FAMILIES = (
    Family(
        name="mixtral",
        architecture="MixtralForCausalLM",
        normalizes_experts=True,
        experts=ExpertNames(part="block_sparse_moe.", gate="w1", up="w3", down="w2"),
    ),
)
