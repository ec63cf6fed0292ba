"""In which arrays of a cache layers store keys and values: shared by all engines.

Layers whose heads have the same shape lie in one array, a group, in order. Layers are counted as a cache counts them:
those that store nothing (they have no attention, or attend to another layer's keys) are left out
(`ModelConfig.places_in_cache`).
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Layers that store keys and values of one shape: how many they are, their key-value heads and features of each."""

    num_layers: int
    num_kv_heads: int
    head_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLayout:
    """The groups of a model, and for each layer of its cache the group and the place there."""

    groups: tuple[Group, ...]
    places: tuple[tuple[int, int], ...]


def cache_layout(config: Any) -> CacheLayout:
    """The layout of a model's cache; `config` is a ModelConfig, or holds the sizes alone."""
    layers = getattr(config, "layers", None)
    storing = [i for i, layer in enumerate(layers or ()) if layer.has_attention and layer.keys_of is None]
    if not storing:  # sizes alone, or no layer with attention
        count = config.num_layers if layers is None else 0
        group = Group(num_layers=count, num_kv_heads=config.num_kv_heads, head_dim=config.head_dim)
        return CacheLayout(groups=(group,), places=tuple((0, index) for index in range(count)))
    shapes = [config.heads_of(index) for index in storing]
    found = list(dict.fromkeys(shapes))
    counts, places = [0] * len(found), list[tuple[int, int]]()
    for shape in shapes:
        index = found.index(shape)
        places.append((index, counts[index]))
        counts[index] += 1
    groups = tuple(
        Group(num_layers=count, num_kv_heads=shape[0], head_dim=shape[1])
        for shape, count in zip(found, counts, strict=True)
    )
    return CacheLayout(groups=groups, places=tuple(places))
