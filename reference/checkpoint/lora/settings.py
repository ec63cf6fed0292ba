"""adapter_config.json of peft: which modules have a LoRA matrix, and by what its product is multiplied.

What cannot be computed here is refused by name, and so is a setting that nobody here knows, unless it is off.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verbatim.reference.checkpoint.lora.patterns import Patterns
from verbatim.reference.records.config import read_json
from verbatim.reference.records.errors import ModelError

CONFIG = "adapter_config.json"
MERGE = "merge it into its model (peft: merge_and_unload, then save_pretrained) and serve that"
MAX_RANK = 4096
REFUSED = {  # where it is on
    "use_dora": "is DoRA",
    "use_qalora": "is QA-LoRA",
    "use_bdlora": "is BD-LoRA",
    "lora_bias": "has biases of its own",
    "modules_to_save": "has whole modules that were trained, too",
    "trainable_token_indices": "has trained tokens",
    "layer_replication": "has layers that are used several times",
    "alora_invocation_tokens": "is an activated LoRA",
    "arrow_config": "is a mixture of adapters",
    "target_parameters": "adapts parameters of experts",
}
CHANGED_BASE = ("pissa", "olora", "corda", "lora_ga")
READ = (
    "peft_type", "r", "lora_alpha", "use_rslora", "bias", "target_modules", "exclude_modules", "layers_to_transform",
    "layers_pattern", "rank_pattern", "alpha_pattern", "init_lora_weights", "base_model_name_or_path",
)  # fmt: skip
WITHOUT_EFFECT = (  # on what is computed: they are about training, or about how the base model is stored
    "task_type", "auto_mapping", "revision", "inference_mode", "lora_dropout", "fan_in_fan_out", "megatron_config",
    "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config", "peft_version",
    "qalora_group_size", "ensure_weight_tying",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """What adapter_config.json says.

    `targets` and `excluded` are the names of modules, None where a regular expression or all-linear stands for them:
    then the tensors say which they are. `layers` are the layers that have some, None for all.
    """

    rank: int
    alpha: float
    is_rank_stabilized: bool
    targets: tuple[str, ...] | None
    excluded: tuple[str, ...] | None
    layers: tuple[int, ...] | None
    ranks: Patterns
    alphas: Patterns
    base: str | None

    def rank_of(self, module: str) -> int:
        """The rank of a module, named as in the model: model.layers.0.self_attn.q_proj."""
        return int(self.ranks.find(module, self.rank))

    def scale_of(self, module: str, rank: int) -> float:
        """What the product of its matrices is multiplied by, in float64."""
        alpha = self.alphas.find(module, self.alpha)
        return alpha / math.sqrt(rank) if self.is_rank_stabilized else alpha / rank

    def wants(self, module: str, layer: int) -> bool | None:
        """Whether a module has matrices; None where only the tensors tell."""
        if self.layers is not None and layer not in self.layers:
            return False
        if self.targets is not None and not _is_named(module, self.targets):
            return False
        if self.excluded and _is_named(module, self.excluded):
            return False
        return None if self.targets is None or self.excluded is None else True


def _is_named(module: str, names: tuple[str, ...]) -> bool:
    return any(module == name or module.endswith(f".{name}") for name in names)


def read_settings(directory: Path) -> LoraSettings:
    """The settings of an adapter; ModelError names what is wrong with them, or what is not supported."""
    raw = read_json(directory / CONFIG)
    _check_supported(raw)
    alpha = _number(raw, "lora_alpha", raw.get("lora_alpha", 8))
    layers = raw.get("layers_to_transform")
    return LoraSettings(
        rank=_rank("r", raw.get("r", 8)),
        alpha=alpha,
        is_rank_stabilized=_flag(raw, "use_rslora"),
        targets=_targets(raw),
        excluded=_names(raw, "exclude_modules", raw.get("exclude_modules") or []),
        layers=None if layers is None else _layers(layers),
        ranks=Patterns("rank_pattern", {k: _rank("rank_pattern", v) for k, v in _object(raw, "rank_pattern").items()}),
        alphas=Patterns(
            "alpha_pattern", {k: _number(raw, "alpha_pattern", v) for k, v in _object(raw, "alpha_pattern").items()}
        ),
        base=raw["base_model_name_or_path"] if isinstance(raw.get("base_model_name_or_path"), str) else None,
    )


def _check_supported(raw: dict[str, Any]) -> None:
    type_ = raw.get("peft_type")
    if type_ != "LORA":
        raise _refusal(f"peft_type is {type_!r}; supported is 'LORA'", remedy="")
    for name, text in REFUSED.items():
        if raw.get(name):
            raise _refusal(f"{name}: the adapter {text}, which is not supported")
    if raw.get("bias", "none") != "none":
        raise _refusal(f"bias is {raw['bias']!r}: trained biases are not supported, only 'none'")
    start = raw.get("init_lora_weights", True)
    if isinstance(start, str) and start.startswith(CHANGED_BASE):
        raise _refusal(
            f"init_lora_weights is {start!r}: the adapter belongs to a model that was changed before training",
            remedy="save it anew with path_initial_model_for_weight_conversion of peft",
        )
    for name, value in raw.items():
        if value and name not in (*READ, *REFUSED, *WITHOUT_EFFECT):
            raise _refusal(f"{name[:80]} = {str(value)[:80]} is not known here")


def _refusal(text: str, *, remedy: str = MERGE) -> ModelError:
    return ModelError(f"{CONFIG}: {text}{remedy and f'; {remedy}'}")


def _targets(raw: dict[str, Any]) -> tuple[str, ...] | None:
    given = raw.get("target_modules")
    if given is None or isinstance(given, str):  # all-linear, or a regular expression
        return None
    return _names(raw, "target_modules", given)


def _names(raw: dict[str, Any], name: str, given: Any) -> tuple[str, ...] | None:
    if isinstance(given, str):
        return None
    if not isinstance(given, list) or not all(isinstance(item, str) and item for item in given):
        raise ModelError(f"{CONFIG}: {name} must be a list of names or a text, not {str(raw.get(name))[:80]}")
    return tuple(given)


def _layers(given: Any) -> tuple[int, ...]:
    found = given if isinstance(given, list) else [given]
    if not all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in found):
        raise ModelError(f"{CONFIG}: layers_to_transform must be numbers of layers from 0 on, not {str(given)[:80]}")
    return tuple(found)


def _rank(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_RANK:
        raise ModelError(f"{CONFIG}: {name} must be an integer from 1 to {MAX_RANK}, not {str(value)[:80]}")
    return value


def _number(raw: dict[str, Any], name: str, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) <= 1e30:
        raise ModelError(f"{CONFIG}: {name} must be a number of at most 1e30, not {str(value)[:80]}")
    return float(value)


def _flag(raw: dict[str, Any], name: str) -> bool:
    value = raw.get(name, False)
    if not isinstance(value, bool | None):
        raise ModelError(f"{CONFIG}: {name} must be true or false, not {str(value)[:80]}")
    return bool(value)


def _object(raw: dict[str, Any], name: str) -> dict[str, Any]:
    value = raw.get(name) or {}
    if not isinstance(value, dict):
        raise ModelError(f"{CONFIG}: {name} must be an object, not {str(value)[:80]}")
    return value
