"""What the models on a GPU cannot compute yet, refused by name before anything is uploaded."""

from verbatim.fastpath.gpu.operations import MAX_HEAD_DIM
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.errors import BackendError


def missing(config: ModelConfig) -> list[str]:
    """The parts of a model that have no kernel, in words; empty where the GPU path runs it."""
    experts, layers = config.experts, config.layers
    needs = {
        f"head_dim {config.head_dim}, above {MAX_HEAD_DIM}": config.head_dim > MAX_HEAD_DIM and not config.latent,
        "latent attention": config.latent is not None,
        "layers with a state": config.num_stateful_layers > 0,
        "gates behind attention": config.has_output_gate,
        "norms of heads with weights of their own": config.query_key_norm == "heads",
        "norms of queries and keys without a weight": config.query_key_norm == "unit",
        "norms after rotation": config.norms_rotated,
        "attention within chunks": any(layer.chunk for layer in layers),
        "heads of another shape in some layers": any(layer.head_dim or layer.num_kv_heads for layer in layers),
        "keys and values of other layers": any(layer.keys_of is not None for layer in layers),
        "norms of values": config.norms_values,
        "inputs of layers": config.layer_inputs is not None,
        "several streams": config.streams is not None,
        "experts beside a dense network": experts is not None and experts.beside,
        "queries scaled in some layers": config.position_scale is not None and config.position_scale.only_unrotated,
        "softmax routing with a bias in the choice": experts is not None and experts.has_score_bias,
        "weights of experts' inputs": experts is not None and experts.routing == "input",
        "sigmoid routing": experts is not None and experts.routing == "sigmoid",
        "groups of experts": experts is not None and experts.num_groups > 1,
        "scaled weights of experts": experts is not None and experts.scale != 1,
    }
    return [name for name, is_needed in needs.items() if is_needed]


def check_support(config: ModelConfig) -> None:
    """Raise BackendError naming what is missing, and where the model runs."""
    if found := missing(config):
        raise BackendError(f"not on the GPU path yet: {', '.join(found)}; --device cpu runs this model")
