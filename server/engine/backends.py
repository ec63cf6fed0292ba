"""The one file that knows the engines by name, and that loads the one asked for."""

import importlib
from collections.abc import Sequence
from dataclasses import fields, replace

from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.errors import BackendError
from verbatim.reference.records.limits import EngineLimits
from verbatim.server.engine.memory import Needs, fit_all, free_bytes, load_shape
from verbatim.server.settings.options import Options

SPARE_BYTES = 64 << 20
MODULES = {"reference": "verbatim.reference.backend", "fastpath": "verbatim.fastpath.backend"}


def check_backend(options: Options) -> None:
    """Raise BackendError if the engine asked for is not built, or not for that device or numerics; loads no weights."""
    backend = _import(options.backend)
    if options.numerics != "exact":
        raise BackendError(f"--backend {options.backend} has no --numerics {options.numerics}; it has 'exact' alone")
    if options.threads and options.backend != "fastpath":  # which reads VERBATIM_THREADS itself
        raise BackendError(f"--backend {options.backend} has no --threads: how many NumPy takes, it decides")
    backend.gpu_of(options.device)


def fit_lineup(lineup: Sequence[tuple[Options, ModelConfig]]) -> list[Options]:
    """The options of models on one device with all sizes filled in, by the free memory of what computes."""
    options, _ = lineup[0]
    backend = _import(options.backend)
    gpu = backend.gpu_of(options.device)
    if gpu is None:
        return fit_all(lineup, free_bytes())

    def needs_on_gpu(options: Options, config: ModelConfig, sequences: int, chunk: int) -> Needs:
        places = [options.model, *([options.draft] if options.draft else [])]
        limits = _limits(replace(options, max_num_sequence=sequences, prefill_chunk_size=chunk))
        plan = backend.gpu_plan(config, places, options.quantization or config.quantization, limits)
        # The engine asks again how much is free, and takes whole pages: what differs must not end it.
        scratch = plan.scratch + plan.page + SPARE_BYTES
        return Needs(weights=plan.weights, scratch=scratch, token=-(-plan.page // backend.PARTS.page_size))

    share = options.gpu_memory_utilization
    return fit_all(lineup, backend.gpu_free_bytes(gpu), share=share, needs_of=needs_on_gpu)


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
        hint = "`pip install .` builds it where there is a C compiler"
        raise BackendError(f"--backend {name} is not there: {error}; {hint}") from error
