"""A LoRA adapter of a model: for some of its matrices two of low rank, A and B, and a scale (N13).

Each tensor is checked against the model: its name, its shape, its dtype, and that its numbers are finite.
(LoRA, https://arxiv.org/abs/2106.09685; the files are those of peft.)
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from verbatim.reference.checkpoint.families import family_named
from verbatim.reference.checkpoint.foreign import PICKLED
from verbatim.reference.checkpoint.grouped_queries import split_groups
from verbatim.reference.checkpoint.head_rows import in_halves, num_paired
from verbatim.reference.checkpoint.lora.modules import Module, modules_of
from verbatim.reference.checkpoint.lora.settings import CONFIG, MERGE, LoraSettings, read_settings
from verbatim.reference.checkpoint.stems import STEMS
from verbatim.reference.checkpoint.tensors import Matrix
from verbatim.reference.checkpoint.weights import FLOATS, Tensor, map_file
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.errors import ModelError

WEIGHTS = "adapter_model.safetensors"
FILES = (CONFIG, WEIGHTS)
PREFIX = "base_model.model."
A_MATRIX = ".lora_A."  # in the names of matrices (rank, inputs)
TENSOR = re.compile(r"(.{1,200})\.lora_([AB])(?:\.default)?\.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """What is added to a product W x: scale * (B (A x)). `a` is (rank, inputs), `b` is (outputs, rank)."""

    a: Matrix
    b: Matrix
    scale: np.float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """One adapter: for each layer its matrices by the place that they change (modules.py).

    `key` is SHA-256 in hex of its files: what is computed with it is kept under this key, and under no name.
    """

    key: str
    path: Path
    base: str | None
    layers: tuple[dict[str, LowRank], ...]


def open_adapter(path: Path, config: ModelConfig) -> Adapter:
    """The adapter in a directory, for a model of that configuration; ModelError names what does not fit or exist."""
    check_files(path)
    try:
        settings = read_settings(path)
        pairs = _pairs(_map(path / WEIGHTS))
        layers = _layers(config, settings, pairs)
    except ModelError as error:
        raise ModelError(f"LoRA adapter {path}: {error}") from None
    return Adapter(key=_digest(path), path=path, base=settings.base, layers=layers)


def check_files(path: Path) -> None:
    """Raise ModelError unless `path` is a directory with the two files of an adapter."""
    if not path.is_dir():
        raise ModelError(f"LoRA adapter {path} does not exist: give a directory with {CONFIG} and {WEIGHTS}")
    if (path / WEIGHTS).exists() and (path / CONFIG).exists():
        return
    if found := [file.name for file in sorted(path.glob("adapter_model*")) if file.suffix in PICKLED]:
        raise ModelError(
            f"LoRA adapter {path} has pickled weights ({found[0]}), which may run code when they are read: save it "
            "anew (peft: save_pretrained, with safe_serialization=True)"
        )
    missing = next(name for name in FILES if not (path / name).exists())
    raise ModelError(f"LoRA adapter {path} has no {missing}: give a directory as peft's save_pretrained writes it")


def _map(path: Path) -> dict[str, Tensor]:
    """The tensors of a file; ModelError also for a header that is no header at all."""
    try:
        return map_file(path)
    except (AttributeError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise ModelError(f"{path} has a damaged header: {' '.join(str(error).split())[:200]}") from None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for name in FILES:
        with (path / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _pairs(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors A and B by the names of their modules, as they are in the whole model."""
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = TENSOR.fullmatch(name)
        if match is None:
            is_outer = any(part in name for part in (".base_layer.", "lora_embedding_"))
            what = "a trained embedding or head" if is_outer else "none of a LoRA matrix"
            raise ModelError(f"tensor {name[:200]} is {what}, which is not supported; {MERGE}")
        pair = pairs.setdefault(match[1].removeprefix(PREFIX), {})
        if match[2] in pair:
            raise ModelError(f"tensors {pair[match[2]].name} and {name} are the same matrix")
        pair[match[2]] = tensor
    if not pairs:
        raise ModelError(f"{WEIGHTS} holds no tensors")
    return pairs


