"""`python -m benchmarks.cpu`: the fast path, llama.cpp and PyTorch on the CPU: the model alone, with equal threads.

Contenders run alternately, over random weights (models.py). The read bandwidth is measured beside every pair of runs,
since it varies; integer and float peaks are measured once. llama.cpp runs in a separate process, under a Python that
has `llama-cpp-python` and `gguf` (`--peer-python`); without it, only the fast path is measured. PyTorch, where it is
installed, runs a prompt in bfloat16. With `--formats gguf` both read the same GGUF file. Writes results/cpu.json and,
with a peer, cpu.svg.
"""

import argparse
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.cpu_plot import plot
from benchmarks.gguf_model import write_model
from benchmarks.machine import describe_machine, stolen_seconds
from benchmarks.models import SHAPES, config_of, num_bytes, num_weights, random_checkpoint
from verbatim.fastpath import backend
from verbatim.fastpath.machine import dispatch, probe, threads
from verbatim.reference.records.sequence import Chunk

PEER, TORCH = (str(Path(__file__).with_name("cpu_peer.py")),), ("-m", "benchmarks.cpu_torch")
FORMATS = {  # ours, and the peer's of about the same size
    "w8a8": "Q8_0", "w4a8": "Q4_0", "bf16": "BF16", "w16a16": "BF16", "w8a16": "Q8_0", "w4a16": "Q4_0",
    "w8a8-256": "Q8_0", "w4a8-256": "Q4_0",
}  # fmt: skip
MIXTURES = ("Q8_0", "Q4_0", "Q4_K_M")  # what --formats gguf stands for
PROMPT, BATCHES, STEPS = 16, (1, 4, 16), 8
PASS_TOKENS = TORCH_TOKENS = 512  # of a prompt at most; the prompt that PyTorch takes
PROMPTS = ((0, 512), (0, 2016), (2000, 2016))  # tokens that are known, and all


