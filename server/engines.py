"""The one file that knows the engines by name, and that loads the one asked for."""

import importlib

from reference.errors import BackendError
from server.options import Options

MODULES = {"reference": "reference.backend", "fastpath": "fastpath.backend"}


def backend_module(name: str):
    """The module of a backend, imported only now; BackendError if it is not built here."""
    try:
        return importlib.import_module(MODULES[name])
    except ImportError as error:
        raise BackendError(f"--backend {name} cannot be loaded: {error}") from error


def load_engine(options: Options):
    """A ready engine. Raises ModelError or BackendError with a line that says what to do."""
    module = backend_module(options.backend)
    return module.load_engine(options.model, device=options.device, quantization=options.quantization)