def _layers(
    config: ModelConfig, settings: LoraSettings, pairs: dict[str, dict[str, Tensor]]
) -> tuple[dict[str, LowRank], ...]:
    known = modules_of(config)
    layers: list[dict[str, LowRank]] = [{} for _ in config.layers]
    found = set()
    for name, pair in pairs.items():
        short = _without_stem(name)
        if short not in known:
            raise ModelError(f"module {name} is none that an adapter of this model can change; {_reason(short, known)}")
        module = known[short]
        if short in found or settings.wants(name, module.layer) is False:
            reason = "is there twice" if short in found else "is not among target_modules"
            raise ModelError(f"module {name} {reason}")
        found.add(short)
        for place, low_rank in _low_ranks(config, settings, name, module, pair).items():
            if place in layers[module.layer]:
                raise ModelError(f"module {name} changes a matrix that another module changes, too")
            layers[module.layer][place] = low_rank
    for short, module in known.items():
        if short not in found and settings.wants(f"model.{short}", module.layer) and _may_lack(short, known, found):
            raise ModelError(f"{CONFIG} names module {short}, for which {WEIGHTS} has no tensors")
    return tuple(layers)


def _may_lack(short: str, known: dict[str, Module], found: set[str]) -> bool:
    """Whether nothing else that was found changes the same matrices: of fused ones and their parts one is enough."""
    module = known[short]
    others = (known[other] for other in found if known[other].layer == module.layer)
    return not any({*module.places} & {*other.places} for other in others)


def _without_stem(name: str) -> str:
    return next((name.removeprefix(stem) for stem in STEMS if name.startswith(f"{stem}layers.")), name)


def _reason(short: str, known: dict[str, Module]) -> str:
    names = ", ".join(dict.fromkeys(module.split(".", 2)[2] for module in known))
    if "expert" in short or ".mlp.gate" in short:
        return f"experts and their router cannot have one: {MERGE}"
    return f"these can: {names} of layers 0 to {max(module.layer for module in known.values())}; or {MERGE}"


def _low_ranks(
    config: ModelConfig, settings: LoraSettings, name: str, module: Module, pair: dict[str, Tensor]
) -> dict[str, LowRank]:
    """The matrices of each place of a module: B's rows are cut as the module's outputs are."""
    rank = settings.rank_of(name)
    a = _checked(name, "A", pair, (rank, module.num_inputs))
    b = _checked(name, "B", pair, (sum(module.sizes), rank))
    scale = np.float32(settings.scale_of(name, rank))
    return {
        place: LowRank(a=a, b=part, scale=scale)
        for place, part in zip(module.places, _parts(config, module, b), strict=True)
    }


def _parts(config: ModelConfig, module: Module, b: Matrix) -> tuple[Matrix, ...]:
    if module.places in (("query",), ("key",)):
        return (in_halves(b, config.heads_of(module.layer)[1], num_paired(config, module.layer)),)
    if len(module.places) == 1:
        return (b,)
    if family_named(config.family).groups_queries:
        return split_groups(config, b)
    ends = np.cumsum(module.sizes).tolist()
    return tuple(b.rows(end - size, end) for end, size in zip(ends, module.sizes, strict=True))


def _checked(name: str, side: str, pair: dict[str, Tensor], shape: tuple[int, int]) -> Matrix:
    tensor = pair.get(side)
    if tensor is None:
        raise ModelError(f"tensor {name}.lora_{side}.weight is missing")
    if tensor.dtype not in FLOATS:
        raise ModelError(f"tensor {tensor.name} is stored as {tensor.dtype}, not as {' or '.join(FLOATS)}")
    if tensor.shape != shape:
        raise ModelError(
            f"tensor {tensor.name} has shape {tensor.shape}; the model and {CONFIG} (r, rank_pattern) require {shape}"
        )
    if not tensor.is_finite():
        raise ModelError(f"tensor {tensor.name} holds NaN or infinite values")
    return Matrix(weight=tensor, num_inputs=shape[1])
