"""The tensors of an MLC artifact: a JSON list of shards, each a file of tensors one after another, with its MD5.

The list is `tensor-cache.json`, in older artifacts `ndarray-cache.json`: {"records": [{"dataPath", "format":
"raw-shard", "nbytes", "md5sum", "records": [{"name", "shape", "dtype", "format", "nbytes", "byteOffset"}]}]}. Of the
format "f32-to-bf16" a tensor of float32 is stored as bfloat16. Bytes are little-endian. Everything in the list is
checked before it is believed.
"""

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from verbatim.reference.checkpoint.weights import STORED_AS, Tensor, map_bytes
from verbatim.reference.records.config import read_json
from verbatim.reference.records.errors import ModelError

CHAT_CONFIG = "mlc-chat-config.json"
CACHES = ("tensor-cache.json", "ndarray-cache.json")  # the first that is there
SHARDS = "params_shard_*.bin"
DTYPES = {
    "float32": "F32", "float16": "F16", "bfloat16": "BF16", "uint32": "I32", "int32": "I32", "int8": "I8",
    "uint8": "U8",
}  # fmt: skip
MAX_DIMENSIONS = 4
HASHED_AT_ONCE = 1 << 24


def is_artifact(directory: Path) -> bool:
    """Whether a directory is one: its configuration is there, and no checkpoint of another kind."""
    return (directory / CHAT_CONFIG).is_file() and not any(directory.glob("*.safetensors"))


def cache_file(directory: Path) -> Path:
    """The list of tensors; ModelError where there is none."""
    for name in CACHES:
        if (directory / name).is_file():
            return directory / name
    raise ModelError(f"{directory} has no weights: neither {' nor '.join(CACHES)}")


def shard_files(directory: Path) -> list[Path]:
    """All shards, in the order of the list."""
    return [directory / shard["dataPath"] for shard in _shards(cache_file(directory))]


def map_tensors(directory: Path) -> dict[str, Tensor]:
    """Name -> tensor, mapped and not read; 32-bit words have the dtype I32, whatever their sign."""
    path = cache_file(directory)
    tensors: dict[str, Tensor] = {}
    for shard in _shards(path):
        content = map_bytes(directory / shard["dataPath"])
        if len(content) != shard["nbytes"]:
            raise ModelError(
                f"{directory / shard['dataPath']} has {len(content)} bytes, {path.name} says {shard['nbytes']}"
            )
        end, before = 0, ""
        for entry in sorted(_entries(path, shard), key=lambda entry: entry["byteOffset"]):
            if entry["byteOffset"] < end:
                raise ModelError(f"{path}: tensor {entry['name']} lies upon tensor {before}")
            end, before = entry["byteOffset"] + entry["nbytes"], entry["name"]
            if before in tensors:
                raise ModelError(f"{path}: tensor {before} is there twice")
            tensors[before] = _map_tensor(path, entry, content)
    return tensors


def check_digests(directory: Path) -> None:
    """ModelError if a shard is not what its MD5 says; reads all of them. A shard without one passes."""
    for shard in _shards(cache_file(directory)):
        if wanted := shard.get("md5sum"):
            content, digest = map_bytes(directory / shard["dataPath"]), hashlib.md5(usedforsecurity=False)
            for at in range(0, len(content), HASHED_AT_ONCE):
                digest.update(content[at : at + HASHED_AT_ONCE].data)
            if digest.hexdigest() != wanted:
                raise ModelError(
                    f"{directory / shard['dataPath']} is damaged: its MD5 is {digest.hexdigest()}, not {wanted}"
                )


def _shards(path: Path) -> list[dict[str, Any]]:
    """The entries of files; each names a file of the directory itself."""
    found = read_json(path).get("records")
    if not isinstance(found, list) or not found:
        raise ModelError(f"{path}: records must be a list of shards")
    for shard in found:
        if not isinstance(shard, dict) or not _is_name(shard.get("dataPath")) or not _is_count(shard.get("nbytes")):
            raise ModelError(f"{path}: a shard needs dataPath, the name of a file, and nbytes, not {str(shard)[:100]}")
        if shard.get("format", "raw-shard") != "raw-shard":
            raise ModelError(f"{path}: {shard['dataPath']} has the format {shard['format']!r}, not 'raw-shard'")
    return found


def _entries(path: Path, shard: dict[str, Any]) -> list[dict[str, Any]]:
    """The tensors of a shard, each with a known type and a size that fits its shape and the file."""
    found = shard.get("records")
    if not isinstance(found, list):
        raise ModelError(f"{path}: records of {shard['dataPath']} must be a list of tensors")
    for entry in found:
        numbers = [entry.get(name) for name in ("nbytes", "byteOffset")] if isinstance(entry, dict) else [None]
        if (
            not all(map(_is_count, numbers))
            or not isinstance(entry.get("name"), str)
            or not _is_shape(entry.get("shape"))
        ):
            raise ModelError(f"{path}: a tensor needs name, shape, nbytes and byteOffset, not {str(entry)[:100]}")
        name, dtype = entry["name"], _stored_dtype(path, entry)
        if entry["byteOffset"] + entry["nbytes"] > shard["nbytes"]:
            end = entry["byteOffset"] + entry["nbytes"]
            raise ModelError(f"{path}: tensor {name} ends at byte {end} of {shard['nbytes']} of {shard['dataPath']}")
        if math.prod(entry["shape"]) * STORED_AS[dtype].itemsize != entry["nbytes"]:
            raise ModelError(
                f"{path}: tensor {name} has {entry['nbytes']} bytes, which {entry['shape']} of {dtype} has not"
            )
    return found


def _stored_dtype(path: Path, entry: dict[str, Any]) -> str:
    """As a safetensors file would name it."""
    dtype, form = str(entry.get("dtype")), entry.get("format", "raw")
    if form not in ("raw", "f32-to-bf16"):
        raise ModelError(f"{path}: tensor {entry['name']} has the format {form!r}, not 'raw' or 'f32-to-bf16'")
    if dtype not in DTYPES:
        raise ModelError(f"{path}: tensor {entry['name']} is stored as {dtype}; supported: {', '.join(DTYPES)}")
    return "BF16" if form == "f32-to-bf16" and dtype == "float32" else DTYPES[dtype]


def _map_tensor(path: Path, entry: dict[str, Any], content: np.ndarray) -> Tensor:
    dtype = _stored_dtype(path, entry)
    data = content[entry["byteOffset"] : entry["byteOffset"] + entry["nbytes"]]
    return Tensor(entry["name"], dtype, np.frombuffer(data, STORED_AS[dtype]).reshape(entry["shape"]))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and Path(value).name == value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48


def _is_shape(value: Any) -> bool:
    is_list = isinstance(value, list) and len(value) <= MAX_DIMENSIONS
    return is_list and all(_is_count(size) and size > 0 for size in value)
