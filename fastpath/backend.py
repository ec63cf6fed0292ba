"""Mirrored. The fast engine put together: the loop of reference/engine/loop.py with the parts of this package.

Importing it without the extensions says why they are not there, and what to do; nothing falls back to the reference.
"""

import logging
from pathlib import Path

from verbatim.fastpath.device import gpu_free_bytes, gpu_of, gpu_plan
from verbatim.reference.engine.loading import load_engine as load_parts
from verbatim.reference.engine.loading import load_model as load_model_parts
from verbatim.reference.engine.loop import Engine
from verbatim.reference.records.errors import BackendError
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.parts import Parts

try:
    from verbatim.fastpath.cache import pages as cache
    from verbatim.fastpath.cache import prefix_cache
    from verbatim.fastpath.engine import answer, scheduler
    from verbatim.fastpath.model import decoder as model
    from verbatim.fastpath.model.model_lib import DamagedError, open_model_lib
    from verbatim.fastpath.sampling import rules as sampling
    from verbatim.fastpath.speculation import eagle, medusa
    from verbatim.fastpath.speculation import speculators as speculation
    from verbatim.fastpath.text import detokenizer, stopping
except ImportError as error:
    note = Path(__file__).absolute().parents[1] / "not_built.txt"  # setup.py writes it
    reason = note.read_text(encoding="utf-8") if note.is_file() else str(error)
    raise BackendError(
        f"the fast path is not built: {reason}; install a C compiler and Python's headers, then install verbatim "
        "again, in a checkout with `pip install --force-reinstall --no-cache-dir --no-deps .`; "
        "or use --backend reference, which is slow"
    ) from error

logger = logging.getLogger("verbatim")
__all__ = ["PARTS", "gpu_free_bytes", "gpu_of", "gpu_plan", "load_engine", "load_model", "parts_for"]
PARTS = Parts(
    name="fastpath",
    Model=model.Model,
    PagedCache=cache.PagedCache,
    PrefixCache=prefix_cache.PrefixCache,
    Scheduler=scheduler.Scheduler,
    Stopper=stopping.Stopper,
    Detokenizer=detokenizer.Detokenizer,
    Answer=answer.Answer,
    sample_batch=answer.sample_batch,
    extend_decoding=answer.extend_decoding,
    sample=sampling.sample,
    score=sampling.score,
    adjust=sampling.adjust,
    weigh=sampling.weigh,
    NgramSpeculator=speculation.NgramSpeculator,
    DraftSpeculator=speculation.DraftSpeculator,
    MedusaHeads=medusa.MedusaHeads,
    MedusaSpeculator=medusa.MedusaSpeculator,
    EagleSpeculator=eagle.EagleSpeculator,
    adaptive_length=speculation.adaptive_length,
    page_size=cache.PAGE_SIZE,
)


def parts_for(model) -> Parts:
    """The parts that go with a model: its own where it lives on a GPU."""
    return getattr(model, "parts", PARTS)


def load_engine(
    directory,
    *,
    device: str = "auto",
    quantization: str | None = None,
    limits: EngineLimits | None = None,
    draft_directory=None,
    model_lib=None,
) -> Engine:
    """The engine over a model directory; raises ModelError, or BackendError for a device it does not run on.

    `model_lib` is the file that keeps the packed weights; without it large models have one in the cache.
    """
    options = {"quantization": quantization, "limits": limits, "draft_directory": draft_directory}
    if gpu := gpu_of(device):
        from verbatim.fastpath.gpu import backend as on_gpu  # its imports are only worth it there

        if model_lib is not None:
            raise BackendError(f"--model-lib {model_lib} is for the processor: weights are packed anew for {gpu}")
        return on_gpu.load_engine(directory, device=gpu, **options)
    lib = open_model_lib(directory, quantization, model_lib)
    try:
        return load_parts(PARTS, directory, model_lib=lib, **options)
    except DamagedError as error:
        if lib.is_named:
            raise
        logger.warning("%s; it is packed anew now", error)
        lib.path.unlink(missing_ok=True)
        return load_parts(PARTS, directory, model_lib=open_model_lib(directory, quantization), **options)


def load_model(directory, *, device: str = "auto", quantization: str | None = None):
    """Only the model; works without a tokenizer."""
    if gpu := gpu_of(device):
        from verbatim.fastpath.gpu import backend as on_gpu

        return on_gpu.load_model(directory, device=gpu, quantization=quantization)
    return load_model_parts(PARTS, directory, quantization=quantization)
