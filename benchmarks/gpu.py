"""`python -m benchmarks.gpu`: equality on this machine's GPU, then its speed; writes results/ as JSON.

It first lists what is missing. It needs no network. It skips a part for which too little time is left, and keeps the
earlier results. `--rehearse` runs the same parts with a toy model, on the fake driver.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks import gpu_peer
from benchmarks.gpu_measure import bandwidth, decode, exactness, prefill, products
from benchmarks.models import config_of, random_checkpoint
from verbatim.fastpath import backend as fastpath_backend
from verbatim.fastpath.gpu import weights as fastpath_gpu_weights
from verbatim.fastpath.gpu.backend import make_parts
from verbatim.fastpath.gpu.building import find_compiler
from verbatim.fastpath.gpu.device import Device, import_pycuda
from verbatim.fastpath.gpu.packing import pack
from verbatim.reference.records.errors import VerbatimError
from verbatim.reference.records.sequence import Chunk

ROOT = Path(__file__).parents[1]
FORMATS = (None, "w8a8", "w4a8")
KERNEL_TESTS = ("test_kernels.py", "test_block_kernels.py", "test_sampling_kernels.py")
ON_A_DEVICE = ("models_on_a_device.py", "formats_on_a_device.py", "published_on_a_device.py", "engines_on_a_device.py")
FULL = {
    "shapes": ("Llama-3.2-1B", "Llama-3.1-8B"), "batches": (1, 8, 64), "steps": 64, "context": 128, "prompt": 2048,
    "copy": 2 << 30, "first_tokens": 4,
}  # fmt: skip
REHEARSAL = {
    "shapes": ("rehearsal",), "batches": (1, 3), "steps": 3, "context": 70, "prompt": 100, "copy": 1 << 16,
    "first_tokens": 4,
}  # fmt: skip


class Report:
    """The results so far, written after every part."""

    def __init__(self, path: Path, seconds: float):
        self.path, self._end, self.content = path, time.monotonic() + seconds, {"parts": {}, "skipped": {}}

    def part(self, name: str, measure, *, needs: float = 0) -> None:
        """Measure a part, unless less than `needs` seconds are left; an error is recorded and stops no other part."""
        left = self._end - time.monotonic()
        if left < needs:
            self.content["skipped"][name] = f"{left:.0f} seconds are left, it needs about {needs:.0f}"
            print(f"{name}: skipped, {self.content['skipped'][name]}", flush=True)
            return
        start = time.monotonic()
        try:
            result = measure()
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        self.content["parts"][name] = result
        print(f"{name} ({time.monotonic() - start:.1f} s): {json.dumps(result)}", flush=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.content, indent=1) + "\n")


def missing() -> list[str]:
    """What this machine lacks for a full run."""
    lacks = []
    for check in (import_pycuda, find_compiler):
        try:
            check()
        except VerbatimError as error:
            lacks.append(str(error))
    reason = gpu_peer.missing()
    return lacks + ([f"no comparison with transformers: {reason}"] if reason else [])


def tests_on_device(*files: str) -> dict:
    """The project's own tests with their kernels on this device."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/gpu/{name}" for name in files)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"GPU_TESTS": "device", "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    last = (done.stdout.strip().splitlines() or [done.stderr[-500:]])[-1]
    return {"is_equal": done.returncode == 0, "summary": last, "failed": lines[:20]}


def first_tokens(device, shape: str, count: int) -> dict:
    """Compare greedy tokens and their logits on the device and on the CPU fast path, bit by bit."""
    config = config_of(shape)
    checkpoint, found = random_checkpoint(config), []
    prompt = tuple(int(i) for i in np.random.default_rng(3).integers(0, config.vocab_size, 20))
    for parts in (make_parts(device), fastpath_backend.PARTS):
        model, cache, ids, rows = parts.Model(config, checkpoint), parts.PagedCache(config, 2), list(prompt), []
        while len(ids) < len(prompt) + count:
            start = 0 if len(ids) == len(prompt) else len(ids) - 1
            chunk = Chunk(token_ids=tuple(ids[start:]), start=start, pages=(0, 1))
            rows.append(np.array(model.forward([chunk], cache))[0])
            ids.append(int(rows[-1].argmax()))
        found.append((ids, np.array(rows).tobytes()))
    return {"shape": shape, "tokens": found[0][0][len(prompt) :], "is_equal": found[0] == found[1]}


