"""The one file that knows the engines by name, and that loads the one asked for."""

import importlib

from reference.errors import BackendError
from server.options import Options

MODULES = {"reference": "reference.backend", "fastpath": "fastpath.backend"}


def check_backend(options: Options) -> None:
    """Raise BackendError if the engine asked for is not built, or not for that device; loads no weights."""
    module = _import(options.backend)
    if hasattr(module, "check_device"):
        module.check_device(options.device, engine=options.backend)


def load_engine(options: Options):
    """A ready engine. Raises ModelError or BackendError with a line that says what to do."""
    module = _import(options.backend)
    return module.load_engine(options.model, device=options.device, quantization=options.quantization)


def _import(name: str):
    try:
        return importlib.import_module(MODULES[name])
    except ImportError as error:
        hint = "`pip install .` builds it where there is a C compiler"
        raise BackendError(f"--backend {name} is not there: {error}; {hint}") from error
