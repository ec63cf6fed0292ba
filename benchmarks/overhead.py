"""`python -m benchmarks.overhead`: the cost of an engine step without the forward pass, in thread time.

`Engine.step` minus `Model.forward`, in processor time of the calling thread, which other programs hardly change:
scheduling, sampling, stopping, text, records. Every sequence decodes; pages are allocated and, once the prefix cache is
full, evicted as in service. `fixed` is a model that computes nothing and always returns the same logits; with `demo`,
the demo model's forward pass between two steps evicts the processor's caches. In addition: the cost of sampling a token
from a vocabulary of 151,936, since it grows with the vocabulary. Writes results/overhead.json.
"""

import argparse
import json
import statistics
import time
from itertools import count
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from verbatim.demo import MODEL
from verbatim.fastpath import backend
from verbatim.fastpath.machine import dispatch, threads
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.engine.loop import Engine
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams
from verbatim.reference.text.tokenizers import load_tokenizer

BATCHES = (1, 16, 64)
PROMPT, WARM_STEPS, LARGE_VOCABULARY = 24, 4, 151936  # tokens, steps, tokens
DRAWS = {
    "greedy": {"temperature": 0},
    "temperature 1": {"temperature": 1},
    "top_p 0.9": {"temperature": 1, "top_p": 0.9},
    "logprobs": {"temperature": 1, "logprobs": 0},
}
AIMS = {1: 50, 64: 300}  # microseconds


class Fixed:
    """A model that computes nothing: the same logits for every row."""

    def __init__(self, vocab_size: int):
        self._logits = np.random.default_rng(0).normal(0, 4, (max(BATCHES), vocab_size)).astype(np.float32)

    def forward(self, chunks, cache) -> np.ndarray:
        """Logits (wanted rows, vocab)."""
        return self._logits[: sum(chunk.num_logits for chunk in chunks)]


class Timed:
    """A model that measures the thread time of its forward passes."""

    def __init__(self, model):
        self._model, self.seconds = model, 0.0

    def forward(self, chunks, cache):
        """The model's."""
        start = time.thread_time()
        logits = self._model.forward(chunks, cache)
        self.seconds += time.thread_time() - start
        return logits


class Steps:
    """An engine over one of the two models, with timed steps."""

    def __init__(self, name: str):
        config = load_config(MODEL)
        self.model = Timed(backend.load_model(MODEL) if name == "demo" else Fixed(config.vocab_size))
        limits = EngineLimits(max_num_sequence=max(BATCHES))
        self.engine = Engine(backend.PARTS, config, self.model, load_tokenizer(MODEL), limits=limits)
        self._random, self._numbers, self._vocab = np.random.default_rng(1), count(), config.vocab_size

    def time(self, batch: int, draw: str, steps: int) -> float:
        """Microseconds a step without the forward pass: the mean over so many decode steps of a batch."""
        names = [f"request {next(self._numbers)}" for _ in range(batch)]
        stopping = StoppingParams(max_tokens=WARM_STEPS + steps + 8, ignore_eos=True)
        for seed, name in enumerate(names):
            prompt = tuple(self._random.integers(5, self._vocab, PROMPT).tolist())
            sampling = SamplingParams(**DRAWS[draw], seed=seed)
            self.engine.add(Request(request_id=name, prompt_ids=prompt, sampling=sampling, stopping=stopping))
        while sum(bool(output.token_ids) for output in self.engine.step()) < batch:
            pass  # prompts are still being read
        for _ in range(WARM_STEPS):
            self.engine.step()
        self.model.seconds, start = 0.0, time.thread_time()
        for _ in range(steps):
            self.engine.step()
        took = time.thread_time() - start - self.model.seconds
        for name in names:
            self.engine.abort(name)
        return took / steps * 1e6


def time_draw(draw: str, draws: int) -> float:
    """Microseconds to sample a token of a large vocabulary, from logits outside the L1 cache."""
    logits = np.random.default_rng(2).normal(0, 4, (4, LARGE_VOCABULARY)).astype(np.float32)
    sampling, start = SamplingParams(**DRAWS[draw], seed=3), time.thread_time()
    for position in range(draws):
        backend.PARTS.sample(
            logits[position % 4], sampling, prompt_ids=(1,), output_ids=[], position=position, choice=0
        )
    return (time.thread_time() - start) / draws * 1e6


def measure(rounds: int, steps: int) -> list[dict]:
    """Every case once a round."""
    engines = {name: Steps(name) for name in ("fixed", "demo")}
    cases = [(name, batch, draw) for name in engines for batch in BATCHES for draw in DRAWS]
    found = [{"model": name, "batch": batch, "draw": draw, "step_us": []} for name, batch, draw in cases] + [
        {"vocabulary": LARGE_VOCABULARY, "draw": draw, "token_us": []} for draw in DRAWS
    ]
    for name, batch, draw in cases:
        engines[name].time(batch, draw, steps)  # once for nothing: the prefix cache fills
    for _ in range(rounds):
        for row in found:
            if "model" in row:
                row["step_us"].append(engines[row["model"]].time(row["batch"], row["draw"], steps))
            else:
                row["token_us"].append(time_draw(row["draw"], steps))
    return found


def shown(times: list[float]) -> str:
    """The median, and the lowest and highest."""
    digits = 0 if min(times) >= 30 else 1
    return f"{statistics.median(times):.{digits}f} ({min(times):.{digits}f}-{max(times):.{digits}f})"


def show(console: Console, found: list[dict]) -> None:
    """Print the table."""
    title = "microseconds beside the model's pass, by model and batch; medians of the rounds (lowest-highest)"
    table = Table("", *DRAWS, title=title)
    lines: dict[str, list[str]] = {}
    for row in found:
        if "model" in row:
            aim = f", aim {AIMS[row['batch']]}" if row["batch"] in AIMS else ""
            name = f"{row['model']}, {row['batch']}{aim}"
        else:
            name = f"a token of {row['vocabulary']:,}"
        lines.setdefault(name, []).append(shown(row.get("step_us") or row["token_us"]))
    for name, cells in lines.items():
        table.add_row(name, *cells)
    console.print(table)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="every case once in each, in turn (default: 9)")
    parser.add_argument("--steps", type=int, default=64, help="of every case in a round (default: 64)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "overhead.json")
    options, console = parser.parse_args(), Console()
    threads.use(1)  # all that the pass touches goes through the caches of the thread that is measured
    result = {
        "machine": describe_machine("numpy"), "level": dispatch.level(), "rounds": options.rounds,
        "steps": options.steps, "prompt": PROMPT, "aims_us": AIMS,
    }  # fmt: skip
    result["measurements"] = measure(options.rounds, options.steps)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    show(console, result["measurements"])


if __name__ == "__main__":
    main()
