"""SmolLM 3: some layers have no positions, as `no_rope_layers` lists."""

from verbatim.reference.checkpoint.families.family import Family

FAMILIES = (Family(name="smollm3", architecture="SmolLM3ForCausalLM"),)
