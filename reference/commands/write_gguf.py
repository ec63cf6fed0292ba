"""`verbatim quantize SRC DST --format gguf-q8_0`: any model that is read here as a GGUF file, with all its words.

Integers that Q8_0 or Q4_0 has just so stay as they are (w4a8, w8a8, AWQ and GPTQ without zero points, MLC's 4 bits, the
same types of GGUF); everything else is dequantised and rounded by the package `gguf`. Vectors and routers are float32,
rows of no whole groups of 32 float16, and in gguf-q4_0 embedding and head Q8_0.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from verbatim.reference.checkpoint.gguf.describing import architecture_name, check_description, describe, factor_tensors
from verbatim.reference.checkpoint.gguf.parts import Part, parts_of_model
from verbatim.reference.checkpoint.gguf.shapes import EMBEDDING, OUTPUT
from verbatim.reference.checkpoint.gguf.source import SAMPLING, TEMPLATE, GgufSource
from verbatim.reference.checkpoint.model_source import ModelSource
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.checkpoint.tensors import Matrix
from verbatim.reference.checkpoint.weights import release
from verbatim.reference.commands.progress import shown_progress
from verbatim.reference.numerics.blocks import BLOCK_FORMATS, to_blocks
from verbatim.reference.numerics.quantization import GROUP_SIZE, QuantizedTensor
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.errors import ModelError
from verbatim.reference.text.tokenizers.gguf_vocabulary import describe_vocabulary

FORMATS = {"gguf-q8_0": "Q8_0", "gguf-q4_0": "Q4_0", "gguf-f16": "F16", "gguf-bf16": "BF16", "gguf-f32": "F32"}
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "BF16": 32}  # `general.file_type`
KEPT = {"Q8_0": ("w8a8", "w4a8"), "Q4_0": ("w4a8",)}  # formats whose integers and scales are those of the type
ROWS_AT_ONCE = 4096
END_NAMES = ("eos", "eot", "eom")


def write_gguf(source: Path, target: Path, name: str) -> None:
    """Make the file `target`; ModelError names what cannot be written. A run that was cut off begins anew."""
    writer_class, quantize, types = _package()
    if target.exists():
        raise ModelError(f"{target} exists: name another file")
    if target.suffix != ".gguf":
        raise ModelError(f"{target} must end in .gguf for --format {name}")
    opened, form = open_source(source), FORMATS[name]
    config = opened.config()
    metadata = describe(config) | _words(opened, config) | _sampling(opened) | {
        "general.name": source.resolve().stem, "general.file_type": FILE_TYPES[form], "general.quantization_version": 2,
    }  # fmt: skip
    if opened.pooling() == "last":
        metadata[f"{metadata['general.architecture']}.pooling_type"] = 3
    parts = list(parts_of_model(config, open_checkpoint(config, opened.weights()), architecture_name(config)))
    factors = factor_tensors(config)
    check_description(config, metadata, dict.fromkeys(part.name for part in parts) | factors)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    writer = writer_class(partial, metadata.pop("general.architecture"))
    for key, value in metadata.items():
        _add(writer, key, value)
    forms = {part.name: _type(part, form) for part in parts}
    sizes = {part.name: _stored_shape(part.shape, forms[part.name]) for part in parts}
    for key, values in factors.items():
        writer.add_tensor_info(key, values.shape, values.dtype, values.nbytes)
    for part in parts:
        shape, is_block = sizes[part.name], forms[part.name] in BLOCK_FORMATS or forms[part.name] == "BF16"
        dtype = np.dtype(np.uint8 if is_block else {"F32": np.float32, "F16": np.float16}[forms[part.name]])
        size = int(np.prod(shape)) * dtype.itemsize
        writer.add_tensor_info(part.name, shape, dtype, size, types[forms[part.name]] if is_block else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for values in factors.values():
        writer.write_tensor_data(values)
    total = sum(int(np.prod(part.shape)) for part in parts)
    with shown_progress("writing", total) as advance:
        for part in parts:
            writer.write_tensor_data(_encoded(part, forms[part.name], config, lambda x, t: quantize(x, types[t])))
            advance(int(np.prod(part.shape)))
    writer.close()
    partial.replace(target)


def _package() -> tuple[Any, Callable, Any]:
    """The writer, the rounding and the types of the package `gguf`."""
    try:
        import gguf
    except ImportError:
        raise ModelError("GGUF files are written by the package gguf: pip install 'verbatim[gguf]'") from None
    return gguf.GGUFWriter, gguf.quants.quantize, gguf.GGMLQuantizationType


def _add(writer: Any, key: str, value: Any) -> None:
    """An entry, with the type that its value has here."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value.tolist() if isinstance(value, np.ndarray) else value)


