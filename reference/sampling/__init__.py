"""From logits to a token: sampling rules on integer weights, and random bits without state."""
