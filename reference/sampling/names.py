"""The names of the sampling rules, in the order in which they apply (N10)."""

ADJUSTING_RULES = ("model", "logit_bias", "penalties")  # change logits
RULES = (*ADJUSTING_RULES, "mask", "temperature", "top_k", "top_p", "min_p")  # the rest changes integer weights
