"""`verbatim diff --model DIR --prompt TEXT`: the first bit in which the fast path and the reference differ.

Both engines answer the same requests step by step and show every intermediate result on the way (`Model.watch`), every
sampled token (`Engine.subscribe`) and what they emit. The first difference in the order of computing is named: request,
token, layer, operation, element. This is the one file of fastpath/ that imports both engines.
"""

from dataclasses import dataclass
from itertools import starmap, zip_longest
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from verbatim.fastpath.commands.recorder import Event, Place, Recorder
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.commands.logits import check_ids
from verbatim.reference.engine.loop import Engine
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams, require_integer
from verbatim.reference.text.tokenizer import Tokenizer

TOKENS_A_STEP = 64  # all that a step computes is kept until both engines have made it
ALTERNATIVES = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """The first element that is not the same, and what it is in the reference and in the fast path."""

    place: Place
    layer: int | None
    operation: str
    element: int
    values: tuple[str, str]


@dataclass(slots=True)
class Comparison:
    """How much was compared, and the first difference or None."""

    difference: Difference | None = None
    num_steps: int = 0
    num_tokens: int = 0
    num_values: int = 0


class Wordless(Tokenizer):
    """Stands in where requests are token ids: no token has a text."""

    control_ids: dict[str, int] = {}  # noqa: RUF012

    def encode(self, text: str, *, is_first: bool = True) -> list[int]:
        """There are no words."""
        return []

    def token_bytes(self, token_id: int) -> bytes:
        """None."""
        return b""


def compare(reference: Engine, fast: Engine, requests: list[Request], progress=lambda num_tokens: None) -> Comparison:
    """Let both answer the requests, which are called "0", "1", ..., until they differ or are done."""
    for request in requests:
        reference.add(request)
        fast.add(request)
    recorders, result = (Recorder(reference), Recorder(fast)), Comparison()
    while result.difference is None and (reference.has_work() or fast.has_work()):
        expected, found = (recorder.step() for recorder in recorders)
        result.difference = next(filter(None, starmap(_differ, zip_longest(expected, found))), None)
        result.num_steps += 1
        result.num_values += sum(event.rows.size for event in expected)
        num_tokens = sum(len(chunk.token_ids) for _, chunk in recorders[0].work)
        result.num_tokens += num_tokens
        progress(num_tokens)
    return result


def _differ(expected: Event | None, found: Event | None) -> Difference | None:
    """The first element of two events that differs, or the whole if their operations or shapes differ."""
    events, event = (expected, found), expected or found
    headers = tuple(event and (event.layer, event.operation, event.rows.shape, event.places) for event in events)
    if headers[0] != headers[1]:
        values = tuple(header and f"{header[1]} {header[2]} of layer {header[0]}, {header[3][0]}" for header in headers)
        return Difference(
            event.places[0], event.layer, event.operation, 0, tuple(value or "nothing" for value in values)
        )
    bits = [event.rows.view(np.uint32) if event.rows.dtype == np.float32 else event.rows for event in events]
    places = np.argwhere(bits[0] != bits[1])
    if not len(places):
        return None
    row, element = map(int, places[0])
    values = tuple(_value(event.rows[row, element]) for event in events)
    return Difference(event.places[row], event.layer, event.operation, element, values)


def _value(value) -> str:
    """A float with its bits, anything else as it is."""
    return f"{value!s} (0x{value.view(np.uint32):08x})" if isinstance(value, np.float32) else repr(value)


def load(backend, directory, *, quantization: str | None, tokenizer: Tokenizer, num_requests: int, **limits) -> Engine:
    """An engine for the comparison: so many requests side by side, few tokens a step."""
    model = backend.load_model(directory, quantization=quantization)
    at_once = min(num_requests, TOKENS_A_STEP)
    limits |= {"max_num_sequence": at_once, "prefill_chunk_size": TOKENS_A_STEP, "max_queue": num_requests}
    return Engine(backend.PARTS, open_source(directory).config(), model, tokenizer, limits=EngineLimits(**limits))


def find_difference(
    directory: Path,
    *,
    ids: list[list[int]],
    prompts: list[str],
    quantization: str | None,
    kv_cache_dtype: str,
    max_tokens: int,
    temperature: float,
    seed: int,
    adapter: Path | None = None,
) -> bool:
    """Compare the engines on requests given as token ids or as texts, print the result, and return whether they differ.

    The engines are imported here, as one may not be built.
    """
    from verbatim.fastpath import backend
    from verbatim.reference import backend as reference_backend

    require_integer("max_tokens", max_tokens, 1)
    tokenizer = open_source(directory).tokenizer() if prompts else Wordless()
    all_ids = ids or [tokenizer.encode_prompt(prompt) for prompt in prompts]
    for prompt_ids in all_ids:
        check_ids(prompt_ids, open_source(directory).config().vocab_size)
    sampling = SamplingParams(temperature=temperature, seed=seed, logprobs=ALTERNATIVES)
    stopping = StoppingParams(max_tokens=max_tokens, ignore_eos=True)
    settings = {"quantization": quantization, "tokenizer": tokenizer, "num_requests": len(all_ids)}
    settings["kv_cache_dtype"] = kv_cache_dtype
    engines = [load(package, directory, **settings) for package in (reference_backend, backend)]
    keys = [engine.adapters.load(adapter).key for engine in engines if adapter]
    requests = [
        Request(
            request_id=str(number), prompt_ids=tuple(prompt_ids), sampling=sampling, stopping=stopping,
            adapter="".join(keys[:1]),
        )
        for number, prompt_ids in enumerate(all_ids)
    ]  # fmt: skip
    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("tokens", total=sum(map(len, all_ids)) + len(all_ids) * (max_tokens - 1))
        result = compare(*engines, requests, lambda num_tokens: bars.advance(bar, num_tokens))
    _report(Console(highlight=False, soft_wrap=True), result, tokenizer)
    return result.difference is not None


def _report(console: Console, result: Comparison, tokenizer: Tokenizer) -> None:
    much = f"{result.num_values:,} values of {result.num_tokens:,} tokens in {result.num_steps:,} steps"
    first = result.difference
    if first is None:
        console.print(f"[green]nothing differs:[/green] {much} are the same to the last bit")
        return
    console.print(f"[red]the first difference[/red], after {much}:")
    place, word = first.place, tokenizer.decode([first.place.token_id])
    layer = "none" if first.layer is None else first.layer
    where = {"request": place.request, "token": f"position {place.position}, id {place.token_id} {word!r}"}
    where |= {"layer": layer, "operation": first.operation, "element": first.element}
    for name, text in (where | {"reference": first.values[0], "fastpath": first.values[1]}).items():
        console.print(f"  {name:<10} {escape(str(text))}")
