"""Llama 2 and 3: the family that the others are variations of."""

from verbatim.reference.checkpoint.families.family import Family, no_layer

FAMILIES = (
    Family(name="llama", architecture="LlamaForCausalLM", reads=("mlp_bias", "attention_bias"), slides=no_layer),
)
