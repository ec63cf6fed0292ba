"""`verbatim run`, `chat` and `explain`: answers in the terminal, from either engine."""

import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from verbatim.cli.options import Backend, ModelOptions, UsageError, load_backend, read_words, reader, shared
from verbatim.demo import DRAFTS
from verbatim.reference.commands.generate import Generation, generate
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import SamplingParams, StoppingParams
from verbatim.server.settings.hub import fetch
from verbatim.server.settings.value_types import MODEL

HYPHEN = "\0"  # stands for the prompt `-` while options are read, so that it is not taken for one


def run(words: list[str]) -> int:
    """Answer the prompts that `words` name, as `verbatim run --help` says; returns the exit code."""
    name = "explain" if words[:1] == ["--explain"] else "run"
    return read_words(name, _run, [HYPHEN if word == "-" else word for word in words])


def explain(words: list[str]) -> int:
    """The same, with a table for every token."""
    return run(["--explain", *words])


def _run(
    *prompt: Annotated[str, Parameter(help="what to say, or - to read it from standard input; each gets an answer")],
    backend: Backend = "fastpath",
    options: ModelOptions = ModelOptions(),  # noqa: B008
    raw: Annotated[bool, Parameter(help="continue the prompt as it is, without the chat template")] = False,
    system: Annotated[str | None, Parameter(help="a system message to begin with")] = None,
    greedy: Annotated[bool, Parameter(help="always the likeliest token (temperature 0)")] = False,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int | None = None,
    min_p: float = 0.0,
    seed: Annotated[int | None, Parameter(help="the same seed gives the same answer (default: a random one)")] = None,
    max_tokens: Annotated[int | None, Parameter(help="tokens of an answer (default: as many as fit)")] = None,
    stop: Annotated[list[str], Parameter(help="end before this text; repeatable")] = [],  # noqa: B006
    n: Annotated[int, Parameter(help="how many answers to each prompt")] = 1,
    explain: Annotated[bool, Parameter(help="show for every token how it was chosen")] = False,
    max_num_sequence: Annotated[int | None, shared("max_num_sequence", text="answers at once (default: --n)")] = None,
    prefill_chunk_size: Annotated[int, shared("prefill_chunk_size", text="tokens a step (default: 512)")] = 512,
    threads: Annotated[int | None, shared("threads")] = None,
    speculative_mode: Annotated[str, shared("speculative_mode")] = "disable",
    draft_model: Annotated[
        Path | str | None,
        Parameter(help="for small_draft, medusa and eagle (default: the demo's)", converter=reader(MODEL)),
    ] = None,
    spec_draft_length: Annotated[int, shared("spec_draft_length")] = 0,
    spec_tree_width: Annotated[int, shared("spec_tree_width")] = 1,
) -> None:
    """Answer one prompt or more: as a chat if the model has a chat template, else by continuing the text."""
    if not prompt:
        raise UsageError("give a prompt, or - to read one from standard input")
    if threads:
        os.environ["VERBATIM_THREADS"] = str(threads)
    seeds: dict[str, Any] = {} if seed is None else {"seed": seed}  # else that of SamplingParams
    generation = Generation(
        model=options.directory(),
        device=options.device,
        quantization=options.quantization,
        limits=EngineLimits(
            max_num_sequence=max_num_sequence or max(1, n),
            prefill_chunk_size=prefill_chunk_size,
            speculative_mode=speculative_mode,
            spec_draft_length=spec_draft_length,
            spec_tree_width=spec_tree_width,
            kv_cache_dtype=options.kv_cache_dtype,
        ),
        draft_model=fetch(draft_model or DRAFTS[speculative_mode]) if speculative_mode in DRAFTS else None,
        sampling=SamplingParams(
            temperature=0 if greedy else temperature, top_p=top_p, top_k=top_k, min_p=min_p,
            **seeds,
        ),
        stopping=StoppingParams(max_tokens=max_tokens, strings=tuple(stop)),
        n=n,
        system=system,
        is_raw=raw,
        is_explained=explain,
    )  # fmt: skip
    prompts = ["-" if text == HYPHEN else text for text in prompt]
    generate(load_backend(backend), prompts, generation)