class Ours:
    """The fast path's model over random weights."""

    def __init__(self, shape: str, name: str, file: Path | None = None):
        quantization = None if name == "bf16" else name
        config = config_of(shape)
        self.model = (
            backend.load_model(file) if file
            else backend.PARTS.Model(config, random_checkpoint(config), quantization=quantization)
        )  # fmt: skip
        self.cache = backend.PARTS.PagedCache(config, max(max(BATCHES) * 4, PROMPTS[-1][1] // 16))
        self.held = 0  # tokens of a prompt that the cache has

    def decode(self, batch: int, steps: int) -> float:
        """Seconds for some decode steps of a batch, after short prompts."""
        self._step([self._chunk(i, 0, PROMPT) for i in range(batch)])
        self.held = 0
        start = time.perf_counter()
        for step in range(steps):
            self._step([self._chunk(i, PROMPT + step, 1) for i in range(batch)])
        return time.perf_counter() - start

    def prompt(self, known: int, tokens: int) -> float:
        """Seconds until the first token of a prompt, of which `known` tokens are cached."""
        if self.held < known:
            self._take(0, known)
        start = time.perf_counter()
        self._take(known, tokens)
        self.held = tokens
        return time.perf_counter() - start

    def _take(self, start, stop):
        for at in range(start, stop, PASS_TOKENS):
            end = min(at + PASS_TOKENS, stop)
            self._step([Chunk(token_ids=(5,) * (end - at), start=at, pages=tuple(range(-(-end // 16))), num_logits=1)])

    def _chunk(self, sequence, start, length):
        pages = tuple(range(4 * sequence, 4 * sequence + 4))
        return Chunk(token_ids=(5,) * length, start=start, pages=pages, num_logits=1)

    def _step(self, chunks):
        if not np.isfinite(self.model.forward(chunks, self.cache)).all():
            raise RuntimeError("logits are not finite: these runs would mean nothing")


class Peer:
    """llama.cpp or PyTorch in a separate process."""

    def __init__(self, python: str, script: tuple[str, ...], shape: str, name: str, file: Path | None = None):
        command = [python, *script, json.dumps(SHAPES[shape]), FORMATS.get(name, name), str(threads.count())]
        command += [str(file)] if file else []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        word, _, self.build = self.process.stdout.readline().strip().partition(": ")
        if word != "ready":
            raise RuntimeError(f"this did not start: {' '.join([python, *script])}")

    def _ask(self, *words) -> float:
        print(*words, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def decode(self, batch: int, steps: int) -> float:
        """As ours."""
        return self._ask("decode", batch, steps)

    def prompt(self, known: int, tokens: int) -> float:
        """As ours."""
        return self._ask("prompt", known, tokens)

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def has_peer(python: str) -> bool:
    """Whether that Python has llama.cpp."""
    if shutil.which(python) is None:
        raise SystemExit(f"--peer-python {python!r} is not a program")
    return subprocess.run([python, "-c", "import llama_cpp, gguf"], capture_output=True).returncode == 0


def has_torch() -> bool:
    """Whether this Python has PyTorch and transformers."""
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


def spread(values: list[float]) -> dict:
    """Median, lowest, highest, and all."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values), "rounds": values}


def measure(contenders: dict, work: str, arguments: tuple, tokens: int, runs: int) -> dict:
    """Tokens a second of each contender, after a warm-up run, and the bandwidth just after our run."""
    rates, bandwidths = {who: [] for who in contenders}, []
    for run in range(runs + 1):
        for who, contender in contenders.items():
            rate = tokens / getattr(contender, work)(*arguments)
            if run:
                rates[who].append(rate)
            if run and who == "ours":
                bandwidths.append(probe.read_bandwidth())
    return {who: spread(found) for who, found in rates.items()} | {"read_bandwidth": spread(bandwidths)}


def compare(shape: str, name: str, peer_python: str | None, runs: int) -> list[dict]:
    """All measurements of one shape and format."""
    if name in FORMATS:
        return _compare(shape, name, None, peer_python, runs)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / f"{shape}-{name}.gguf"
        write_model(file, SHAPES[shape], name)
        return _compare(shape, name, file, peer_python, runs)


def _compare(shape: str, name: str, file: Path | None, peer_python: str | None, runs: int) -> list[dict]:
    contenders = {"ours": Ours(shape, name, file)}
    if peer_python:
        contenders["llama.cpp"] = Peer(peer_python, PEER, shape, name, file)
    config = config_of(shape)
    bytes_read = file.stat().st_size if file else num_bytes(config, None if name == "bf16" else name)
    operations = 2 * num_weights(config)
    common, found = {"shape": shape, "format": name}, []
    for batch in BATCHES:
        rates = measure(contenders, "decode", (batch, STEPS), batch * STEPS, runs)
        pairs = zip(rates["ours"]["rounds"], rates["read_bandwidth"]["rounds"], strict=True)
        share = statistics.median(rate / batch * bytes_read / bandwidth for rate, bandwidth in pairs)
        found.append(common | {"work": f"decode, batch {batch}", **rates, "share_of_bandwidth": share})
    for known, tokens in [prompt for prompt in PROMPTS if prompt[1] <= config.context_size]:
        others = (
            {"torch": Peer(sys.executable, TORCH, shape, name)}
            if has_torch() and not file and tokens == TORCH_TOKENS
            else {}
        )
        rates = measure(contenders | others, "prompt", (known, tokens), tokens - known, runs)
        for other in others.values():
            other.close()
        work = f"prompt of {tokens}" + (f", {known} known" if known else "")
        first = {who: (tokens - known) / rates[who]["median"] for who in contenders | others}
        found.append(common | {"work": work, **rates, "seconds_to_first_token": first})
    head = 2 * config.vocab_size * config.hidden_size  # a prompt needs logits of its last row only: left out there
    for row in found:
        each = operations - head if row["work"].startswith("prompt") else operations
        row["operations_a_second"] = row["ours"]["median"] * each
    if peer_python:
        for row in found:
            row["llama.cpp build"] = contenders["llama.cpp"].build
        contenders["llama.cpp"].close()
    return found


def show(console: Console, result: dict) -> None:
    """Print the table."""
    title = f"tokens/s, {result['threads']} thread(s), {result['level']}, medians of {result['runs']} (lowest-highest)"
    columns = "shape", "format", "work", "ours", "llama.cpp", "ratio", "torch bf16", "of bandwidth", "GOP/s"
    table = Table(*columns, title=title)
    for row in result["measurements"]:
        ours, peer = row["ours"], row.get("llama.cpp")
        table.add_row(
            row["shape"], row["format"], row["work"], *(
                "-" if rate is None else f"{rate['median']:.1f} ({rate['lowest']:.1f}-{rate['highest']:.1f})"
                for rate in (ours, peer)
            ),
            f"{ours['median'] / peer['median']:.2f}" if peer else "-",
            f"{row['torch']['median']:.1f}" if "torch" in row else "-",
            f"{row['share_of_bandwidth']:.0%}" if "share_of_bandwidth" in row else "-",
            f"{row['operations_a_second'] / 1e9:.0f}",
        )  # fmt: skip
    console.print(table)
    for build in sorted({row["llama.cpp build"] for row in result["measurements"] if "llama.cpp build" in row}):
        console.print(f"llama.cpp was built with: {build}")  # one without the processor's best units is no peer
    peaks = result["integer_peak"] / 1e9, result["float_peak"] / 1e9, result["read_bandwidth"] / 1e9
    console.print("peaks measured: integers {:.0f} GOP/s, floats {:.0f} GFLOP/s, read {:.1f} GB/s".format(*peaks))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["Qwen2.5-0.5B", "Llama-3.2-1B"])
    parser.add_argument("--formats", nargs="+", choices=[*FORMATS, "gguf"], default=list(FORMATS))
    parser.add_argument("--threads", type=int, default=threads.count())
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "cpu.json")
    arguments, console = parser.parse_args(), Console()
    threads.use(arguments.threads)
    peer = arguments.peer_python if has_peer(arguments.peer_python) else None
    if peer is None:
        console.print(f"llama.cpp is left out: {arguments.peer_python} has no llama-cpp-python with gguf")
    result = {
        "machine": describe_machine("numpy"), "level": dispatch.level(), "threads": threads.count(),
        "runs": arguments.runs, "integer_peak": probe.peak_operations(), "float_peak": probe.peak_operations(True),
        "read_bandwidth": max(probe.read_bandwidth() for _ in range(5)), "measurements": [],
    }  # fmt: skip
    before = stolen_seconds()
    arguments.output.parent.mkdir(exist_ok=True)
    for shape in arguments.shapes:
        for name in [name for given in arguments.formats for name in (MIXTURES if given == "gguf" else (given,))]:
            result["measurements"] += compare(shape, name, peer, arguments.runs)
            result["stolen_seconds"] = stolen_seconds() - before
            arguments.output.write_text(json.dumps(result, indent=1) + "\n")
            console.print(f"{shape} {name} done")
    show(console, result)
    if peer:
        plot(result, arguments.output.with_suffix(".svg"))


if __name__ == "__main__":
    main()
