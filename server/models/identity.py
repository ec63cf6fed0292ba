"""What an answer depends on beside its request, as a few characters: the same ones, the same answers.

    verbatim-VERSION-DIGEST[-INTEGERS][-kv-TYPE]

The digest is of the model's files, its shape as the options have changed it, its chat template, its dialect of tool
calls and its pooling. Backend, device, threads, cache and speculation are not in it: they change no bit (N-rules).
Of files above 64 MiB in all, blocks at even distances are read: training moves nearly every weight, so another
training shows; somebody who edits single weights on purpose may not.
"""

from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from verbatim.reference.records.config import ModelConfig
from verbatim.server.settings.hub import FILES
from verbatim.server.settings.options import Options

DIGITS = 16
READ_BYTES = 64 << 20  # of all files together, at most
BLOCK_BYTES = 64 << 10  # each may be a movement of a disk's head


def fingerprint_of(options: Options, config: ModelConfig, *words: str) -> str:
    """The model's `system_fingerprint`; `words` are what else its answers depend on."""
    digest = sha256(repr((config, words)).encode())
    paths = sorted({path for pattern in FILES for path in Path(options.model).glob(pattern)})
    stride = BLOCK_BYTES * max(1, -(-sum(path.stat().st_size for path in paths) // READ_BYTES))
    for path in paths:
        digest.update(f"{path.name} {path.stat().st_size} ".encode())
        _read_into(digest, path, stride)
    pages = None if options.kv_cache_dtype == "float32" else f"kv-{options.kv_cache_dtype}"
    integers = options.quantization or config.quantization
    return "-".join(filter(None, ["verbatim", own_version(), digest.hexdigest()[:DIGITS], integers, pages]))


def own_version() -> str:
    """The installed version, or "checkout" where nothing is installed."""
    try:
        return version("verbatim")
    except PackageNotFoundError:
        return "checkout"


def _read_into(digest: Any, path: Path, stride: int) -> None:
    with path.open("rb") as file:
        for start in range(0, path.stat().st_size, stride):
            file.seek(start)
            digest.update(file.read(BLOCK_BYTES))
