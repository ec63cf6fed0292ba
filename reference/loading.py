"""From a model directory to an engine: everything that is read from disk, in one place."""

from reference.checkpoint import open_checkpoint
from reference.engine import Engine
from reference.families import load_config
from reference.limits import EngineLimits
from reference.parts import Parts
from reference.quantization import check_format
from reference.tokenizer import load_tokenizer
from reference.weights import load_weights


def load_engine(
    parts: Parts,
    directory,
    *,
    quantization: str | None = None,
    limits: EngineLimits | None = None,
    draft_directory=None,
) -> Engine:
    """An engine over a model directory; raises ModelError naming what is wrong with it, or with its draft model."""
    config = load_config(directory)
    tokenizer = load_tokenizer(directory)
    model = load_model(parts, directory, quantization=quantization)
    draft = load_model(parts, draft_directory, quantization=quantization) if draft_directory else None
    return Engine(parts, config, model, tokenizer, limits=limits, draft_model=draft)


def load_model(parts: Parts, directory, *, quantization: str | None = None):
    """Only the model, which needs no tokenizer."""
    check_format(quantization)
    config = load_config(directory)
    return parts.Model(config, open_checkpoint(config, load_weights(directory)), quantization=quantization)