def _words(source: ModelSource, config: ModelConfig) -> dict[str, Any]:
    """Vocabulary, ends and template: of another GGUF file as they stand there."""
    if isinstance(source, GgufSource):
        return {key: value for key, value in source.metadata().values.items() if key.startswith("tokenizer.")}
    tokenizer = source.tokenizer()
    found = describe_vocabulary(source.path, tokenizer, config.vocab_size, architecture_name(config))
    own = found.get("tokenizer.ggml.eos_token_id")
    ends = sorted(dict.fromkeys(config.eos_ids), key=lambda i: i != own)
    if len(ends) > len(END_NAMES):
        raise ModelError(f"{len(ends)} tokens end an answer ({ends}): GGUF has places for {len(END_NAMES)}")
    found |= {f"tokenizer.ggml.{name}_token_id": i for name, i in zip(END_NAMES, ends, strict=False)}
    template = source.chat_template(tokenizer)
    if template is not None:
        others = {name: text for name, text in template.sources.items() if name != "default"}
        found |= {TEMPLATE: template.sources["default"]} | {f"{TEMPLATE}.{name}": text for name, text in others.items()}
        found |= {"tokenizer.chat_templates": list(others)} if others else {}
    return found


def _sampling(source: ModelSource) -> dict[str, Any]:
    """What the authors recommend."""
    known = source.generation_defaults()
    found = {
        f"general.sampling.{theirs}": float(known[ours])
        for ours, theirs in SAMPLING.items()
        if known.get(ours) is not None
    }
    return found | ({"general.sampling.top_k": int(known["top_k"])} if known.get("top_k") else {})


def _type(part: Part, form: str) -> str:
    if part.vectors or part.is_float:
        return "F32"
    if form in BLOCK_FORMATS and part.shape[-1] % GROUP_SIZE:
        return "F16"
    return "Q8_0" if form == "Q4_0" and part.name in (EMBEDDING, OUTPUT) else form


def _stored_shape(shape: tuple[int, ...], form: str) -> tuple[int, ...]:
    """In numbers, or in bytes for blocks and for bfloat16."""
    if form == "BF16":
        return (*shape[:-1], 2 * shape[-1])
    known = BLOCK_FORMATS.get(form)
    return shape if known is None else (*shape[:-1], shape[-1] // known.size * known.num_bytes)


def _encoded(part: Part, form: str, config: ModelConfig, quantize: Callable) -> np.ndarray:
    """What is written of a tensor."""
    if part.vectors:
        whole = np.concatenate([vector.float32() for vector in part.vectors])
        whole = whole + np.float32(part.offset) if part.offset else whole
    else:
        encoded = [_matrix(matrix, form, config.quantization, quantize) for matrix in part.matrices]
        whole = np.stack(encoded) if part.is_stack else np.concatenate(encoded)
    return np.ascontiguousarray(whole if part.order is None else whole[part.order])


def _matrix(matrix: Matrix, form: str, quantization: str | None, quantize: Callable) -> np.ndarray:
    """A matrix in a type: its own integers where the type has them, or rounded, some rows at a time."""
    outputs, stored = matrix.weight.shape[0], matrix.format(quantization)
    if matrix.weight.dtype == form and form in BLOCK_FORMATS:
        return matrix.weight.bits.reshape(outputs, -1)
    is_kept = stored in KEPT.get(form, ()) and matrix.num_inputs % GROUP_SIZE == 0
    parts = []
    for start in range(0, outputs, ROWS_AT_ONCE):
        rows = matrix.rows(start, min(start + ROWS_AT_ONCE, outputs))
        if is_kept:
            tensor = rows.quantized(stored or "")
            assert isinstance(tensor, QuantizedTensor)
            parts.append(
                to_blocks(replace(tensor, format="w8a8" if form == "Q8_0" else "w4a8")).reshape(len(tensor.scales), -1)
            )
        else:
            parts.append(quantize(_floats(rows, quantization), form))
    release(matrix.weight.bits)
    return np.concatenate(parts)


def _floats(matrix: Matrix, quantization: str | None) -> np.ndarray:
    """The float32 weights (outputs, inputs)."""
    if matrix.scales is None:
        return matrix.weight.float32()
    tensor = matrix.quantized(quantization or "")
    assert isinstance(tensor, QuantizedTensor)
    weights = tensor.scales.astype(np.float32)[..., None] * tensor.integers
    return weights.reshape(len(weights), -1)[:, : matrix.num_inputs]
