"""The GPU engine put together: the loop of reference/engine/loop.py with a model, pages and sampling on a device.

What is not about numbers (scheduler, prefix cache, stopping, text, speculation) is the CPU fast path's. Everything the
loop is given has the same bits, so an answer does not say where it was computed.
"""

from functools import partial

from verbatim.fastpath.cache import prefix_cache
from verbatim.fastpath.engine import answer, scheduler
from verbatim.fastpath.gpu import draws, sampling
from verbatim.fastpath.gpu.cache import PAGE_SIZE, DevicePagedCache
from verbatim.fastpath.gpu.device import Device
from verbatim.fastpath.gpu.medusa import MedusaHeads
from verbatim.fastpath.gpu.memory import make_plan
from verbatim.fastpath.gpu.model import Model
from verbatim.fastpath.sampling import rules as on_host
from verbatim.fastpath.speculation import eagle, medusa
from verbatim.fastpath.speculation import speculators as speculation
from verbatim.fastpath.text import detokenizer, stopping
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.engine.loading import load_engine as load_parts
from verbatim.reference.engine.loading import load_model as load_model_parts
from verbatim.reference.engine.loop import Engine
from verbatim.reference.numerics.quantization import BLOCKED_FORMATS, FORMATS
from verbatim.reference.records.errors import BackendError
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.parts import Parts


def make_parts(device: Device) -> Parts:
    """The parts of an engine on that device."""
    return Parts(
        name="fastpath",
        Model=partial(Model, device),
        PagedCache=partial(DevicePagedCache, device),
        PrefixCache=prefix_cache.PrefixCache,
        Scheduler=scheduler.Scheduler,
        Stopper=stopping.Stopper,
        Detokenizer=detokenizer.Detokenizer,
        Answer=answer.Answer,
        sample_batch=draws.sample_batch,
        extend_decoding=answer.extend_decoding,
        sample=sampling.sample,
        score=sampling.score,
        adjust=on_host.adjust,
        weigh=on_host.weigh,
        NgramSpeculator=speculation.NgramSpeculator,
        DraftSpeculator=draws.DraftSpeculator,
        MedusaHeads=partial(MedusaHeads, device),
        MedusaSpeculator=medusa.MedusaSpeculator,
        EagleSpeculator=eagle.EagleSpeculator,
        adaptive_length=speculation.adaptive_length,
        page_size=PAGE_SIZE,
    )


def check_kernels(quantization: str | None) -> None:
    """Raise BackendError for a format that no kernel of the GPU computes."""
    if quantization in BLOCKED_FORMATS:
        raise BackendError(
            f"the GPU path does not compute {quantization}; give --device cpu, or {' or '.join(FORMATS)}"
        )


def load_engine(
    directory, *, device: str = "cuda", quantization: str | None = None, limits: EngineLimits | None = None,
    draft_directory=None,
) -> Engine:  # fmt: skip
    """The engine over a model directory; raises ModelError, or BackendError for a GPU that is too small."""
    check_kernels(quantization)
    opened, limits = Device(device), limits or EngineLimits()
    config = limits.reshape(open_source(directory).config())
    places = [directory, draft_directory] if draft_directory else [directory]
    plan = make_plan(config, places, config.quantization or quantization, limits, free=opened.free_bytes)
    return load_parts(
        make_parts(opened), directory, quantization=quantization, limits=plan.limit(limits, config),
        draft_directory=draft_directory,
    )  # fmt: skip


def load_model(directory, *, device: str = "cuda", quantization: str | None = None) -> Model:
    """Only the model; works without a tokenizer."""
    check_kernels(quantization)
    parts = make_parts(Device(device))
    model = load_model_parts(parts, directory, quantization=quantization)
    model.parts = parts
    return model
