"""`verbatim diff`, `logits`, `perplexity` and `quantize`: numbers of a model, for people who learn and debug."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from verbatim.cli.options import Backend, ModelOptions, UsageError, load_backend, read_words, token_ids

DEFAULT = ModelOptions()
Several = Parameter(consume_multiple=True)


def diff(words: list[str]) -> int:
    """Compare the two engines; exit code 1 if anything differs."""
    return read_words("diff", _diff, words)


def logits(words: list[str]) -> int:
    """Write logits to a file."""
    return read_words("logits", _logits, words)


def perplexity(words: list[str]) -> int:
    """Print a table of formats and what they cost."""
    return read_words("perplexity", _perplexity, words)


def quantize(words: list[str]) -> int:
    """Make a quantized model directory of a float one."""
    return read_words("quantize", _quantize, words)


def _diff(
    *,
    options: ModelOptions = DEFAULT,
    ids: Annotated[list[str], Several, Parameter(help="requests, each as token ids: 1,2,3")] = [],  # noqa: B006
    prompt: Annotated[list[str], Several, Parameter(help="requests, each a text that is continued as it is")] = [],  # noqa: B006
    max_tokens: Annotated[int, Parameter(help="tokens of each answer")] = 16,
    temperature: float = 1.0,
    seed: int = 0,
) -> int:
    """Find the first bit in which fast path and reference differ, on --ids or --prompt; exit code 1 if there is one."""
    if bool(ids) == bool(prompt):
        raise UsageError("give either --ids or --prompt")
    wanted = token_ids(ids)
    load_backend("fastpath")
    from verbatim.fastpath.commands.diff import find_difference

    is_different = find_difference(
        options.directory(), ids=wanted, prompts=prompt, quantization=options.quantization,
        kv_cache_dtype=options.kv_cache_dtype, max_tokens=max_tokens, temperature=temperature, seed=seed,
        adapter=options.adapter(),
    )  # fmt: skip
    return int(is_different)


def _logits(
    *,
    backend: Backend = "fastpath",
    options: ModelOptions = DEFAULT,
    ids: Annotated[str, Parameter(help="token ids, separated by commas: 1,2,3")],
    out: Annotated[Path, Parameter(help="the file to write, an npz")],
) -> None:
    """Write the logits of token ids to a file: float32 (tokens, vocabulary), array `logits` of an npz."""
    (wanted,) = token_ids([ids])
    from verbatim.reference.commands.logits import write_logits

    write_logits(
        load_backend(backend), options.directory(), wanted, out,
        device=options.device, quantization=options.quantization, kv_cache_dtype=options.kv_cache_dtype,
        adapter=options.adapter(),
    )  # fmt: skip


def _perplexity(
    *,
    backend: Backend = "fastpath",
    options: ModelOptions = DEFAULT,
    text: Annotated[Path | None, Parameter(help="a text file (default: held-out conversations of the demo)")] = None,
    ids: Annotated[str | None, Parameter(help="token ids instead, separated by commas: 1,2,3")] = None,
    tokens: Annotated[int, Parameter(help="how many tokens to read at most")] = 4096,
) -> None:
    """Measure what quantization costs on a text: perplexity, and how often the likeliest token stays the same."""
    if text and ids:
        raise UsageError("give either --text or --ids")
    wanted = token_ids([ids])[0] if ids else []
    from verbatim.reference.commands.perplexity import perplexity

    perplexity(
        load_backend(backend), options.directory(), text=text, ids=wanted, num_tokens=tokens,
        device=options.device, kv_cache_dtype=options.kv_cache_dtype, adapter=options.adapter(),
    )  # fmt: skip


def _quantize(
    source: Annotated[Path, Parameter(help="a model: a directory, an artifact of MLC LLM, a GGUF file, or demo")],
    target: Annotated[Path, Parameter(help="the directory or the .gguf file to write")],
    *,
    format: Annotated[str, Parameter(help="w8a8 or w4a8: a directory; gguf-q8_0, -q4_0, -f16, -bf16 or -f32: a file")],
) -> None:
    """Quantize a checkpoint on disk: loading w8a8 and w4a8 gives the bits that --quantization gives on a float one.

    A directory that was cut off is resumed, a GGUF file begun anew.
    """
    from verbatim.cli.models.names import NAMES
    from verbatim.reference.commands.quantize import quantize_on_disk

    quantize_on_disk(source if source.exists() else NAMES.get(str(source), source), target, format)
