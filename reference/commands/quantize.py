"""`verbatim quantize SRC DST --format w4a8`: a float checkpoint made into integers once, on disk (N4).

DST is a model directory like SRC: the matrices as integers with their scales, everything else as it was stored. Loading
it gives the bits that `--quantization` gives on SRC. A run that was cut off goes on when the same command is given
again, and ends with the same files: `quantize.progress.json` stays in DST until all is done, config.json comes last.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from verbatim.reference.checkpoint.families import family_named
from verbatim.reference.checkpoint.opening import head_name_of, open_checkpoint
from verbatim.reference.checkpoint.shard_writer import Planned, write_shard, write_text
from verbatim.reference.checkpoint.source import HuggingFaceSource, open_source
from verbatim.reference.checkpoint.weights import INDEX, STORED_AS, Tensor, Weights
from verbatim.reference.numerics.quantization import (
    SCALES,
    STORED_DTYPES,
    check_format,
    quantization_entry,
    quantize,
    stored_shape,
    to_stored,
)  # fmt: skip
from verbatim.reference.records.config import read_json
from verbatim.reference.records.errors import ModelError

PROGRESS = "quantize.progress.json"
COPIED = (  # what a model directory holds beside its weights and config.json
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json", "generation_config.json", "LICENSE",
)  # fmt: skip


def quantize_on_disk(source: Path, target: Path, quantization: str) -> None:
    """Make `target` of `source` and say so; ModelError if it cannot be read, or not be written."""
    try:
        quantize_directory(source, target, quantization)
    except OSError as error:
        raise ModelError(f"{target} cannot be written: {error}; the same command goes on from here") from None
    Console(highlight=False).print(f"{target} is complete", markup=False, soft_wrap=True)


def quantize_directory(source: Path, target: Path, quantization: str) -> None:
    """Make `target` of `source`, or resume an earlier run; ModelError says what stands in the way."""
    check_format(quantization)
    config = open_source(source).config()
    if config.quantization:
        raise ModelError(f"{source} is quantised already: give the float checkpoint")
    if family_named(config.family).experts.interleaved:
        raise ModelError(f"{source}: experts of the family {config.family} cannot be written as integers, "
                         "but --quantization makes integers of them while loading")  # fmt: skip
    shards = HuggingFaceSource(source).shards()
    plan = plan_shards(source, shards, quantization)
    _begin(source, target, quantization, [*shards, "config.json"])
    _write(plan, target)
    _finish(source, target, quantization, plan)


def plan_shards(source: Path, shards: dict[str, dict[str, Tensor]], quantization: str) -> dict[str, list[Planned]]:
    """File name -> the tensors to be written to it; every tensor of the model is checked on the way."""
    config = open_source(source).config()
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
    stored = [t for t in shard.values() if quantized.get(t.name, t.name) and t.name not in quantized.values()]
    stored.sort(key=lambda t: (-STORED_AS[t.dtype].itemsize, t.name))
    plan = [Planned(name=t.name, dtype=t.dtype, shape=t.shape, make=partial(getattr, t, "bits")) for t in stored]
    for name in sorted(quantized.keys() & shard.keys()):
        plan.extend(_integers(quantized[name] or name, shard[name], quantization))
    return plan


def _integers(name: str, tensor: Tensor, quantization: str) -> Iterator[Planned]:
    """The two tensors that a matrix becomes, made together when the first is asked for."""
    outputs, inputs = math.prod(tensor.shape[:-1]), tensor.shape[-1]  # a stack of experts' matrices becomes one
    shape = stored_shape(quantization, outputs, inputs)
    made: dict[str, np.ndarray] = {}

    def make(part: str) -> np.ndarray:
        if part not in made:
            whole = quantize(name, tensor.float32().reshape(outputs, inputs), quantization)
            made.update(integers=to_stored(whole), scales=whole.scales)
        return made.pop(part)

    yield Planned(name=name, dtype=STORED_DTYPES[quantization], shape=shape, make=partial(make, "integers"))
    yield Planned(name=name + SCALES, dtype="F16", shape=shape[:2], make=partial(make, "scales"))


def _begin(source: Path, target: Path, quantization: str, files: list[str]) -> None:
    """Make `target`, or make sure that it is this very work, begun earlier."""
    stats = {name: (source / name).stat() for name in files}
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
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        total = sum(tensor.num_bytes for tensors in plan.values() for tensor in tensors)
        task = progress.add_task("quantising", total=total)
        advance: Callable[[int], None] = partial(progress.advance, task)
        for file, tensors in plan.items():
            write_shard(target / file, tensors, advance)


def _finish(source: Path, target: Path, quantization: str, plan: dict[str, list[Planned]]) -> None:
    """What lies beside the weights; config.json, without which nothing loads, comes last."""
    if len(plan) > 1 or (source / INDEX).exists():
        weight_map = {tensor.name: file for file, tensors in plan.items() for tensor in tensors}
        total = sum(tensor.num_bytes for tensors in plan.values() for tensor in tensors)
        write_text(target / INDEX, _pretty({"metadata": {"total_size": total}, "weight_map": weight_map}))
    for name in COPIED:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    config = open_source(source).raw_config() | {"quantization": quantization_entry(quantization)}
    write_text(target / "config.json", _pretty(config))
    (target / PROGRESS).unlink()


def _pretty(content: dict) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
