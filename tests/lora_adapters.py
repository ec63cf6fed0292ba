"""Makes random LoRA adapters on disk, as peft writes them, and the model that one of them would be merged into."""

import json
from pathlib import Path

import numpy as np

from small_models import write_safetensors

ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
NETWORK = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def write_adapter(
    directory: Path, shapes: dict[str, tuple[int, ...]], *, modules=(*ATTENTION, *NETWORK), rank: int = 4,
    alpha: float = 8.0, seed: int = 0, dtype: str = "F32", scale: float = 0.3, ranks=None, prefix="base_model.model.",
    **changes,
) -> dict[str, np.ndarray]:  # fmt: skip
    """A directory with random A and B for the modules whose names end so; returns the tensors.

    `shapes` are those of the model's tensors. `changes` go into adapter_config.json; `ranks` has other ranks by names.
    """
    random, tensors = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        ends = [end for end in modules if module.endswith(f".{end}")]
        if not ends or len(shape) != 2:
            continue
        own = (ranks or {}).get(ends[0], rank)
        for side, size in (("A", (own, shape[1])), ("B", (shape[0], own))):
            tensors[f"{prefix}{module}.lora_{side}.weight"] = (random.standard_normal(size) * scale).astype(np.float32)
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "someone/base", "bias": "none",
        "r": rank, "lora_alpha": alpha, "target_modules": [module.split(".")[-1] for module in modules],
        "use_rslora": False, "use_dora": False, "modules_to_save": None, "lora_dropout": 0.05, "inference_mode": True,
    }  # fmt: skip
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "adapter_config.json").write_text(json.dumps(config | changes))
    write_safetensors(directory / "adapter_model.safetensors", tensors, dtype)
    return tensors


def shapes_in(directory: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a model directory."""
    content = (directory / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}


def merged(tensors: dict[str, np.ndarray], adapter: dict[str, np.ndarray], scale: float) -> dict[str, np.ndarray]:
    """The model's tensors with scale * B A added, computed in float64."""
    found = dict(tensors)
    for name, a in adapter.items():
        if ".lora_A." in name:
            own = name.removeprefix("base_model.model.").replace(".lora_A", "")
            b = adapter[name.replace("lora_A", "lora_B")].astype(np.float64)
            found[own] = (tensors[own] + scale * (b @ a.astype(np.float64))).astype(np.float32)
    return found
