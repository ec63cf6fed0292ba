"""OLMo 2: norms after each half of a layer, and over all heads of queries and of keys together."""

from verbatim.reference.checkpoint.families.family import Family

FAMILIES = (Family(name="olmo2", architecture="Olmo2ForCausalLM", fixed={"norms": "after", "query_key_norm": "all"}),)
