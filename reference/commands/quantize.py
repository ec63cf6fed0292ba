"""`verbatim quantize SRC DST --format w4a8`: a checkpoint made into integers once, on disk (N4).

DST is a model directory like SRC: the matrices as integers with their scales, everything else as it was stored. Loading
it gives the bits that `--quantization` gives on a float SRC. What other tools quantised is dequantised first, but for
integers that the format has just so. A run that was cut off goes on when the same command is given again, and ends with
the same files: `quantize.progress.json` stays in DST until all is done, config.json comes last.
"""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from verbatim.reference.checkpoint.families import family_named, read_config
from verbatim.reference.checkpoint.gguf.source import GgufSource
from verbatim.reference.checkpoint.mlc.files import check_digests
from verbatim.reference.checkpoint.mlc.source import MlcSource
from verbatim.reference.checkpoint.model_source import ModelSource
from verbatim.reference.checkpoint.opening import head_name_of, open_checkpoint
from verbatim.reference.checkpoint.quantized.matrices import GroupedTensor
from verbatim.reference.checkpoint.quantized.settings import KEY
from verbatim.reference.checkpoint.shard_writer import Planned, write_shard, write_text
from verbatim.reference.checkpoint.source import HuggingFaceSource, open_source
from verbatim.reference.checkpoint.weights import INDEX, STORED_AS, WHOLE, Tensor, Weights
from verbatim.reference.commands.progress import shown_progress
from verbatim.reference.commands.write_gguf import FORMATS as GGUF_FORMATS
from verbatim.reference.commands.write_gguf import write_gguf
from verbatim.reference.numerics.quantization import (
    FORMATS,
    MIXED,
    SCALES,
    STORED_DTYPES,
    QuantizedTensor,
    quantization_entry,
    quantize,
    stored_shape,
    to_stored,
)  # fmt: skip
from verbatim.reference.records.config import ModelConfig, read_json
from verbatim.reference.records.errors import ModelError

KEPT = {"w8a8": ("w8a8", "w4a8"), "w4a8": ("w4a8",)}  # formats whose integers and scales are those of the other
PROGRESS = "quantize.progress.json"
COPIED = (  # what a model directory holds beside its weights and config.json
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json", "generation_config.json", "LICENSE",
)  # fmt: skip


def quantize_on_disk(source: Path, target: Path, quantization: str) -> None:
    """Make `target` of `source` and say so; ModelError if it cannot be read, or not be written."""
    if quantization not in (*FORMATS, *GGUF_FORMATS):
        known = ", ".join((*FORMATS, *GGUF_FORMATS))
        raise ModelError(f"quantization {quantization!r} is not supported; supported: {known}")
    is_file = quantization in GGUF_FORMATS
    try:
        (write_gguf if is_file else quantize_directory)(source, target, quantization)
    except OSError as error:
        advice = "the same command begins anew" if is_file else "the same command goes on from here"
        raise ModelError(f"{target} cannot be written: {error}; {advice}") from None
    Console(highlight=False).print(f"{target} is complete", markup=False, soft_wrap=True)


def quantize_directory(source: Path, target: Path, quantization: str) -> None:
    """Make `target` of `source`, or resume an earlier run; ModelError says what stands in the way."""
    opened = open_source(source)
    config = opened.config()
    if isinstance(opened, GgufSource):
        raise ModelError(
            f"{source} is a GGUF file, whose vocabulary has no files of its own: serve it as it is, "
            f"or give --format {' or '.join(GGUF_FORMATS)}"
        )
    if config.quantization in FORMATS:
        raise ModelError(f"{source} is quantised already: give the float checkpoint")
    names = family_named(config.family).experts
    if names.interleaved or names.joined:
        raise ModelError(f"{source}: experts of the family {config.family} cannot be written as integers, "
                         "but --quantization makes integers of them while loading")  # fmt: skip
    described = _described(opened, config)
    if isinstance(opened, MlcSource):
        check_digests(source)
    is_made = config.quantization in MIXED or isinstance(opened, MlcSource)
    shards = {WHOLE: opened.tensors()} if is_made else HuggingFaceSource(source).shards()
    plan = plan_shards(config, shards, quantization)
    _begin(target, quantization, [file for file in opened.weight_files() if file.exists()])
    _write(plan, target)
    _finish(opened, target, quantization, plan, described)


def _described(source: ModelSource, config: ModelConfig) -> dict[str, Any]:
    """The config.json to be written; ModelError if it would be read as another model."""
    raw = {name: value for name, value in source.raw_config().items() if name != KEY}
    if isinstance(raw.get("text_config"), dict):
        raw["text_config"] = {name: value for name, value in raw["text_config"].items() if name != KEY}
    read = read_config(raw, source.generation_defaults())
    for field in fields(ModelConfig):
        wanted, made = getattr(config, field.name), getattr(read, field.name)
        if field.name != "quantization" and wanted != made:
            raise ModelError(
                f"{source.path}: config.json cannot say that {field.name} is {wanted}: give the checkpoint that it was "
                f"made of, or --format {' or '.join(GGUF_FORMATS)}"
            )
    return raw


