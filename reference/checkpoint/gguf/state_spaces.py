"""State spaces in GGUF files (mamba2, granitehybrid, nemotron_h, falcon-h1): config.json and tensors (N15).

What differs from layer to layer is an array, with a 0 for layers that lack it. Files hold what decays a state as it
acts, not as a logarithm; and Falcon's matrices with its constant factors.
"""

import re
from typing import Any

import numpy as np

from verbatim.reference.checkpoint.gguf.header import Entry
from verbatim.reference.checkpoint.gguf.metadata import Metadata
from verbatim.reference.checkpoint.gguf.rope import Tensors
from verbatim.reference.checkpoint.mamba_settings import PARTS
from verbatim.reference.checkpoint.weights import Tensor

LISTED = (".attention.head_count", ".attention.head_count_kv", ".feed_forward_length")
NAME = re.compile(r"blk\.(\d{1,6})\.(ssm_\w+(?:\.(?:weight|bias))?)")
TENSORS = {
    "ssm_in.weight": "in_proj.weight", "ssm_in.bias": "in_proj.bias", "ssm_out.weight": "out_proj.weight",
    "ssm_out.bias": "out_proj.bias", "ssm_conv1d.weight": "conv1d.weight", "ssm_conv1d.bias": "conv1d.bias",
    "ssm_dt.bias": "dt_bias", "ssm_a": "A", "ssm_d": "D", "ssm_norm.weight": "norm.weight",
}  # fmt: skip
SHAPES = {"conv1d.weight": (-1, 1), "A": (-1,), "D": (-1,), "norm.weight": (-1,)}  # of the first axes


def same_in_layers(found: Metadata) -> Metadata:
    """The metadata with the largest of numbers that differ from layer to layer, and 1 for none."""
    values = dict(found.values)
    for name in LISTED:
        value = found.get(name)
        if isinstance(value, np.ndarray) and value.size:
            value = value.max().item()
        if value is not None:
            values[found.full(name)] = max(value, 1) if isinstance(value, int) else value
    return Metadata(found.path, values)


def state_space_tensor(name: str, entry: Entry, names: dict[str, str]) -> Tensor | None:
    """A tensor of a state space under the family's name; None for another."""
    match = NAME.fullmatch(name)
    if match is None or match[2] not in TENSORS:
        return None
    part, stem = TENSORS[match[2]], names.get("mamba.D", "mamba.D").removesuffix(".D")
    assert PARTS[-1] == "norm.weight"
    bits = entry.bits()
    if part in SHAPES:
        rest = bits.shape[1:] if part == "conv1d.weight" else ()
        bits = bits.reshape(*SHAPES[part], *rest)
    return Tensor(f"model.layers.{int(match[1])}.{stem}.{part}", entry.format, bits)


def mamba2_config(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    """What config.json has beside the sizes of every model."""
    inner, heads, hidden = _inner(found), _heads(found), found.required(".embedding_length")
    return {
        "num_heads": heads, "head_dim": inner // heads, "state_size": found.required(".ssm.state_size"),
        "n_groups": found.required(".ssm.group_count"), "conv_kernel": found.required(".ssm.conv_kernel"),
        "expand": inner / hidden, "use_bias": _has(tensors, "ssm_in.bias"),
        "use_conv_bias": _has(tensors, "ssm_conv1d.bias"),
        "layer_norm_epsilon": _epsilon(found),
    }  # fmt: skip


def hybrid_config(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    """The sizes of state spaces in the words of most hybrids."""
    inner, heads = _inner(found), _heads(found)
    return {
        "mamba_n_heads": heads, "mamba_d_head": inner // heads,
        "mamba_expand": inner / found.required(".embedding_length"),
        "mamba_d_state": found.required(".ssm.state_size"), "mamba_n_groups": found.required(".ssm.group_count"),
        "mamba_d_conv": found.required(".ssm.conv_kernel"), "mamba_conv_bias": _has(tensors, "ssm_conv1d.bias"),
        "mamba_proj_bias": _has(tensors, "ssm_in.bias"),
    }  # fmt: skip


def falcon_config(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    """The same of Falcon H1."""
    has_norm = _has(tensors, "ssm_norm.weight")
    return hybrid_config(found, tensors) | {
        "mamba_d_ssm": _inner(found), "mamba_rms_norm": has_norm, "mamba_norm_before_gate": False,
        "projectors_bias": _has(tensors, "ssm_out.bias"),
    }  # fmt: skip


def granite_config(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    """The same of Granite 4, with experts or without."""
    attends = layer_numbers(found, ".attention.head_count_kv")
    turns = found.flag(".rope.scaling.finetuned")
    has_states = any(count == 0 for count in attends)
    shared = found.integer(".expert_shared_feed_forward_length") or found.required(".feed_forward_length")
    return (hybrid_config(found, tensors) if has_states else {}) | {
        "layer_types": ["attention" if count else "mamba" for count in attends],
        "position_embedding_type": "nope" if turns is False else "rope",
        "num_local_experts": found.integer(".expert_count", least=0) or 0, "shared_intermediate_size": shared,
    }  # fmt: skip


def nemotron_config(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    """The same of Nemotron H: a layer with a feed-forward size is a network, one with heads of keys attends."""
    heads, inner = _heads(found), _inner(found)
    numbers = zip(
        layer_numbers(found, ".attention.head_count_kv"), layer_numbers(found, ".feed_forward_length"), strict=True
    )
    return {
        "layers_block_type": ["mlp" if size else "attention" if count else "mamba" for count, size in numbers],
        "mamba_num_heads": heads, "mamba_head_dim": inner // heads, "ssm_state_size": found.required(".ssm.state_size"),
        "n_groups": found.required(".ssm.group_count"), "conv_kernel": found.required(".ssm.conv_kernel"),
        "use_conv_bias": _has(tensors, "ssm_conv1d.bias"), "use_bias": _has(tensors, "ssm_in.bias"),
        "layer_norm_epsilon": _epsilon(found),
    }  # fmt: skip


def layer_numbers(found: Metadata, name: str) -> list[int]:
    """A number for each layer: those of an array, or one for all."""
    count, value = found.required(".block_count"), found.get(name)
    if isinstance(value, np.ndarray):
        if len(value) < count or not np.issubdtype(value.dtype, np.integer):
            raise found.error(name, f"must have a whole number for each of {count} layers")
        return value[:count].tolist()
    return [found.integer(name, least=0) or 0] * count


def _epsilon(found: Metadata) -> float | None:
    return found.number(".attention.layer_norm_rms_epsilon") or found.number(".attention.layer_norm_epsilon")


def _heads(found: Metadata) -> int:
    return found.required(".ssm.time_step_rank")


def _inner(found: Metadata) -> int:
    return found.required(".ssm.inner_size")


def _has(tensors: Tensors, ending: str) -> bool:
    return any(name.endswith(f".{ending}") for name in tensors)
