"""Whether a model can be served on this machine, and with how much room: what `verbatim doctor --model` adds."""

from collections.abc import Iterator
from pathlib import Path

from verbatim.cli.models.cache import size
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.numerics.quantization import FORMATS
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.errors import BackendError, VerbatimError
from verbatim.server.engine.memory import estimate, fit_all, free_bytes
from verbatim.server.models.served import load_served_model
from verbatim.server.settings.options import Options

AS_STORED = "as stored"


def fits(directory: Path, free: int | None = None) -> Iterator[tuple[str, str]]:
    """Pairs of a subject and what is known of it: what the model is, and each way to hold it in `free` bytes.

    `free` is what the server may take now, if it is not given. A model that cannot be served at all raises the error
    that names why.
    """
    raw = open_source(directory).raw_config()
    served = load_served_model(Options(model=directory))
    config = served.config
    name = ", ".join(raw.get("architectures") or [raw["model_type"]])
    yield "model", f"{directory}: {name}, context of {config.context_size} tokens"
    yield "chat", f"yes; tool calls as {served.dialect.name}" if served.template else "no template: it continues text"
    room = free_bytes() if free is None else free
    for format in (None, *FORMATS) if config.quantization is None else (None,):
        yield f"fits, {format or AS_STORED}", room_for(directory, config, format, room)
    yield "on a GPU", on_gpu(config)


def room_for(directory: Path, config: ModelConfig, format: str | None, free: int) -> str:
    """What the server would plan with `free` bytes, or why that is not enough."""
    options = Options(model=directory, quantization=format)
    weights = size(estimate(options, config, 1, 1).weights)
    try:
        [plan] = fit_all([(options, config)], free)
    except VerbatimError as error:
        return f"no: {error}"
    tokens = f"{plan.max_total_seq_length} tokens in the cache"
    return f"yes: {weights} of weights, {plan.max_num_sequence} answers at once, {tokens}"


def on_gpu(config: ModelConfig) -> str:
    """Whether the kernels have all parts of the model; not whether there is a GPU."""
    from verbatim.fastpath.gpu.support import check_support

    try:
        check_support(config)
    except BackendError as error:
        return f"no: {error}"
    return "yes: all its parts have kernels"
