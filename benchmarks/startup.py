"""`python -m benchmarks.startup`: the fast path's time to its first token, and its memory, start after start.

A random checkpoint of a well-known shape is written to a temporary directory. The first start packs it into a model
library; later starts map the library. Each start is a process, timed from before the interpreter starts until the first
token of a short prompt; a process that only imports the engine is measured for comparison. Writes results/startup.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.checkpoint import write_checkpoint
from benchmarks.machine import describe_machine
from benchmarks.models import SHAPES, config_of, num_bytes

FORMATS = {"bf16": None, "w8a8": "w8a8", "w4a8": "w4a8"}
PROMPT, CACHE_TOKENS = 16, 1024
CHILD = f"""
import json, sys
from verbatim.fastpath.backend import load_engine
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams
directory, quantization, lib = json.loads(sys.argv[1])
if directory:
    engine = load_engine(directory, device="cpu", quantization=quantization, model_lib=lib,
                         limits=EngineLimits(max_total_seq_length={CACHE_TOKENS}))
    engine.add(Request(request_id="a", prompt_ids=(300,) * {PROMPT}, sampling=SamplingParams(temperature=0),
                       stopping=StoppingParams(max_tokens=1)))
    while engine.has_work():
        engine.step()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def start(*arguments) -> dict:
    """Seconds to the first token, and the most memory that the process held, in bytes."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", CHILD, json.dumps(arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return {"seconds": time.monotonic() - began, "peak_bytes": int(done.stdout) << 10}


def measure(shape: str, names: list[str], runs: int, console: Console) -> list[dict]:
    """Every format's first start, and the starts after it."""
    config, found = config_of(shape), []
    cache_bytes = CACHE_TOKENS * config.num_layers * config.num_kv_heads * 2 * config.head_dim * 4
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place) / "model"
        directory.mkdir()
        write_checkpoint(directory, shape)
        for name in names:
            lib = Path(place) / f"{name}.packed"
            first = start(str(directory), FORMATS[name], str(lib))
            others = [(start(None, None, None), start(str(directory), FORMATS[name], str(lib))) for _ in range(runs)]
            bare = statistics.median(imports["peak_bytes"] for imports, _ in others)
            peaks = {"first": first["peak_bytes"], "later": max(later["peak_bytes"] for _, later in others)}
            needed = lib.stat().st_size + cache_bytes
            found.append({
                "shape": shape, "format": name, "packed_bytes": lib.stat().st_size, "cache_bytes": cache_bytes,
                "step_bytes": num_bytes(config, FORMATS[name]), "first": first, "later": [later for _, later in others],
                "only_imports": [imports for imports, _ in others],
                "peak_share": {when: (peak - bare) / needed for when, peak in peaks.items()},
            })  # fmt: skip
            lib.unlink()
            console.print(f"{shape} {name} done")
    return found


def show(console: Console, result: dict) -> None:
    """Print the table."""
    title = f"to the first token; medians of {result['runs']} (lowest-highest); peaks as shares of weights and cache"
    columns = ("shape", "format", "packed", "first start", "later starts", "imports alone", "first peak", "later peak")
    table = Table(*columns, title=title)
    for row in result["measurements"]:
        spans = []
        for which in ("later", "only_imports"):
            seconds = [run["seconds"] for run in row[which]]
            spans.append(f"{statistics.median(seconds):.2f} s ({min(seconds):.2f}-{max(seconds):.2f})")
        size, first = f"{row['packed_bytes'] / 1e9:.2f} GB", f"{row['first']['seconds']:.1f} s"
        peaks = [f"{share:.0%}" for share in row["peak_share"].values()]
        table.add_row(row["shape"], row["format"], size, first, *spans, *peaks)
    console.print(table)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="Llama-3.2-1B")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "startup.json")
    options, console = parser.parse_args(), Console()
    result = {"machine": describe_machine("numpy"), "runs": options.runs}
    result["measurements"] = measure(options.shape, options.formats, options.runs, console)
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    show(console, result)


if __name__ == "__main__":
    main()
