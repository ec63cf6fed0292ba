"""Mistral: Llama with a sliding window in every layer, where config.json gives one."""

from verbatim.reference.checkpoint.families.family import Family

FAMILIES = (Family(name="mistral", architecture="MistralForCausalLM"),)
