"""The one file that knows the engines by name, and that loads the one asked for."""

import importlib

from reference.device import check_device
from reference.errors import BackendError
from reference.limits import EngineLimits
from server.options import Options

MODULES = {"reference": "reference.backend", "fastpath": "fastpath.backend"}


def check_backend(options: Options) -> None:
    """Raise BackendError if the engine asked for is not built, or not for that device; loads no weights."""
    _import(options.backend)
    check_device(options.device, engine=options.backend)


def load_engine(options: Options):
    """A ready engine. Raises ModelError or BackendError with a line that says what to do."""
    limits = EngineLimits(
        prefix_cache_mode=options.prefix_cache_mode,
        speculative_mode=options.speculative_mode,
        draft_length=options.spec_draft_length,
    )
    return _import(options.backend).load_engine(
        options.model,
        device=options.device,
        quantization=options.quantization,
        limits=limits,
        draft_directory=options.additional_models if options.speculative_mode == "small_draft" else None,
    )


def _import(name: str):
    try:
        return importlib.import_module(MODULES[name])
    except ImportError as error:
        hint = "`pip install .` builds it where there is a C compiler"
        raise BackendError(f"--backend {name} is not there: {error}; {hint}") from error
