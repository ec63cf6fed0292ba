"""Answers in the terminal: one prompt after the other, token by token as they come.

What was computed for earlier prompts is known to the prefix cache. Options and help are `verbatim run`'s.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.commands.explain import Explainer
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What to load, and how to answer: `n` answers to each prompt, `is_raw` without the chat template."""

    model: Path
    device: str
    quantization: str | None
    adapter: Path | None
    limits: EngineLimits
    draft_model: Path | None
    sampling: SamplingParams
    stopping: StoppingParams
    n: int
    system: str | None
    is_raw: bool
    is_explained: bool


def generate(backend, prompts: Sequence[str], wanted: Generation) -> None:
    """Print the answers of a backend's engine; `-` among the prompts stands for standard input.

    A model that has a chat template is chatted with, any other continues the text. VerbatimError if that cannot be.
    """
    console = Console(highlight=False)
    engine = backend.load_engine(
        wanted.model,
        device=wanted.device,
        quantization=wanted.quantization,
        limits=wanted.limits,
        draft_directory=wanted.draft_model,
    )
    key = engine.adapters.load(wanted.adapter).key if wanted.adapter else ""
    if wanted.is_explained:
        engine.subscribe(Explainer(engine, console))
    template = None if wanted.is_raw else open_source(wanted.model).chat_template(engine.tokenizer)
    for prompt in prompts:
        _answer(console, wanted, engine, key, template, sys.stdin.read() if prompt == "-" else prompt)


def _answer(console: Console, wanted: Generation, engine, key: str, template, prompt: str) -> None:
    """Print one prompt's answers, by the adapter with this key."""
    engine.add(replace(_request(wanted, engine, template, prompt), adapter=key))
    texts = ["" if template else prompt] * wanted.n
    is_streaming = wanted.n == 1 and not wanted.is_explained
    if is_streaming:
        _write(console, texts[0])
    while engine.has_work():
        for output in engine.step():
            texts[output.choice] += output.text
            if is_streaming:
                _write(console, output.text)
    if is_streaming:
        _write(console, "\n")
        return
    for choice, text in enumerate(texts):
        console.rule(f"choice {choice}", align="left")
        _write(console, text + "\n")


def _write(console: Console, text: str) -> None:
    """Write text as it is: no markup, no wrapping, no newline."""
    console.file.write(text)
    console.file.flush()


def _request(wanted: Generation, engine, template, prompt: str) -> Request:
    if template:
        system = [{"role": "system", "content": wanted.system}] if wanted.system else []
        pieces = template.render([*system, {"role": "user", "content": prompt}])
        prompt_ids = engine.tokenizer.encode_pieces(pieces)
    else:
        prompt_ids = engine.tokenizer.encode_prompt(prompt)
    return Request(
        request_id="terminal",
        prompt_ids=tuple(prompt_ids),
        sampling=wanted.sampling,
        stopping=wanted.stopping,
        n=wanted.n,
    )
