"""Phi 3 and 4: query, key and value are stored as one matrix, and so are gate and up."""

from verbatim.reference.checkpoint.families.family import Family

FAMILIES = (Family(name="phi3", architecture="Phi3ForCausalLM", fixed={"has_fused_matrices": True}),)
