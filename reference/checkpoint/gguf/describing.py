"""From a ModelConfig to the metadata of a GGUF file, as llama.cpp names it: the other direction of shapes.py.

What is written is read back at once: a model that the metadata cannot describe in full is refused, with what differs.
"""

import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from verbatim.reference.checkpoint.families import make_config
from verbatim.reference.checkpoint.gguf.header import Entry
from verbatim.reference.checkpoint.gguf.metadata import Metadata
from verbatim.reference.checkpoint.gguf.shapes import ARCHITECTURES, biases, raw_config
from verbatim.reference.numerics.rotary import frequencies
from verbatim.reference.records.config import ModelConfig, Rope, RopeScaling
from verbatim.reference.records.errors import ModelError

NAMES = {  # family -> `general.architecture`
    "llama": "llama", "mistral": "llama", "mixtral": "llama", "internlm2": "llama", "qwen2": "qwen2", "qwen3": "qwen3",
    "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gemma": "gemma", "gemma2": "gemma2", "gemma3": "gemma3",
    "phi": "phi2", "phi3": "phi3", "phimoe": "phimoe", "olmo2": "olmo2", "olmo3": "olmo2", "olmoe": "olmoe",
    "granite": "granite", "granitemoe": "granitemoe", "smollm3": "smollm3", "stablelm": "stablelm",
    "starcoder2": "starcoder2", "seed_oss": "seed_oss",
}  # fmt: skip
FREE = ("family", "quantization", "norm_offset", "eos_ids", "bos_id", "has_fused_matrices")  # may differ when read back
"""

"""
