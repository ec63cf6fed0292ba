"""Gated delta nets in GGUF files (qwen3next, qwen35, qwen35moe): config.json and tensors (N16).

Files hold what decays a state as it acts, not as a logarithm. Those of Qwen 3.5 have the value heads in another order:
the first one of each key head, then the second ones, and so on.
"""

import re
from typing import Any

from verbatim.reference.checkpoint.families.qwen_hybrid import TILED
from verbatim.reference.checkpoint.gguf.header import Entry
from verbatim.reference.checkpoint.gguf.metadata import Metadata
from verbatim.reference.checkpoint.gguf.rope import Tensors
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.records.errors import ModelError

NAME = re.compile(r"blk\.(\d{1,6})\.(\w+(?:\.(?:weight|bias))?)")
TENSORS = {
    "attn_qkv.weight": "in_proj_qkv.weight", "attn_gate.weight": "in_proj_z.weight",
    "ssm_ba.weight": "in_proj_ba.weight", "ssm_beta.weight": "in_proj_b.weight",
    "ssm_alpha.weight": "in_proj_a.weight", "ssm_conv1d.weight": "conv1d.weight", "ssm_a": "A",
    "ssm_dt.bias": "dt_bias", "ssm_norm.weight": "norm.weight", "ssm_out.weight": "out_proj.weight",
}  # fmt: skip


def delta_tensor(name: str, entry: Entry) -> Tensor | None:
    """A tensor of a gated delta net under its name elsewhere; None for another."""
    match = NAME.fullmatch(name)
    if match is None or match[2] not in TENSORS:
        return None
    part, bits = TENSORS[match[2]], entry.bits()
    if part == "conv1d.weight":
        bits = bits.reshape(len(bits), 1, *bits.shape[1:])
    return Tensor(f"model.layers.{int(match[1])}.linear_attn.{part}", entry.format, bits)


def delta_config(found: Metadata, tensors: Tensors) -> dict[str, Any]:
    """What config.json has beside the sizes of every model."""
    if found.integer(".nextn_predict_layers", least=0):
        raise ModelError(f"{found.path.name}: layers of multi-token prediction are not supported in GGUF files")
    heads, inner = found.required(".ssm.time_step_rank"), found.required(".ssm.inner_size")
    if inner % heads:
        raise found.error(".ssm.inner_size", f"must be a multiple of the {heads} heads, not {inner}")
    raw = {
        "linear_num_key_heads": found.required(".ssm.group_count"), "linear_num_value_heads": heads,
        "linear_key_head_dim": found.required(".ssm.state_size"), "linear_value_head_dim": inner // heads,
        "linear_conv_kernel_dim": found.required(".ssm.conv_kernel"),
        "full_attention_interval": found.integer(".full_attention_interval") or 4,
        TILED: found.architecture != "qwen3next",
    }  # fmt: skip
    shared = found.integer(".expert_shared_feed_forward_length")
    return raw | ({"shared_expert_intermediate_size": shared} if shared else {})
