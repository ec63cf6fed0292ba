"""Mirrored. The reference engine put together: the loop of engine.py with the parts of this package."""

from verbatim.reference.cache import pages as cache
from verbatim.reference.cache import prefix_cache
from verbatim.reference.engine import answer, scheduler
from verbatim.reference.engine.loading import load_engine as load_parts
from verbatim.reference.engine.loading import load_model as load_model_parts
from verbatim.reference.engine.loop import Engine
from verbatim.reference.model import decoder as model
from verbatim.reference.records.device import check_device
from verbatim.reference.records.errors import BackendError
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.parts import Parts
from verbatim.reference.sampling import rules as sampling
from verbatim.reference.speculation import eagle, medusa
from verbatim.reference.speculation import speculators as speculation
from verbatim.reference.text import detokenizer, stopping

PARTS = Parts(
    name="reference",
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


def gpu_of(device: str) -> None:
    """No GPU: this engine computes on the processor, and refuses a device by that name."""
    check_device(device, engine="reference")


def parts_for(model) -> Parts:
    """The parts that go with a model: here always the same."""
    return PARTS


def load_engine(
    directory,
    *,
    device: str = "auto",
    quantization: str | None = None,
    limits: EngineLimits | None = None,
    draft_directory=None,
    model_lib=None,
) -> Engine:
    """The engine over a model directory; raises ModelError, or BackendError for what it does not run on or keep."""
    check_device(device, engine="reference")
    if model_lib is not None:
        raise BackendError(f"the reference computes with weights as they are stored: it has no --model-lib {model_lib}")
    return load_parts(PARTS, directory, quantization=quantization, limits=limits, draft_directory=draft_directory)


def load_model(directory, *, device: str = "auto", quantization: str | None = None):
    """Only the model; works without a tokenizer."""
    check_device(device, engine="reference")
    return load_model_parts(PARTS, directory, quantization=quantization)
