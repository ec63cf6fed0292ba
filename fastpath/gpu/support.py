"""What the models on a GPU cannot compute yet, refused by name before anything is uploaded."""

from verbatim.fastpath.gpu.operations import MAX_HEAD_DIM
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.errors import BackendError


def missing(config: ModelConfig) -> list[str]:
    """The parts of a model that have no kernel, in words; empty where the GPU path runs it."""
    experts = config.experts
    needs = {
        f"head_dim {config.head_dim}, above {MAX_HEAD_DIM}": config.head_dim > MAX_HEAD_DIM and not config.latent,
        "latent attention": config.latent is not None,
        "sigmoid routing": experts is not None and experts.routing == "sigmoid",
        "groups of experts": experts is not None and experts.num_groups > 1,
        "scaled weights of experts": experts is not None and experts.scale != 1,
    }
    return [name for name, is_needed in needs.items() if is_needed]


def check_support(config: ModelConfig) -> None:
    """Raise BackendError naming what is missing, and where the model runs."""
    if found := missing(config):
        raise BackendError(f"not on the GPU path yet: {', '.join(found)}; --device cpu runs this model")
