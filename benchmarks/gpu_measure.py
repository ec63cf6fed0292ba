"""Measurements of a model on a device: events on its stream for device time, a clock for host time."""

import time
from collections import defaultdict
from unittest.mock import patch

import numpy as np

from verbatim.fastpath.gpu.building import FLAGS, FUSED
from verbatim.fastpath.gpu.cache import PAGE_SIZE, DevicePagedCache
from verbatim.fastpath.gpu.formats import LAYOUTS
from verbatim.reference.records.sequence import Chunk


class Stopwatch:
    """Milliseconds between two points of a stream."""

    def __init__(self, device):
        self._device = device
        self._start, self._stop = device.driver.Event(), device.driver.Event()

    def __enter__(self):
        self._start.record(self._device.stream)
        return self

    def __exit__(self, *exception):
        self._stop.record(self._device.stream)
        self._stop.synchronize()
        self.milliseconds = self._start.time_till(self._stop)


def bandwidth(device, num_bytes: int) -> float:
    """Bytes a second that a copy on the device reads and writes; the best of five."""
    source, target = (device.allocate(num_bytes, "the bandwidth test") for _ in range(2))
    best = float("inf")
    for _ in range(5):
        with Stopwatch(device) as watch:
            device.driver.memcpy_dtod_async(target, source, num_bytes, device.stream)
        best = min(best, watch.milliseconds)
    source.free()
    target.free()
    return 2 * num_bytes / max(best, 1e-6) * 1000


