"""The one file that knows the engines by name, and that loads the one asked for."""

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.errors import BackendError
from verbatim.reference.records.limits import EngineLimits
from verbatim.server.engine.memory import Needs, estimate, fit_all, free_bytes, load_shape
from verbatim.server.settings.options import FALLBACK, PREFIX, Options, settings_of_file

SPARE_BYTES = 64 << 20
MACHINE = ("dispatch", "threads")
MODULES = {"reference": "verbatim.reference.backend", "fastpath": "verbatim.fastpath.backend"}


def choose_backend(options: Options) -> Options:
    """The same options, with the reference for a fast path that is not built and that nobody has asked for by name.

    Why it is so is then in the environment, for the processes that follow.
    """
    os.environ.pop(FALLBACK, None)
    name = PREFIX + "BACKEND"
    if os.environ.get(name) or "backend" in settings_of_file():
        return options
    try:
        _import(options.backend)
    except BackendError as error:
        os.environ |= {name: "reference", FALLBACK: str(error)}
        return replace(options, backend="reference")
    return options


def check_backend(options: Options) -> None:
    """Raise BackendError if the engine asked for is not built, or not for that device or numerics; loads no weights."""
    backend = _import(options.backend)
    if options.numerics != "exact":
        raise BackendError(f"--backend {options.backend} has no --numerics {options.numerics}; it has 'exact' alone")
    if options.threads and options.backend != "fastpath":  # which reads VERBATIM_THREADS itself
        raise BackendError(f"--backend {options.backend} has no --threads: how many NumPy takes, it decides")
    if backend.gpu_of(options.device) and options.lora:
        raise BackendError("--lora: a model on a GPU has no LoRA adapters; use --device cpu")


def fit_lineup(lineup: Sequence[tuple[Options, ModelConfig]]) -> list[Options]:
    """The options of models on one device with all sizes filled in, by the free memory of what computes."""
    options, _ = lineup[0]
    place = Place.of(options)
    if place.needs_of is estimate:
        return fit_all(lineup, place.free)
    return fit_all(lineup, place.free, share=options.gpu_memory_utilization, needs_of=place.needs_of)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What computes: its description for people, its free bytes, and how the needs of a model are worked out there."""

    text: str
    free: int
    needs_of: Callable[[Options, ModelConfig, int, int], Needs]

    @classmethod
    def of(cls, options: Options) -> "Place":
        """The place that the options choose."""
        backend = _import(options.backend)
        if gpu := backend.gpu_of(options.device):
            return cls(text=f"GPU {gpu}", free=backend.gpu_free_bytes(gpu), needs_of=_needs_on_gpu(backend))
        text = "CPU, NumPy's threads"
        if options.backend == "fastpath":
            dispatch, threads = (importlib.import_module(f"verbatim.fastpath.machine.{name}") for name in MACHINE)
            text = f"CPU, {dispatch.level()}, {options.threads or threads.count()} threads"
        return cls(text=text, free=free_bytes(), needs_of=estimate)


def device_of(options: Options) -> str:
    """The device that computes: cpu, or cuda:0 and so on."""
    gpu = _import(options.backend).gpu_of(options.device)
    return gpu or "cpu"


def _needs_on_gpu(backend) -> Callable[[Options, ModelConfig, int, int], Needs]:
    """What a model takes of a GPU, by the plan of the engine itself."""

    def needs_of(options: Options, config: ModelConfig, sequences: int, chunk: int) -> Needs:
        places = [options.model, *([options.draft] if options.draft else [])]
        limits = _limits(replace(options, max_num_sequence=sequences, prefill_chunk_size=chunk))
        plan = backend.gpu_plan(config, places, options.quantization or config.quantization, limits)
        # The engine asks again how much is free, and takes whole pages: what differs must not end it.
        scratch = plan.scratch + plan.page + SPARE_BYTES
        return Needs(weights=plan.weights, scratch=scratch, token=-(-plan.page // backend.PARTS.page_size))

    return needs_of


def load_engine(options: Options):
    """A ready engine. Raises ModelError or BackendError with a line that says what to do."""
    if None in (options.max_num_sequence, options.max_total_seq_length, options.prefill_chunk_size):
        [options] = fit_lineup([(options, load_shape(options))])  # nobody has, where the process runs by itself
    return _import(options.backend).load_engine(
        options.model,
        device=options.device,
        quantization=options.quantization,
        limits=_limits(options),
        draft_directory=options.draft,
        model_lib=options.model_lib,
    )


def _limits(options: Options) -> EngineLimits:
    """The options that bound an engine, which have the names of its limits."""
    assert options.max_num_sequence is not None, "`fit_lineup` fills in the sizes"
    return EngineLimits(**{limit.name: getattr(options, limit.name) for limit in fields(EngineLimits)})


def _import(name: str):
    try:
        return importlib.import_module(MODULES[name])
    except ImportError as error:
        raise BackendError(f"--backend {name} is not there: {error}") from error
