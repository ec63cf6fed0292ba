"""`python -m benchmarks.serving`: the share of the engine's speed that remains behind HTTP, streams and a client.

A random checkpoint of a well-known shape is served by `verbatim serve --backend fastpath`; a client on the same
machine reads several streams at once. The engine alone does the same work in a separate process; both run alternately.
Writes results/serving.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.checkpoint import write_checkpoint
from benchmarks.http.client import load, request
from benchmarks.http.servers import started
from benchmarks.machine import describe_machine
from benchmarks.models import SHAPES

GOAL = 0.9
PORTION = 4  # the run before those that count is so much shorter
ALONE = """
import json, sys, time
from verbatim.fastpath.backend import load_engine
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams
directory, quantization, lib, count, prompt = json.loads(sys.argv[1])
engine = load_engine(directory, device="cpu", quantization=quantization, model_lib=lib, limits=EngineLimits())
for line in sys.stdin:
    for i in range(count):
        engine.add(Request(request_id=str(i), prompt_ids=tuple(prompt), sampling=SamplingParams(seed=i),
                           stopping=StoppingParams(max_tokens=int(line), ignore_eos=True)))
    began, tokens = time.perf_counter(), 0
    while engine.has_work():
        tokens += sum(len(output.token_ids) for output in engine.step())
    print(tokens / (time.perf_counter() - began), flush=True)
"""


class Alone:
    """The engine in a separate process, without server and client."""

    def __init__(self, *arguments):
        command = [sys.executable, "-c", ALONE, json.dumps(arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def rate(self, tokens: int) -> float:
        """Tokens a second of all requests together, so many each."""
        print(tokens, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def measure(settings: argparse.Namespace, console: Console) -> list[dict]:
    """Tokens a second of both, run by run."""
    rows, cores = [], os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        directory, lib = Path(place) / "verbatim-demo", Path(place) / "packed"
        directory.mkdir()
        write_checkpoint(directory, settings.shape)
        options = ["--model-lib", str(lib)] + (["--quantization", settings.format] if settings.format != "bf16" else [])
        command = ("-m", "server", "--backend", "fastpath", "--mode", "server", "--model", str(directory), *options)
        with started("verbatim", cores, cores, command) as server:
            body = json.loads(request(1).partition(b"\r\n\r\n")[2]) | {"stream": False}
            prompt = count_prompt(server, body)
            quantization = None if settings.format == "bf16" else settings.format
            alone = Alone(str(directory), quantization, str(lib), settings.streams, [300] * prompt)
            for run in range(settings.runs + 1):
                tokens = settings.tokens if run else settings.tokens // PORTION
                found = load(server.port, settings.streams, tokens)
                total = settings.streams * tokens
                row = {"served": total / found.seconds, "alone": alone.rate(tokens), "events": found.num_events / total}
                console.print(f"served {row['served']:.0f}, alone {row['alone']:.0f} tokens/s, "
                              f"{row['events']:.2f} events a token")  # fmt: skip
                rows += [row] if run else []
            alone.process.stdin.close()
    return rows


def count_prompt(server, body: dict) -> int:
    """The number of tokens of the client's prompt."""
    status, answer = server.ask("POST", "/v1/chat/completions", json.dumps(body).encode())
    if status != 200:
        raise RuntimeError(f"{status}: {answer!r}")
    return json.loads(answer)["usage"]["prompt_tokens"]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="Qwen2.5-0.5B")
    parser.add_argument("--format", choices=["w8a8", "w4a8", "bf16"], default="w8a8")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=120, help="of a stream (default: 120)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "serving.json")
    settings, console = parser.parse_args(), Console()
    rows = measure(settings, console)
    ratio = statistics.median(row["served"] / row["alone"] for row in rows)
    verdict = "met" if ratio >= GOAL else "NOT met"
    console.print(f"{settings.shape} {settings.format}, {settings.streams} streams: {ratio:.0%} of the engine alone "
                  f"(goal {GOAL:.0%}, {verdict})")  # fmt: skip
    kept = {name: value for name, value in vars(settings).items() if name != "output"}
    result = {"machine": describe_machine("sanic", "numpy"), "settings": kept, "ratio": ratio, "runs": rows}
    settings.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
