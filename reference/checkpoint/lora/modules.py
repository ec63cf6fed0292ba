"""Which of a model's matrices an adapter can change: by the names of their modules, as its family has them."""

from dataclasses import dataclass

from verbatim.reference.checkpoint.families import family_named
from verbatim.reference.records.config import ModelConfig

PLACES = ("query", "key", "value", "output", "gate", "up", "down")  # of a layer, in the order of computing


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A module of one layer: `places` are the matrices that its outputs are cut into, `sizes` their outputs."""

    layer: int
    places: tuple[str, ...]
    sizes: tuple[int, ...]
    num_inputs: int


def modules_of(config: ModelConfig) -> dict[str, Module]:
    """The modules of all layers by their names without the model's prefix: layers.0.self_attn.q_proj."""
    names = family_named(config.family).names
    found = {}
    for layer in range(config.num_layers):
        for name, (places, sizes, num_inputs) in _shapes(config, layer).items():
            module = Module(layer=layer, places=places, sizes=sizes, num_inputs=num_inputs)
            found[f"layers.{layer}.{names.get(name, name)}"] = module
    return found


def _shapes(config: ModelConfig, layer: int) -> dict[str, tuple[tuple[str, ...], tuple[int, ...], int]]:
    """Places, their outputs, and inputs of the modules of a layer, under Llama's names."""
    own, hidden = config.layers[layer], config.hidden_size
    inner = own.intermediate_size or config.intermediate_size
    num_kv_heads, head_dim = config.heads_of(layer)
    queries, keys = config.num_heads * head_dim, num_kv_heads * head_dim
    is_dense = config.experts is None or not own.has_experts or config.experts.beside
    is_grouped = family_named(config.family).groups_queries
    found: dict[str, tuple[tuple[str, ...], tuple[int, ...], int]] = {}
    if own.has_attention:
        found["self_attn.o_proj"] = (
            ("output",),
            (hidden,),
            config.num_heads * config.value_dim if config.latent else queries,
        )
    if own.has_attention and not config.latent:  # whose queries and keys have their features in another order
        if not config.has_output_gate:  # whose rows lie among those of queries
            found["self_attn.q_proj"] = ("query",), (queries,), hidden
        if own.keys_of is None:  # a layer may attend to another one's keys, and have no values of its own
            found["self_attn.k_proj"] = ("key",), (keys,), hidden
        if own.keys_of is None and own.has_values:
            found["self_attn.v_proj"] = ("value",), (keys,), hidden
    if own.has_attention and (config.has_fused_matrices or is_grouped):
        found["self_attn.qkv_proj"] = ("query", "key", "value"), (queries, keys, keys), hidden
    if not is_dense:
        return found
    found["mlp.up_proj"] = ("up",), (inner,), hidden
    found["mlp.down_proj"] = ("down",), (hidden,), inner
    if config.has_gate:
        found["mlp.gate_proj"] = ("gate",), (inner,), hidden
        if config.has_fused_matrices or family_named(config.family).has_fused_gate:
            found["mlp.gate_up_proj"] = ("gate", "up"), (inner, inner), hidden
    return found
