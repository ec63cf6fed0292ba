"""SmolLM 3: some layers have no positions: those that `no_rope_layers` lists, or every so many of them."""

from verbatim.reference.checkpoint.families.family import Family

DEFAULTS = {  # as in transformers
    "tie_word_embeddings": True, "no_rope_layer_interval": 4, "rope_theta": 2e6, "use_sliding_window": False,
    "num_key_value_heads": 4, "max_position_embeddings": 32768, "bos_token_id": 128000, "eos_token_id": 128001,
}  # fmt: skip


def _without_positions(raw: dict, num_layers: int) -> list[bool]:
    """A window is for the layers that have no positions."""
    listed, interval = raw.get("no_rope_layers"), raw["no_rope_layer_interval"]
    return [not (listed[i] if listed else (i + 1) % interval) for i in range(num_layers)]


FAMILIES = (
    Family(
        name="smollm3",
        architecture="SmolLM3ForCausalLM",
        defaults=DEFAULTS,
        reads=("attention_bias", "mlp_bias", "max_window_layers"),
        slides=_without_positions,
    ),
)