def plan_shards(
    config: ModelConfig, shards: dict[str, dict[str, Tensor]], quantization: str
) -> dict[str, list[Planned]]:
    """File name -> the tensors to be written to it; every tensor of the model is checked on the way."""
    weights = Weights({name: tensor for shard in shards.values() for name, tensor in shard.items()})
    checkpoint = open_checkpoint(config, weights)
    # Fused matrices come as stretches of rows, NAME[0:48]; on disk they stay one.
    quantized = dict.fromkeys(matrix.weight.name.partition("[")[0] for matrix in checkpoint.quantized_matrices())
    if checkpoint.head is not None and checkpoint.head.weight.name == checkpoint.embedding.name:
        quantized[checkpoint.embedding.name] = head_name_of(config, weights)
    return {file: _plan_shard(shard, quantized, quantization) for file, shard in shards.items()}


def _plan_shard(shard: dict[str, Tensor], quantized: dict[str, str | None], quantization: str) -> list[Planned]:
    """Floats as stored, the wider first, then each matrix's integers and scales: so all of them begin aligned.

    `quantized` maps the names of matrices to None, or, for tied embeddings, to the name under which the head is written
    while the embedding stays.
    """
    stored = [_float(t) for t in shard.values() if quantized.get(t.name, t.name) and t.name not in quantized.values()]
    stored.sort(key=lambda t: (-STORED_AS[t.dtype].itemsize, t.name))
    plan = [Planned(name=t.name, dtype=t.dtype, shape=t.shape, make=t.numbers) for t in stored]
    for name in sorted(quantized.keys() & shard.keys()):
        plan.extend(_integers(quantized[name] or name, shard[name], quantization))
    return plan


def _float(tensor: Tensor) -> Tensor:
    """A tensor that stays float, with an embedding's integers as float32."""
    return Tensor(tensor.name, "F32", tensor.float32()) if isinstance(tensor, GroupedTensor) else tensor


def _rounded(name: str, tensor: Tensor, quantization: str) -> QuantizedTensor:
    """In a format of N4: the integers of the file where they are such, or rounded from the numbers they stand for."""
    if isinstance(tensor, GroupedTensor) and tensor.dtype in KEPT[quantization]:
        made = tensor.quantized()
        if not (made.integers == -128).any():  # which w8a8 does not have
            return replace(made, format=quantization)
    return quantize(name, tensor.float32().reshape(-1, tensor.shape[-1]), quantization)


def _integers(name: str, tensor: Tensor, quantization: str) -> Iterator[Planned]:
    """The two tensors that a matrix becomes, made together when the first is asked for."""
    outputs, inputs = math.prod(tensor.shape[:-1]), tensor.shape[-1]  # a stack of experts' matrices becomes one
    shape = stored_shape(quantization, outputs, inputs)
    made: dict[str, np.ndarray] = {}

    def make(part: str) -> np.ndarray:
        if part not in made:
            whole = _rounded(name, tensor, quantization)
            made.update(integers=to_stored(whole), scales=whole.scales)
        return made.pop(part)

    yield Planned(name=name, dtype=STORED_DTYPES[quantization], shape=shape, make=partial(make, "integers"))
    yield Planned(name=name + SCALES, dtype="F16", shape=shape[:2], make=partial(make, "scales"))


def _begin(target: Path, quantization: str, files: list[Path]) -> None:
    """Make `target`, or make sure that it is this very work, begun earlier."""
    stats = {file.name: file.stat() for file in files}
    state = {
        "format": quantization_entry(quantization),
        "source": {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()},
    }
    if (target / PROGRESS).exists():
        if read_json(target / PROGRESS) != state:
            raise ModelError(f"{target} holds unfinished work of another format or checkpoint: remove it first")
        return
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelError(f"{target} exists and is no unfinished work of this command: name another directory")
    target.mkdir(parents=True, exist_ok=True)
    write_text(target / PROGRESS, json.dumps(state))


def _write(plan: dict[str, list[Planned]], target: Path) -> None:
    total = sum(tensor.num_bytes for tensors in plan.values() for tensor in tensors)
    with shown_progress("quantising", total, is_bytes=True) as advance:
        for file, tensors in plan.items():
            write_shard(target / file, tensors, advance)


def _finish(
    source: ModelSource, target: Path, quantization: str, plan: dict[str, list[Planned]], described: dict[str, Any]
) -> None:
    """What lies beside the weights; config.json, without which nothing loads, comes last."""
    if len(plan) > 1 or (source.path / INDEX).exists():
        weight_map = {tensor.name: file for file, tensors in plan.items() for tensor in tensors}
        total = sum(tensor.num_bytes for tensors in plan.values() for tensor in tensors)
        write_text(target / INDEX, _pretty({"metadata": {"total_size": total}, "weight_map": weight_map}))
    for name in COPIED:
        if (source.path / name).exists():
            shutil.copyfile(source.path / name, target / name)
    if isinstance(source, MlcSource):
        _write_words(source, target)
    config = described | {"quantization": quantization_entry(quantization)}
    write_text(target / "config.json", _pretty(config))
    (target / PROGRESS).unlink()


def _write_words(source: MlcSource, target: Path) -> None:
    """What an artifact of MLC has in mlc-chat-config.json alone."""
    template = source.chat_template(source.tokenizer())
    if template is not None and not (target / "chat_template.jinja").exists():
        write_text(target / "chat_template.jinja", template.sources["default"])
    write_text(target / "generation_config.json", _pretty(source.generation_defaults()))


def _pretty(content: dict) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
