"""How a config.json describes rotary positions: one spelling in transformers 4, another in 5, four ways to stretch."""

from verbatim.reference.numerics.rotary import natural_log
from verbatim.reference.records.config import Rope, RopeScaling
from verbatim.reference.records.errors import ModelError

ROPE_TYPES = ("default", "linear", "llama3", "yarn", "longrope")


def read_rope(raw: dict, layer_type: str) -> Rope:
    """The rotary settings of "full_attention" or "sliding_attention" layers."""
    settings = _settings(raw, layer_type)
    head_dim = raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"]
    share = settings.get("partial_rotary_factor") or raw.get("partial_rotary_factor") or 1.0
    theta = float(settings.get("rope_theta") or raw.get("rope_theta") or 10000.0)
    rope_type = settings.get("rope_type", settings.get("type", "default"))
    if rope_type == "su":  # Phi-3's first name for it
        rope_type = "longrope"
    if rope_type not in ROPE_TYPES:
        raise ModelError(f"config.json: rope type {rope_type!r} is not supported; supported: {', '.join(ROPE_TYPES)}")
    rotary_dim = int(head_dim * share)
    scaling = None if rope_type == "default" else _scaling(rope_type, settings, raw, rotary_dim)
    return Rope(theta=theta, rotary_dim=rotary_dim, scaling=scaling)


def _settings(raw: dict, layer_type: str) -> dict:
    parameters = raw.get("rope_parameters")
    if parameters:
        return parameters.get(layer_type, parameters)
    if layer_type == "sliding_attention" and "rope_local_base_freq" in raw:  # Gemma 3 in transformers 4
        return {"rope_theta": raw["rope_local_base_freq"]}
    return raw.get("rope_scaling") or {}


def _scaling(rope_type: str, settings: dict, raw: dict, rotary_dim: int) -> RopeScaling:
    context = raw["max_position_embeddings"]
    original = (
        settings.get("original_max_position_embeddings") or raw.get("original_max_position_embeddings") or context
    )
    try:
        if rope_type == "linear":
            return RopeScaling(rope_type=rope_type, factor=float(settings["factor"]))
        if rope_type == "llama3":
            return RopeScaling(
                rope_type=rope_type,
                factor=float(settings["factor"]),
                low_frequency_factor=float(settings["low_freq_factor"]),
                high_frequency_factor=float(settings["high_freq_factor"]),
                original_context=int(settings["original_max_position_embeddings"]),
            )
        if rope_type == "yarn":
            return RopeScaling(
                rope_type=rope_type,
                factor=float(settings["factor"]),
                original_context=int(original),
                beta_fast=float(settings.get("beta_fast") or 32),
                beta_slow=float(settings.get("beta_slow") or 1),
                attention_factor=_yarn_attention(settings),
            )
        return _longrope(settings, context, original, rotary_dim)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"config.json: rope type {rope_type!r} needs a number for {error}") from None


def _yarn_attention(settings: dict) -> float:
    """YaRN's correction of the scores' size (https://arxiv.org/abs/2309.00071), as its authors and DeepSeek give it."""

    def size(weight: float) -> float:
        return 0.1 * weight * natural_log(settings["factor"]) + 1.0 if settings["factor"] > 1 else 1.0

    if settings.get("attention_factor") is not None:
        return float(settings["attention_factor"])
    if settings.get("mscale") and settings.get("mscale_all_dim"):
        return size(settings["mscale"]) / size(settings["mscale_all_dim"])
    return size(1.0)


def _longrope(settings: dict, context: int, original: int, rotary_dim: int) -> RopeScaling:
    """LongRoPE: one factor a frequency, the long ones if the model's context is longer than the original one.

    transformers picks by the length of the prompt at hand. That would make keys depend on what follows them; here a
    model has one table for good.
    """
    factor = context / original
    chosen = settings["long_factor"] if factor > 1 else settings["short_factor"]
    if len(chosen) != rotary_dim // 2:
        raise ModelError(f"config.json: longrope has {len(chosen)} factors for {rotary_dim // 2} frequencies")
    attention = settings.get("attention_factor")
    if attention is None:
        attention = (1 + natural_log(factor) / natural_log(original)) ** 0.5 if factor > 1 else 1.0
    return RopeScaling(rope_type="longrope", attention_factor=float(attention), factors=tuple(map(float, chosen)))