def decode(model, *, batch: int, steps: int, context: int, peak: float) -> dict:
    """Tokens a second of `batch` sequences of `context` tokens each, and the share of `peak` bytes a second.

    `device_ms` is the graph alone, many in a row; `apart_ms` is the graph without overlap of kernels; `step_ms`
    includes Python and the wait for tokens. `timeline` lists for each of the first steps the milliseconds until the
    graph is launched, until its end, and until the tokens are on the host.
    """
    config, pages_each = model.config, -(-(context + steps + 1) // PAGE_SIZE)
    cache = DevicePagedCache(model.device, config, batch * pages_each)
    pages = [tuple(range(i * pages_each, (i + 1) * pages_each)) for i in range(batch)]

    def step(position):
        return model.forward([Chunk(token_ids=(1,), start=position, pages=own) for own in pages], cache)

    for position in range(context, context + 2):  # notes the graph down
        step(position)
    replays, times, timeline = model.num_replays, [], []
    for position in range(context, context + steps):
        start = time.perf_counter()
        step(position)
        times.append(1000 * (time.perf_counter() - start))
    assert model.num_replays == replays + steps, "a decode step is one replay"
    graph = model.latest_graph
    with Stopwatch(model.device) as watch:
        for _ in range(steps):
            graph.launch()
    with patch.object(model, "_replay", _noting(model, timeline)):
        for position in range(context, context + min(steps, 16)):
            start = time.perf_counter()
            step(position)
            timeline[-1] = _spans(start, *timeline[-1], time.perf_counter())
    apart = _apart(model, step, context, steps)
    times.sort()
    device_ms, step_ms = watch.milliseconds / steps, sum(times) / steps
    cached = 8 * config.num_layers * config.num_kv_heads * config.head_dim  # bytes of keys and values of a token
    read = streamed_bytes(model) + batch * context * cached
    return {
        "batch": batch, "context": context, "tokens_per_second": 1000 * batch / step_ms, "step_ms": step_ms,
        "step_ms_p50": times[steps // 2], "step_ms_p99": times[int(steps * 0.99)], "device_ms": device_ms,
        "outside_device_ms": step_ms - device_ms, "bytes_read": read,
        "share_of_bandwidth": 1000 * read / step_ms / peak,
        "device_share_of_bandwidth": 1000 * read / max(device_ms, 1e-6) / peak, "apart_ms": apart,
        "overlapping_kernels": graph.num_overlaps, "timeline": timeline,
    }  # fmt: skip


def _noting(model, timeline: list):
    """Model._replay that records its launch time and the device time."""
    replay = model._replay

    def noting(*arguments):
        launched = time.perf_counter()
        with Stopwatch(model.device) as watch:
            replay(*arguments)
        timeline.append((launched, watch.milliseconds))

    return noting


def _spans(start: float, launched: float, device_ms: float, stop: float) -> list[float]:
    before = 1000 * (launched - start)
    return [round(value, 4) for value in (before, device_ms, 1000 * (stop - start) - before - device_ms)]


def _apart(model, step, context: int, steps: int) -> float:
    """Milliseconds of the graph without overlap of kernels."""
    device = model.device
    with patch.object(device, "overlaps_kernels", False):
        model.forget_graphs()
        step(context)
        graph = model.latest_graph
        with Stopwatch(device) as watch:
            for _ in range(steps):
                graph.launch()
    model.forget_graphs()
    return watch.milliseconds / steps


def streamed_bytes(model) -> int:
    """Bytes of weights that every step reads: all but the embedding and the rotary table."""
    config, weights = model.config, model.weights
    width = LAYOUTS[weights.embedding[0]].bits // 8 if weights.embedding else 0  # else it is the head's, or packed
    rotary = 4 * config.context_size * config.head_dim
    return weights.num_bytes - width * config.vocab_size * config.hidden_size - rotary


def prefill(model, *, tokens: int, repeats: int) -> dict:
    """Tokens a second of the prefill of one prompt in one chunk; the best of several runs."""
    num_pages = -(-tokens // PAGE_SIZE)
    cache = DevicePagedCache(model.device, model.config, num_pages)
    chunk = Chunk(token_ids=(1,) * tokens, start=0, pages=tuple(range(num_pages)))
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        model.forward([chunk], cache)
        times.append(time.perf_counter() - start)
    return {"tokens": tokens, "tokens_per_second": tokens / min(times[1:])}


def kernels(model, *, batch: int, context: int) -> dict[str, dict]:
    """Milliseconds of each kernel in one step that is not a graph, measured one by one."""
    pages_each = -(-(context + 1) // PAGE_SIZE)
    cache = DevicePagedCache(model.device, model.config, batch * pages_each)
    chunks = [
        Chunk(token_ids=(1,), start=context, pages=tuple(range(i * pages_each, (i + 1) * pages_each)))
        for i in range(batch)
    ]
    totals, launch = defaultdict(lambda: {"launches": 0, "ms": 0.0}), model.operations._launch

    def timed(name, *arguments):
        with Stopwatch(model.device) as watch:
            launch(name, *arguments)
        totals[name]["launches"] += 1
        totals[name]["ms"] += watch.milliseconds

    model.watch, model.operations._launch = (lambda *_: None), timed
    try:
        model.forward(chunks, cache)
    finally:
        model.watch, model.operations._launch = None, launch
    return dict(totals)


def exactness(model, *, context: int) -> dict[str, dict]:
    """The cost of N0 for each kernel of a step: its milliseconds, and those of the same source with fused arithmetic.

    `products`, compared with a library's, shows the cost of the fixed order of N2, N3 and N4.
    """
    exact = kernels(model, batch=1, context=context)
    model.forget_graphs()  # they contain the kernels that are replaced
    model.device.use_kernels(FUSED)
    try:
        fused = kernels(model, batch=1, context=context)
    finally:
        model.device.use_kernels(FLAGS)
    return {name: times | {"fused_ms": fused[name]["ms"]} for name, times in exact.items()}


def products(model, *, rows: int) -> dict[str, float]:
    """Milliseconds of each of a layer's products alone, over all layers in turn so that no cache has the weights."""
    found, layers = {}, model.weights.layers
    at = model.place(np.ones((rows, model.config.hidden_size), np.float32))
    model.operations.quantize(at["normed"], at["integers"], at["scales"], rows=rows, inputs=model.config.hidden_size)
    matrices = {
        "query, key, value": [layer.inputs for layer in layers], "output": [layer.output for layer in layers],
        "gate and up": [layer.parts[0].gate_and_up for layer in layers], "down": [layer.parts[0].down for layer in
        layers],
    }  # fmt: skip
    for name, stack in matrices.items():
        operands = {True: (at["integers"], at["scales"]), False: (at["gated"], 0)}
        parts = [part for matrix in stack for part in matrix.parts]
        for _ in range(2):  # the first time kernels are loaded
            with Stopwatch(model.device) as watch:
                for part in parts:
                    model.operations.linear(part, *operands[part.takes_integers], at["both"], rows=rows)
        found[name] = watch.milliseconds / len(stack)
    return found
