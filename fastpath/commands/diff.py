"""`verbatim diff --model DIR --prompt TEXT`: the first bit in which the fast path and the reference differ.

Both engines answer the same requests step by step and show every intermediate result on the way (`Model.watch`), every
sampled token (`Engine.observe`) and what they emit. The first difference in the order of computing is named: request,
token, layer, operation, element. This is the one file of fastpath/ that imports both engines.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import starmap, zip_longest
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.commands.logits import check_ids
from verbatim.reference.engine.loop import Engine, Observation
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Output, Request, SamplingParams, StoppingParams, require_integer
from verbatim.reference.records.sequence import Sequence
from verbatim.reference.text.tokenizer import Tokenizer, load_tokenizer

TOKENS_A_STEP = 64  # all that a step computes is kept until both engines have made it
ALTERNATIVES = 5


@dataclass(frozen=True, slots=True)
class Place:
    """A token of a request; what is computed from it is a row."""

    request: int
    position: int
    token_id: int


@dataclass(frozen=True, slots=True)
class Event:
    """One result on the way: an array (rows, elements), and the place of each row."""

    layer: int | None
    operation: str
    rows: np.ndarray
    places: list[Place]


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


class Recorder:
    """Steps an engine, and keeps what the step shows as events, in order."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self.events: list[Event] = []
        self._num_seen: Counter[tuple] = Counter()
        engine.model.watch, engine.observe = self._see, self._sampled

    def step(self) -> list[Event]:
        """All events of the next step."""
        self.events, self._num_seen = [], Counter()
        outputs = self.engine.step()
        work = self.engine.work
        plans = ((one, chunk, _row(chunk.start, len(chunk.token_ids), chunk.num_logits)) for one, chunk in work)
        planned = [Event(None, "schedule", row, [_place(one, chunk.start)]) for one, chunk, row in plans]
        return planned + self.events + [event for output in outputs for event in self._emitted(output)]

    def _see(self, layer: int | None, operation: str, rows: np.ndarray) -> None:
        count = self._num_seen[layer, operation]
        self._num_seen[layer, operation] += 1
        self.events.append(Event(layer, operation, rows.copy(), self._places(operation, count)))

    def _places(self, operation: str, count: int) -> list[Place]:
        """Which tokens the rows belong to; cached keys and values are shown one sequence after the other."""
        work = self.engine.work
        if operation.startswith("cached"):
            sequence, chunk = work[count]
            return [_place(sequence, position) for position in range(chunk.start + len(chunk.token_ids))]
        places = []
        for sequence, chunk in work:
            stop = chunk.start + len(chunk.token_ids)
            start = stop - chunk.num_logits if operation in ("norm", "logits") else chunk.start
            places.extend(_place(sequence, position) for position in range(start, stop))
        return places

    def _sampled(self, seen: Observation) -> None:
        place, sampled = [_place(seen.sequence, len(seen.sequence) - 1)], seen.sampled
        ids, logprobs = zip(*sampled.top, strict=True)
        self.events += [
            Event(None, "sampled token", _row(sampled.token_id), place),
            Event(None, "log-probability", np.array([[sampled.logprob]], np.float32), place),
            Event(None, "likeliest tokens", _row(*ids), place),
            Event(None, "their log-probabilities", np.array([logprobs], np.float32), place),
        ]

    def _emitted(self, output: Output):
        place = [Place(int(output.request_id), output.num_prompt_tokens + output.num_completion_tokens - 1,
                       output.token_ids[-1] if output.token_ids else -1)]  # fmt: skip
        for name in ("text", "finish_reason", "error"):
            yield Event(None, name, _row(getattr(output, name)), place)


def _row(*values) -> np.ndarray:
    """A row of what is no float, compared by ==."""
    row = np.empty((1, len(values)), object)
    row[0] = values
    return row


def _place(sequence: Sequence, position: int) -> Place:
    (token_id,) = sequence.tokens(position, position + 1)
    return Place(int(sequence.request.request_id), position, token_id)


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
        num_tokens = sum(len(chunk.token_ids) for _, chunk in reference.work)
        result.num_tokens += num_tokens
        progress(num_tokens)
    return result


def _differ(expected: Event | None, found: Event | None) -> Difference | None:
    """The first element of two events that differs, or the whole if they are not of one kind."""
    kinds = tuple(one and (one.layer, one.operation, one.rows.shape, one.places) for one in (expected, found))
    one = expected or found
    if kinds[0] != kinds[1]:
        values = tuple(kind and f"{kind[1]} {kind[2]} of layer {kind[0]}, {kind[3][0]}" for kind in kinds)
        return Difference(one.places[0], one.layer, one.operation, 0, tuple(value or "nothing" for value in values))
    bits = [event.rows.view(np.uint32) if event.rows.dtype == np.float32 else event.rows for event in (expected, found)]
    places = np.argwhere(bits[0] != bits[1])
    if not len(places):
        return None
    row, element = map(int, places[0])
    values = tuple(_value(event.rows[row, element]) for event in (expected, found))
    return Difference(one.places[row], one.layer, one.operation, element, values)


def _value(value) -> str:
    """A float with its bits, anything else as it is."""
    return f"{value!s} (0x{value.view(np.uint32):08x})" if isinstance(value, np.float32) else repr(value)


def load(backend, directory, *, quantization: str | None, tokenizer: Tokenizer, num_requests: int, **limits) -> Engine:
    """An engine for the comparison: so many requests side by side, few tokens a step."""
    model = backend.load_model(directory, quantization=quantization)
    at_once = min(num_requests, TOKENS_A_STEP)
    limits |= {"max_num_sequences": at_once, "token_budget": TOKENS_A_STEP, "max_queue": num_requests}
    return Engine(backend.PARTS, load_config(directory), model, tokenizer, limits=EngineLimits(**limits))


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
) -> bool:
    """Compare the engines on requests given as token ids or as texts, print the result, and return whether they differ.

    The engines are imported here, as one may not be built.
    """
    from verbatim.fastpath import backend
    from verbatim.reference import backend as reference_backend

    require_integer("max_tokens", max_tokens, 1)
    tokenizer = load_tokenizer(directory) if prompts else Wordless()
    all_ids = ids or [tokenizer.encode_prompt(prompt) for prompt in prompts]
    for prompt_ids in all_ids:
        check_ids(prompt_ids, load_config(directory).vocab_size)
    sampling = SamplingParams(temperature=temperature, seed=seed, logprobs=ALTERNATIVES)
    stopping = StoppingParams(max_tokens=max_tokens, ignore_eos=True)
    requests = [
        Request(request_id=str(number), prompt_ids=tuple(prompt_ids), sampling=sampling, stopping=stopping)
        for number, prompt_ids in enumerate(all_ids)
    ]
    settings = {"quantization": quantization, "tokenizer": tokenizer, "num_requests": len(requests)}
    settings["kv_cache_dtype"] = kv_cache_dtype
    engines = [load(one, directory, **settings) for one in (reference_backend, backend)]
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
