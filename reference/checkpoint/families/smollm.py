"""SmolLM 3: some layers have no positions: those that `no_rope_layers` lists, or every so many of them."""

from verbatim.reference.checkpoint.families.family import Family

DEFAULTS = {"tie_word_embeddings": True, "no_rope_layer_interval": 4, "rope_theta": 2e6}  # as in transformers

FAMILIES = (Family(name="smollm3", architecture="SmolLM3ForCausalLM", defaults=DEFAULTS),)
