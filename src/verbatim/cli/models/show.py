"""`verbatim show MODEL`: what a model is, and what it needs, from its files alone."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from verbatim.cli.models.cache import size, wide_console
from verbatim.cli.models.names import find_directory
from verbatim.cli.options import read_words
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.numerics.quantization import FORMATS, MIXED, SCALES, STORED_DTYPES
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.limits import KV_CACHE_DTYPES
from verbatim.server.engine.memory import Needs, estimate
from verbatim.server.models.served import load_served_model
from verbatim.server.settings.options import Options

DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
PACKED = STORED_DTYPES["w4a8"]  # two weights in a byte


def show(words: list[str]) -> int:
    """Describe a model, as `verbatim show --help` says; returns the exit code."""
    return read_words("show", _show, words)


def _show(
    model: Annotated[
        str, Parameter(help="an embedded model, a directory, a GGUF file, or user/repo in the hub's cache")
    ],
    /,
) -> None:
    """Show what a model is and what it needs, from its files alone."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows(find_directory(model).absolute()):
        table.add_row(*row)
    wide_console().print(table)


def rows(directory: Path) -> Iterator[tuple[str, str]]:
    """Pairs of a subject and what is known of it; ModelError if the model cannot be served."""
    source = open_source(directory)
    raw, tensors = source.raw_config(), source.tensors()
    served = load_served_model(Options(model=directory))
    config = served.config
    yield "directory" if directory.is_dir() else "file", str(directory)
    yield "architecture", f"{', '.join(raw.get('architectures') or [raw['model_type']])} (family {config.family})"
    yield "parameters", _number(num_parameters(tensors))
    yield "stored as", source.stored_as() or ", ".join(sorted({_dtype(tensor) for tensor in tensors.values()}))
    yield "context", f"{config.context_size} tokens"
    yield "vocabulary", f"{config.vocab_size} tokens"
    stateful = f", {config.num_stateful_layers} with a state" if config.num_stateful_layers else ""
    yield "layers", f"{config.num_layers}{_windows(config)}{stateful}"
    yield "attention", _attention(config)
    yield "hidden size", f"{config.hidden_size}, intermediate {config.intermediate_size}{_experts(config)}"
    yield "chat template", "yes" if served.template else "no: it continues text (verbatim run)"
    yield "tool calls", f"in the format {served.dialect.name}" if served.template else "no"
    yield "recommended", _defaults(source.generation_defaults())
    for name in (None, *FORMATS) if config.quantization is None else (config.quantization,):
        wanted = None if name in MIXED else name
        yield f"weights, {wanted or 'as stored'}", size(needs(directory, config, quantization=wanted).weights)
    for dtype in KV_CACHE_DTYPES:
        yield f"cache, {dtype}", f"{size(needs(directory, config, kv_cache_dtype=dtype).token)} for each token"
    if config.state_bytes:
        yield "state", f"{size(config.state_bytes)} for each sequence, each draft token and each that is kept"
    yield "fingerprint", served.fingerprint


def num_parameters(tensors: dict[str, Tensor]) -> int:
    """How many weights there are; scales of quantised ones are none."""
    counted = [tensor for name, tensor in tensors.items() if not name.endswith(SCALES)]
    return sum(math.prod(tensor.shape) * (2 if tensor.dtype == PACKED else 1) for tensor in counted)


def needs(directory: Path, config: ModelConfig, **options: Any) -> Needs:
    """The bytes that a fast engine needs with these options."""
    return estimate(Options(model=directory, **options), config, 1, 1)


def _dtype(tensor: Tensor) -> str:
    return DTYPES.get(tensor.dtype, tensor.dtype)


def _number(count: int) -> str:
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= unit:
            return f"{count / unit:.2f} {letter} ({count})"
    return str(count)


def _defaults(generation: dict) -> str:
    """What generation_config.json sets for sampling."""
    found = {name: value for name, value in generation.items() if not name.startswith("_") and "token_id" not in name}
    return ", ".join(f"{name} {value}" for name, value in found.items() if name != "transformers_version") or "nothing"


def _attention(config: ModelConfig) -> str:
    if config.latent:
        return f"{config.num_heads} heads of {config.query_dim}, one latent of {config.latent.rank} for all of them"
    return f"{config.num_heads} heads of {config.head_dim}, {config.num_kv_heads} of keys and values"


def _windows(config: ModelConfig) -> str:
    windows = {layer.window for layer in config.layers if layer.window}
    count = sum(layer.window is not None for layer in config.layers)
    return f", {count} with a sliding window of {max(windows)} tokens" if windows else ""


def _experts(config: ModelConfig) -> str:
    experts = config.experts
    return f", {experts.num_experts} experts, {experts.num_per_token} for each token" if experts else ""
