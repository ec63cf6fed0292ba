"""How a config.json describes rotary positions: one spelling in transformers 4, another in 5, five ways to stretch.

Where a stretch depends on the length of a text, a server makes one choice, from the context that it serves
(`RopeScaling.served`).
"""

from dataclasses import replace
from typing import Any

from verbatim.reference.checkpoint.config_keys import is_neutral
from verbatim.reference.checkpoint.config_values import check_values, is_number
from verbatim.reference.numerics.rotary import natural_log
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.rope import Rope, RopeScaling

ROPE_TYPES = ("default", "linear", "llama3", "yarn", "longrope", "dynamic", "proportional")
KNOWN = frozenset((
    "rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "original_max_position_embeddings",
    "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "attention_factor", "attn_factor", "truncate",
    "mscale", "mscale_all_dim", "short_factor", "long_factor", "short_mscale", "long_mscale", "llama_4_scaling_beta",
    "max_position_embeddings", "finetuned",  # these and the next change nothing where there is text alone
    "mrope_section", "mrope_interleaved",
))  # fmt: skip


def read_rope(raw: dict, layer_type: str, head_dim: int | None = None) -> Rope:
    """The rotary settings of "full_attention" or "sliding_attention" layers, perhaps with heads of their own size."""
    settings = _settings(raw, layer_type)
    _check(settings)
    head_dim = head_dim or raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"]
    share = settings.get("partial_rotary_factor") or raw.get("partial_rotary_factor") or 1.0
    theta = settings.get("rope_theta") or raw["rope_theta"]
    found = {"rope_theta": theta, "partial_rotary_factor": share}
    check_values(found, found.keys())
    rotary_dim = int(head_dim * share)
    rope_type = _type(settings)
    if rope_type == "proportional":  # the whole head is rotated, most of it by nothing
        factor, count = float(settings.get("factor") or 1), int(head_dim * share // 2)
        proportional = RopeScaling(rope_type=rope_type, factor=factor, num_frequencies=count)
        return Rope(theta=float(theta), rotary_dim=head_dim, scaling=proportional)
    scaling = None if rope_type == "default" else _scaling(rope_type, settings, raw, rotary_dim)
    return Rope(theta=float(theta), rotary_dim=rotary_dim, scaling=scaling)


def _settings(raw: dict, layer_type: str) -> dict:
    for name in ("rope_scaling", "rope_parameters"):
        settings = raw.get(name) or {}
        if not isinstance(settings, dict):
            raise ModelError(f"config.json: {name} must be an object, not {settings!r}")
        if settings:
            is_nested = any(isinstance(value, dict) for value in settings.values())
            return settings.get(layer_type) or {} if is_nested else settings
    return {}


def _type(settings: dict) -> str:
    rope_type = settings.get("rope_type") or settings.get("type") or "default"
    if rope_type == "su" or (rope_type == "yarn" and "long_factor" in settings):  # Phi-3's first names for it
        rope_type = "longrope"
    if rope_type not in ROPE_TYPES:
        raise ModelError(f"config.json: rope type {rope_type!r} is not supported; supported: {', '.join(ROPE_TYPES)}")
    return rope_type


def _check(settings: dict) -> None:
    """ModelError for a setting that is not known, unless its value changes nothing."""
    for name, value in settings.items():
        is_text, is_list = name in ("rope_type", "type"), name in ("short_factor", "long_factor", "mrope_section")
        is_right = (
            isinstance(value, str) if is_text
            else isinstance(value, list) and all(map(is_number, value)) if is_list
            else is_number(value) or isinstance(value, bool)
        )  # fmt: skip
        if name in KNOWN and value is not None and not is_right:
            wanted = "a text" if is_text else "a list of numbers" if is_list else "a number"
            raise ModelError(f"config.json: rotary setting {name} must be {wanted}, not {value!r}")
        if name not in KNOWN and (name == "apply_yarn_scaling" or not is_neutral(value)):
            raise ModelError(f"config.json: rotary setting {name} = {value!r} is not supported")


def _scaling(rope_type: str, settings: dict, raw: dict, rotary_dim: int) -> RopeScaling:
    context = raw["max_position_embeddings"]
    original = (
        raw.get("original_max_position_embeddings") or settings.get("original_max_position_embeddings") or context
    )
    if original < 2:
        raise ModelError(f"config.json: original_max_position_embeddings must be at least 2, not {original!r}")
    try:
        if rope_type == "linear":
            return RopeScaling(rope_type=rope_type, factor=_number(settings, "factor"))
        if rope_type == "dynamic":
            return _dynamic(settings, context, rotary_dim)
        if rope_type == "llama3":
            return RopeScaling(
                rope_type=rope_type,
                factor=_number(settings, "factor"),
                low_frequency_factor=_number(settings, "low_freq_factor"),
                high_frequency_factor=_number(settings, "high_freq_factor"),
                original_context=int(original),
            )
        if rope_type == "yarn":
            return _yarn(settings, context, int(original))
        return _longrope(settings, context, int(original), rotary_dim)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"config.json: rope type {rope_type!r} needs a number for {error}") from None


