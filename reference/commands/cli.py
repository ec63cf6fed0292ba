"""The command line of both CPU engines: stream an answer to the terminal, or write logits to a file."""

import argparse
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape

from verbatim.demo import DRAFTS, MODEL
from verbatim.reference.commands.explain import Explainer
from verbatim.reference.numerics.quantization import FORMATS
from verbatim.reference.records.errors import VerbatimError
from verbatim.reference.records.limits import KV_CACHE_DTYPES, SPECULATIVE_MODES, EngineLimits
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams
from verbatim.reference.records.sequence import Chunk
from verbatim.reference.text.template import load_template


def run(main, arguments: list[str] | None = None) -> int:
    """Call `main`; one of our own errors becomes one line on stderr and exit status 1."""
    try:
        main(arguments)
    except VerbatimError as error:
        Console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def generate(backend, arguments: list[str] | None = None) -> None:
    """`python -m reference "prompt"`: chat with a model that has a chat template, else continue the text."""
    options = _generate_parser(backend.PARTS.name).parse_args(arguments)
    mode = options.speculative_mode
    console = Console(highlight=False)
    engine = backend.load_engine(
        options.model,
        device=options.device,
        quantization=options.quantization,
        limits=EngineLimits(
            max_num_sequences=max(1, options.n),
            speculative_mode=mode,
            draft_length=options.draft_length,
            tree_width=options.tree_width,
            kv_cache_dtype=options.kv_cache_dtype,
        ),
        draft_directory=(options.draft_model or DRAFTS[mode]) if mode in DRAFTS else None,
    )
    if options.explain:
        engine.observe = Explainer(engine, console)
    template = None if options.raw else load_template(options.model, engine.tokenizer)
    for prompt in options.prompt:
        _answer(console, options, engine, template, sys.stdin.read() if prompt == "-" else prompt)


def _answer(console: Console, options, engine, template, prompt: str) -> None:
    """One prompt's answers, one token after the other; what was computed for earlier prompts is known."""
    engine.add(_request(options, engine, template, prompt))
    texts = ["" if template else prompt] * options.n
    is_streaming = options.n == 1 and not options.explain
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


def logits(backend, arguments: list[str] | None = None) -> None:
    """`python -m reference.logits`: logits of token ids, float32 (tokens, vocab), array `logits` of an npz."""
    options = _logits_parser(backend.PARTS.name).parse_args(arguments)
    model = backend.load_model(options.model, device=options.device, quantization=options.quantization)
    config, ids = model.config, options.ids
    check_ids(ids, config.vocab_size)
    if len(ids) > config.context_size:
        raise VerbatimError(f"--ids: {len(ids)} tokens do not fit the context of {config.context_size}")
    parts = backend.parts_for(model)
    num_pages = -(-len(ids) // parts.page_size)
    cache = parts.PagedCache(config, num_pages, options.kv_cache_dtype)
    pages = tuple(cache.allocate() for _ in range(num_pages))
    chunk = Chunk(token_ids=tuple(ids), start=0, pages=pages, num_logits=len(ids))
    with options.out.open("wb") as file:
        np.savez(file, logits=np.asarray(model.forward([chunk], cache)))


def check_ids(ids: list[int], vocab_size: int) -> None:
    """Refuse token ids that the model does not have."""
    wrong = [token_id for token_id in ids if not 0 <= token_id < vocab_size]
    if wrong:
        raise VerbatimError(f"--ids: token id {wrong[0]} is not below the vocabulary's size, {vocab_size}")


def _write(console: Console, text: str) -> None:
    """Text as it is: no markup, no wrapping, no newline of its own."""
    console.file.write(text)
    console.file.flush()


def _request(options, engine, template, prompt: str) -> Request:
    if template:
        system = [{"role": "system", "content": options.system}] if options.system else []
        pieces = template.render([*system, {"role": "user", "content": prompt}])
        prompt_ids = engine.tokenizer.encode_pieces(pieces)
    else:
        prompt_ids = engine.tokenizer.encode_prompt(prompt)
    seed = {} if options.seed is None else {"seed": options.seed}
    return Request(
        request_id="terminal",
        prompt_ids=tuple(prompt_ids),
        sampling=SamplingParams(
            temperature=0 if options.greedy else options.temperature,
            top_p=options.top_p,
            top_k=options.top_k,
            min_p=options.min_p,
            **seed,
        ),
        stopping=StoppingParams(max_tokens=options.max_tokens, strings=tuple(options.stop)),
        n=options.n,
    )


def model_options(parser: argparse.ArgumentParser) -> None:
    """Which model to load, where to, and how its keys and values are kept."""
    parser.add_argument("--model", default=MODEL, metavar="DIR", help="model directory (default: the demo model)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda[:i] (default: auto)")
    stored = {"choices": tuple(KV_CACHE_DTYPES), "default": "float32"}
    parser.add_argument("--kv-cache-dtype", **stored, help="what keys and values are rounded to and kept as")


def quantization_option(parser: argparse.ArgumentParser) -> None:
    """The format to compute in."""
    formats = " or ".join(FORMATS)
    parser.add_argument("--quantization", metavar="FORMAT", help=f"quantise the weights while loading: {formats}")


def _generate_parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=f"Stream an answer from the {name} engine.")
    said = "what to say, or - to read it from standard input; several are answered one after the other"
    parser.add_argument("prompt", nargs="+", help=said)
    model_options(parser)
    quantization_option(parser)
    parser.add_argument("--raw", action="store_true", help="continue the prompt as it is, without the chat template")
    parser.add_argument("--system", help="a system message to begin with")
    parser.add_argument("--greedy", action="store_true", help="the likeliest token always (temperature 0)")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--min-p", type=float, default=0.0)
    parser.add_argument("--seed", type=int, help="the same seed gives the same answer (default: a random one)")
    parser.add_argument("--max-tokens", type=int, help="default: until the context is full")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text; repeatable")
    modes = {"choices": SPECULATIVE_MODES, "default": "disable"}
    parser.add_argument("--speculative-mode", **modes, help="guess ahead; changes the speed and never the answer")
    parser.add_argument("--draft-model", metavar="DIR", help="for small_draft, medusa and eagle (default: the demo's)")
    parser.add_argument("--draft-length", type=int, default=0, help="tokens to guess, 0 for what suits (default)")
    parser.add_argument("--tree-width", type=int, default=1, help="first guesses that small_draft goes on from")
    parser.add_argument("--n", type=int, default=1, help="how many answers (default: 1)")
    parser.add_argument("--explain", action="store_true", help="show for every token how it was chosen")
    return parser


def _logits_parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}.logits", description="Write logits of token ids to a file."
    )
    model_options(parser)
    quantization_option(parser)
    parser.add_argument(
        "--ids", type=token_id_list, required=True, metavar="1,2,3", help="token ids, separated by commas"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz")
    return parser


def token_id_list(text: str) -> list[int]:
    """Argparse's reading of `1,2,3`."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"token ids must be integers separated by commas, not {text!r}") from None
