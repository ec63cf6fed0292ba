"""What an answer depends on beside its request, as a few characters: the same ones, the same answers.

    verbatim-VERSION-DIGEST[-INTEGERS][-kv-TYPE]

The digest is of the model's files, its shape as the options have changed it, its chat template, its dialect of tool
calls and its pooling. Backend, device, threads, cache and speculation are not in it: they change no bit (N-rules).
Of files above 64 MiB in all, blocks at even distances are read: training moves nearly every weight, so another
training shows; somebody who edits single weights on purpose may not.
"""

from importlib.metadata import PackageNotFoundError, version

from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.told import told
from verbatim.server.settings.options import Options

DIGITS = 16


def fingerprint_of(options: Options, config: ModelConfig, *words: str) -> str:
    """The model's `system_fingerprint`; `words` are what else its answers depend on."""
    digest = open_source(options.model).digest(f"({told(config)}, {words!r})".encode())
    pages = None if options.kv_cache_dtype == "float32" else f"kv-{options.kv_cache_dtype}"
    integers = options.quantization or config.quantization
    return "-".join(filter(None, ["verbatim", own_version(), digest[:DIGITS], integers, pages]))


def own_version() -> str:
    """The installed version, or "checkout" where nothing is installed."""
    try:
        return version("verbatim")
    except PackageNotFoundError:
        return "checkout"
