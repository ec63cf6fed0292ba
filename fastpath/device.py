"""Where the fast path computes: on the processor, or on a GPU if there is one and nobody says otherwise.

`cuda` without a GPU is an error in one line; `auto` takes a GPU where driver, PyCUDA and chip are all there.
"""

from verbatim.reference.records.device import check_name
from verbatim.reference.records.errors import BackendError


def gpu_of(device: str) -> str | None:
    """The GPU that is to compute, None for the processor; BackendError for a GPU that is not there."""
    check_name(device)
    if device == "cpu":
        return None
    try:
        from verbatim.fastpath.gpu.device import count_devices, device_index, import_pycuda
    except ImportError as error:
        if device == "auto":
            return None
        missing = f"its driver unit is not built: run `pip install -e .` with a C compiler ({error})"
        raise BackendError(f"the fastpath engine does not run on {device}: {missing}") from error
    if device == "auto":
        return "cuda" if count_devices() else None
    try:
        import_pycuda()
    except BackendError as error:
        raise BackendError(f"the fastpath engine does not run on {device}: {error}") from error
    count = count_devices()
    if device_index(device) >= count:
        raise BackendError(
            f"the fastpath engine does not run on {device}: PyCUDA finds {count} GPU{'s' if count != 1 else ''} here"
        )
    return device


def gpu_free_bytes(gpu: str) -> int:
    """How much memory is free there."""
    from verbatim.fastpath.gpu.probe import free_bytes_of

    return free_bytes_of(gpu)


def gpu_plan(config, directories, quantization: str | None, limits, *, free: int = 0):
    """What a model, and its draft model or heads, would take of a GPU's memory: gpu/memory.py's plan."""
    from verbatim.fastpath.gpu.memory import make_plan

    return make_plan(config, directories, quantization, limits, free=free)