def _number(settings: dict, name: str) -> float:
    value = settings[name]
    if not is_number(value) or value <= 0:
        raise ModelError(f"config.json: rotary setting {name} must be a number above 0, not {value!r}")
    return float(value)


def _dynamic(settings: dict, context: int, rotary_dim: int) -> RopeScaling:
    """NTK-aware scaling: up to the model's own context nothing is stretched."""
    if rotary_dim <= 2:
        raise ModelError(f"config.json: rope type 'dynamic' needs more than 2 rotated features, not {rotary_dim}")
    factor = _number(settings, "factor")
    return RopeScaling(rope_type="dynamic", factor=factor, original_context=context, context=context)


def _yarn(settings: dict, context: int, original: int) -> RopeScaling:
    settings = settings | {"factor": context / original if settings["factor"] is None else _number(settings, "factor")}
    return RopeScaling(
        rope_type="yarn",
        factor=settings["factor"],
        original_context=original,
        beta_fast=float(settings.get("beta_fast") or 32),
        beta_slow=float(settings.get("beta_slow") or 1),
        attention_factor=_yarn_attention(settings),
        truncates=settings.get("truncate") is not False,
    )


def _yarn_attention(settings: dict) -> float:
    """YaRN's correction of the scores' size (https://arxiv.org/abs/2309.00071), as its authors and DeepSeek give it.

    `attention_factor` is the whole correction; `attn_factor` multiplies the usual one, as in the authors' code.
    """
    factor = settings["factor"]
    if settings.get("attention_factor") is not None:
        return float(settings["attention_factor"])
    usual = _mscale(factor, 1.0)
    if settings.get("mscale") and settings.get("mscale_all_dim"):
        usual = _mscale(factor, settings["mscale"]) / _mscale(factor, settings["mscale_all_dim"])
    return usual if settings.get("attn_factor") is None else usual * float(settings["attn_factor"])


def _mscale(factor: float, weight: float) -> float:
    return 0.1 * weight * natural_log(factor) + 1.0 if factor > 1 else 1.0


def mscale_of(raw: dict) -> float:
    """DeepSeek's correction of queries and keys by `mscale_all_dim`: its square belongs to the scale of scores."""
    settings = _settings(raw, "full_attention")
    if _type(settings) == "default" or not settings.get("mscale_all_dim"):
        return 1.0
    return _mscale(_number(settings, "factor"), float(settings["mscale_all_dim"]))


def _longrope(settings: dict[str, Any], context: int, original: int, rotary_dim: int) -> RopeScaling:
    """LongRoPE: one factor a frequency, the long ones if the context is longer than the original one.

    Both have the attention factor of the model's own context, unless each has one of its own (Phi 3.5 MoE).
    """
    ratio = context / original
    growth = float(settings.get("factor") or ratio)
    attention = settings.get("attention_factor")
    if attention is None:
        attention = (1 + natural_log(growth) / natural_log(original)) ** 0.5 if growth > 1 else 1.0

    def scaling(length: str) -> RopeScaling:
        factors = settings[f"{length}_factor"]
        if len(factors) != rotary_dim // 2:
            raise ModelError(f"config.json: longrope has {len(factors)} factors for {rotary_dim // 2} frequencies")
        own = float(settings.get(f"{length}_mscale") or attention)
        return RopeScaling(rope_type="longrope", attention_factor=own, factors=tuple(map(float, factors)))

    if ratio <= 1:
        return scaling("short")
    return replace(scaling("long"), short=replace(scaling("short"), original_context=original))