@contextmanager
def packing_once():
    """Pack equal matrices once for all layers."""
    packed = {}

    def remembering(matrices, quantization=None):
        key = (*map(id, matrices), quantization)
        if key not in packed:
            packed[key] = pack(matrices, quantization)
        return packed[key]

    with patch.object(fastpath_gpu_weights, "pack", remembering):
        yield


def speed(device, shape: str, quantization: str | None, sizes: dict, peak: float) -> dict:
    """Decoding at each batch, a long prompt, and one step kernel by kernel."""
    config = config_of(shape)
    with packing_once():
        model = make_parts(device).Model(config, random_checkpoint(config), quantization=quantization)
    steps = {"steps": sizes["steps"], "context": sizes["context"], "peak": peak}
    return {
        "weights_bytes": model.weights.num_bytes,
        "decode": [decode(model, batch=batch, **steps) for batch in sizes["batches"]],
        "prefill": prefill(model, tokens=sizes["prompt"], repeats=2),
        "kernels": exactness(model, context=sizes["context"]),
        "products": products(model, rows=1),
    }


def peer(shape: str, batch: int, steps: int) -> dict:
    """The same shape with transformers, in a separate process."""
    command = [sys.executable, "-m", "benchmarks.gpu_peer", shape, str(batch), str(steps)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"error": done.stderr[-500:].strip()}


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 if there is no GPU to measure, or if anything differs from the reference."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=9.5, help="begin nothing that would take longer")
    parser.add_argument("--rehearse", action="store_true", help="a toy model and few steps")
    parser.add_argument("--without-tests", action="store_true", help="somebody else has run them: gpu_checks.py")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    options = parser.parse_args(arguments)
    for line in missing():
        print(f"missing: {line}", flush=True)
    try:
        device = Device(options.device)
    except VerbatimError as error:
        print(f"nothing to measure: {error}")
        return 1
    sizes, now = REHEARSAL if options.rehearse else FULL, datetime.now(UTC)
    report = Report(options.out / f"gpu-{now:%Y-%m-%d-%H%M%S}.json", 60 * options.minutes)
    report.content |= {"gpu": device.name, "machine": platform.platform(), "at": now.isoformat(timespec="seconds")}
    report.content |= {"compiler": find_compiler()[0].splitlines()[-1], "is_rehearsal": options.rehearse}
    peak = bandwidth(device, sizes["copy"])
    report.part("bandwidth", lambda: {"bytes_per_second": peak})
    if not options.without_tests:
        report.part("kernel tests", lambda: tests_on_device(*KERNEL_TESTS), needs=60)
    if not (options.without_tests or options.rehearse):  # the test of the fake driver runs this one itself
        report.part("model tests", lambda: tests_on_device(*ON_A_DEVICE), needs=60)
    first = sizes["shapes"][0]
    report.part("first tokens", lambda: first_tokens(device, first, sizes["first_tokens"]), needs=60)
    for shape in sizes["shapes"]:
        for quantization in FORMATS:
            name = f"{shape} {quantization or 'bf16'}"
            report.part(name, lambda s=shape, q=quantization: speed(device, s, q, sizes, peak), needs=40)
        if not gpu_peer.missing():
            report.part(f"{shape} transformers", lambda s=shape: peer(s, 1, sizes["steps"]), needs=90)
    print(f"written: {report.path}")
    return int(any(part.get("is_equal") is False or "error" in part for part in report.content["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
