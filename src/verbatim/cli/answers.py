"""`verbatim run` and `explain`: answers in the terminal, from either engine, in this process."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from verbatim.cli.options import Backend, ModelOptions, UsageError, load_backend, read_words, reader, shared
from verbatim.demo import DRAFTS
from verbatim.reference.checkpoint.generation import sampling_defaults
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.commands.generate import Generation, generate
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import SamplingParams, StoppingParams
from verbatim.server.settings.hub import fetch
from verbatim.server.settings.value_types import MODEL

RECOMMENDED = "default: as the model's authors recommend, else without effect"
HYPHEN = "\0"  # stands for the prompt `-` while options are read, so that it is not taken for one


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOptions:
    """How to answer: what `verbatim run` and `verbatim chat` have in common."""

    raw: Annotated[bool, Parameter(help="continue the prompt as it is, without the chat template")] = False
    system: Annotated[str | None, Parameter(help="a system message to begin with")] = None
    greedy: Annotated[bool, Parameter(help="always the likeliest token (temperature 0)")] = False
    temperature: Annotated[float | None, Parameter(help=RECOMMENDED)] = None
    top_p: Annotated[float | None, Parameter(help=RECOMMENDED)] = None
    top_k: Annotated[int | None, Parameter(help=RECOMMENDED)] = None
    min_p: Annotated[float | None, Parameter(help=RECOMMENDED)] = None
    seed: Annotated[int | None, Parameter(help="the same seed gives the same answer (default: a random one)")] = None
    max_tokens: Annotated[int | None, Parameter(help="tokens of an answer (default: as many as fit)")] = None
    stop: Annotated[tuple[str, ...], Parameter(help="end before this text; repeatable", show_default=False)] = ()
    n: Annotated[int, Parameter(help="how many answers to each prompt")] = 1
    explain: Annotated[bool, Parameter(help="show for every token how it was chosen")] = False
    max_num_sequence: Annotated[int | None, shared("max_num_sequence", text="answers at once (default: --n)")] = None
    prefill_chunk_size: Annotated[int, shared("prefill_chunk_size", text="tokens a step (default: 512)")] = 512
    threads: Annotated[int | None, shared("threads")] = None
    speculative_mode: Annotated[str, shared("speculative_mode")] = "disable"
    draft_model: Annotated[
        Path | str | None,
        Parameter(help="for small_draft, medusa and eagle (default: the demo's)", converter=reader(MODEL)),
    ] = None
    spec_draft_length: Annotated[int, shared("spec_draft_length")] = 0
    spec_tree_width: Annotated[int, shared("spec_tree_width")] = 1

    def sampling(self, recommended: Mapping[str, Any] | None = None) -> SamplingParams:
        """How tokens are chosen: as asked for, else as `recommended`; RequestError for a value out of bounds."""
        chosen = {name: getattr(self, name) for name in ("temperature", "top_p", "top_k", "min_p", "seed")}
        chosen |= {"temperature": 0} if self.greedy else {}
        return SamplingParams(**{**(recommended or {}), **{k: v for k, v in chosen.items() if v is not None}})

    def limits(self, kv_cache_dtype: str) -> EngineLimits:
        """The sizes of the engine."""
        return EngineLimits(
            max_num_sequence=self.max_num_sequence or max(1, self.n),
            prefill_chunk_size=self.prefill_chunk_size,
            speculative_mode=self.speculative_mode,
            spec_draft_length=self.spec_draft_length,
            spec_tree_width=self.spec_tree_width,
            kv_cache_dtype=kv_cache_dtype,
        )

    def draft(self) -> Path | str | None:
        """The draft model or heads, where the speculative mode has some."""
        return (self.draft_model or DRAFTS[self.speculative_mode]) if self.speculative_mode in DRAFTS else None


DEFAULT = AnswerOptions()


def run(words: list[str]) -> int:
    """Answer the prompts that `words` name, as `verbatim run --help` says; returns the exit code."""
    name = "explain" if words[:1] == ["--explain"] else "run"
    return read_words(name, _run, with_hyphens(words))


def explain(words: list[str]) -> int:
    """The same, with a table for every token."""
    return run(["--explain", *words])


def with_hyphens(words: list[str]) -> list[str]:
    """Words of a command line in which the prompt `-` is no option."""
    return [HYPHEN if word == "-" else word for word in words]


def _run(
    *prompt: Annotated[str, Parameter(help="what to say, or - to read it from standard input; each gets an answer")],
    backend: Backend = "fastpath",
    options: ModelOptions = ModelOptions(),  # noqa: B008
    answer: AnswerOptions = DEFAULT,
) -> None:
    """Answer one prompt or more: as a chat if the model has a chat template, else by continuing the text."""
    if not prompt:
        raise UsageError("give a prompt, or - to read one from standard input")
    answer_prompts(prompt, backend, options, answer)


def answer_prompts(prompts, backend: str, options: ModelOptions, answer: AnswerOptions) -> None:
    """Print the answers to some prompts; `-` or HYPHEN stands for standard input. VerbatimError if that cannot be."""
    if answer.threads:
        os.environ["VERBATIM_THREADS"] = str(answer.threads)
    draft, directory = answer.draft(), options.directory()
    generation = Generation(
        model=directory,
        device=options.device,
        quantization=options.quantization,
        adapter=options.adapter(),
        limits=answer.limits(options.kv_cache_dtype),
        draft_model=None if draft is None else fetch(draft),
        sampling=answer.sampling(sampling_defaults(open_source(directory).generation_defaults())),
        stopping=StoppingParams(max_tokens=answer.max_tokens, strings=answer.stop),
        n=answer.n,
        system=answer.system,
        is_raw=answer.raw,
        is_explained=answer.explain,
    )
    generate(load_backend(backend), ["-" if text == HYPHEN else text for text in prompts], generation)
