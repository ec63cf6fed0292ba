"""Stretched rotary positions of a GGUF file, as config.json writes them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from verbatim.reference.checkpoint.gguf.header import Entry
from verbatim.reference.checkpoint.gguf.metadata import Metadata
from verbatim.reference.records.errors import ModelError

MAX_CONTEXT = 1 << 22
Tensors = Mapping[str, Entry]


def rope_settings(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    """Stretched positions; factors of single frequencies lie in tensors of their own."""
    context = found.required(".context_length", most=MAX_CONTEXT)
    original = found.integer(".rope.scaling.original_context_length") or context
    attention = found.number(".rope.scaling.attn_factor") or 1.0
    if "rope_factors_long.weight" in tensors:
        long, short = (_numbers(tensors, f"rope_factors_{name}.weight") for name in ("long", "short"))
        scaling = {"rope_type": "longrope", "long_factor": long, "short_factor": short, "attention_factor": attention}
        return {"rope_scaling": scaling, "original_max_position_embeddings": original}
    if "rope_freqs.weight" in tensors:  # Llama 3's, worked out by the converter
        factors = _numbers(tensors, "rope_freqs.weight")
        scaling = {"rope_type": "longrope", "long_factor": factors, "short_factor": factors, "attention_factor": 1.0}
        return {"rope_scaling": scaling}
    rope_type, factor = found.text(".rope.scaling.type"), found.number(".rope.scaling.factor")
    if rope_type in (None, "none") or factor is None:
        return {}
    if rope_type not in ("linear", "yarn") or attention != 1.0:
        raise found.error(
            ".rope.scaling.type", f"{rope_type!r} with an attention factor of {attention} is not supported"
        )
    scaling = {"rope_type": rope_type, "factor": factor, "original_max_position_embeddings": original}
    for name in ("beta_fast", "beta_slow"):
        if (value := found.number(f".rope.scaling.yarn_{name}")) is not None:
            scaling[name] = value
    return {"rope_scaling": scaling}


def _numbers(tensors: Tensors, name: str) -> list[float]:
    """The numbers of a small float32 tensor, all above 0."""
    if name not in tensors or tensors[name].format != "F32" or len(tensors[name].shape) != 1:
        raise ModelError(f"weights: tensor {name} must be there, a row of F32")
    values = tensors[name].bits()
    if not (np.isfinite(values) & (values > 0)).all():
        raise ModelError(f"weights: tensor {name} must hold numbers above 0")
    return [float(value) for value in values]
