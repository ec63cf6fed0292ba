"""What a model is: one description of a decoder, with options for what families do differently.

`families.py` fills it in from a Hugging Face config.json. Options with a default change nothing unless they are set.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.experts import ClampedGate, Experts
from verbatim.reference.records.file_text import MAX_JSON_BYTES, check_json, check_ordinary
from verbatim.reference.records.latent import LatentAttention
from verbatim.reference.records.mixer import Mixer
from verbatim.reference.records.residuals import LayerInputs, Streams
from verbatim.reference.records.rope import PositionScale, Rope
from verbatim.reference.records.told import LATER

SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads", "head_dim",
    "context_size",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerConfig:
    """What may differ from layer to layer: positions (None for none), sliding window in tokens, experts or not.

    Behind a window every token still attends to the first `sinks` (attention sinks, https://arxiv.org/abs/2309.17453).
    With a `chunk` (Llama 4), a token attends to those before it in its own chunk of so many positions. A layer with a
    state (N14) `has_mixer`, in the place of attention or beside it. `head_dim`, `num_kv_heads` and `intermediate_size`
    are the layer's own where they differ from the model's. A layer with `keys_of` makes no keys and values: it attends
    to those of that layer. Without `has_values` (Gemma 4) values are made of what keys are made of. `cutoff` (Gemma
    3n): how many standard deviations above its row's mean a number of the gate must lie to count.
    """

    rope: Rope | None
    window: int | None = None
    sinks: int = 0
    has_experts: bool = False
    chunk: int | None = field(default=None, metadata=LATER)
    has_attention: bool = field(default=True, metadata=LATER)
    has_mixer: bool = field(default=False, metadata=LATER)
    has_feed_forward: bool = field(default=True, metadata=LATER)
    head_dim: int | None = field(default=None, metadata=LATER)
    num_kv_heads: int | None = field(default=None, metadata=LATER)
    intermediate_size: int | None = field(default=None, metadata=LATER)
    keys_of: int | None = field(default=None, metadata=LATER)
    has_values: bool = field(default=True, metadata=LATER)
    cutoff: float | None = field(default=None, metadata=LATER)

    @property
    def has_dense_network(self) -> bool:
        """Whether its feed-forward part is one network and no mixture of experts."""
        return self.has_feed_forward and not self.has_experts


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A decoder. Sizes are counts of features, heads, layers and tokens.

    `norms` says where a layer normalises: "before" each half (Llama), "after" it (OLMo 2), "around" it (Gemma), only
    "between" the two (an eagle head), or once for both, which are "parallel" (Phi 2). `norm_type` is "rms" or "layer".
    `query_key_norm` is None, "head" (each head by itself), "heads" (so, but each with weights of its own), "all" (all
    heads of a token together) or "unit" (each head, without weights, in layers with positions). With `norms_rotated`
    queries and keys are normed after rotation, with `norms_values` values are normed, each head without weights. With
    `latent` there is one key-value head, whose `head_dim` is that of the shared key: the rotated part, then the latent.
    With `has_layer_scale` what a layer gives is multiplied by a number of its own. `mixer` has the sizes of the layers
    with a state.
    """

    family: str = "llama"
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context_size: int
    layers: tuple[LayerConfig, ...]
    norm_epsilon: float = 1e-6
    norms: str = "before"
    norm_type: str = field(default="rms", metadata=LATER)
    norm_bias: bool = field(default=False, metadata=LATER)
    norm_offset: float = 0.0  # Gemma stores norm weights less one
    query_key_norm: str | None = None
    norms_rotated: bool = field(default=False, metadata=LATER)
    norms_values: bool = field(default=False, metadata=LATER)
    activation: str = "silu"
    tie_embeddings: bool = False
    query_bias: bool = False  # on query, key and value
    output_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = field(default=False, metadata=LATER)
    has_gate: bool = field(default=True, metadata=LATER)  # in the feed-forward network
    clamped_gate: ClampedGate | None = field(default=None, metadata=LATER)
    has_fused_matrices: bool = False  # Phi-3 stores query, key, value as one, and gate, up as one
    experts: Experts | None = None
    attention_scale: float | None = None  # None: 1 / sqrt(head_dim)
    attention_softcap: float | None = None
    has_sink_scores: bool = field(default=False, metadata=LATER)  # one learned score a head beside those of its keys
    has_output_gate: bool = field(default=False, metadata=LATER)  # on what heads made, before the output matrix
    position_scale: PositionScale | None = field(default=None, metadata=LATER)
    latent: LatentAttention | None = field(default=None, metadata=LATER)
    mixer: Mixer | None = field(default=None, metadata=LATER)
    layer_inputs: LayerInputs | None = field(default=None, metadata=LATER)
    streams: Streams | None = field(default=None, metadata=LATER)
    has_layer_scale: bool = field(default=False, metadata=LATER)
    final_softcap: float | None = None
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    gate_scale: float = field(default=1.0, metadata=LATER)  # of the feed-forward network's gate, before its activation
    feed_forward_scale: float = field(default=1.0, metadata=LATER)  # of what the feed-forward network adds
    attention_out_scale: float = field(default=1.0, metadata=LATER)  # of what attention adds
    logits_divisor: float = 1.0
    eos_ids: tuple[int, ...] = field(default=())
    bos_id: int | None = None
    quantization: str | None = None  # how the checkpoint holds its matrices (N4); None for float

    def __post_init__(self):
        """Refuse sizes that cannot belong together."""
        for name in SIZES:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ModelError(f"config.json: {name} must be a positive integer, not {value!r}")
        if len(self.layers) != self.num_layers:
            raise ModelError(f"config.json: describes {len(self.layers)} layers, num_layers is {self.num_layers}")
        if self.mixer is None and any(layer.has_mixer for layer in self.layers):
            raise ModelError("config.json: has layers with a state and no sizes for them")
        for num_kv_heads, head_dim in {self.heads_of(index) for index in range(self.num_layers)}:
            if self.num_heads % num_kv_heads:
                raise ModelError(
                    f"config.json: {self.num_heads} heads cannot share {num_kv_heads} key-value heads evenly"
                )
            if head_dim % 2 and self.latent is None:
                raise ModelError(f"config.json: head_dim must be even for rotary positions, not {head_dim}")
        for layer in self.layers:
            if layer.rope and layer.rope.rotary_dim % 2:
                raise ModelError(f"config.json: the rotated part of a head must be even, not {layer.rope.rotary_dim}")
            if not isinstance(layer.sinks, int) or layer.sinks < 0:
                raise ModelError(f"config.json: attention_sink_size must be at least 0, not {layer.sinks!r}")

    def heads_of(self, index: int) -> tuple[int, int]:
        """A layer's key-value heads, and the features of each of its heads."""
        layer = self.layers[index]
        return layer.num_kv_heads or self.num_kv_heads, layer.head_dim or self.head_dim

    @property
    def kv_head_counts(self) -> list[int]:
        """The numbers of key-value heads that layers have, each once, in the order of the first such layer."""
        return list(dict.fromkeys(self.heads_of(index)[0] for index in range(self.num_layers)))

    @property
    def query_dim(self) -> int:
        """Features of a head's query before it is multiplied into the space of latents, if it is."""
        return self.latent.rotated_dim + self.latent.plain_dim if self.latent else self.head_dim

    @property
    def value_dim(self) -> int:
        """Features that a head gives to the output matrix."""
        return self.latent.value_dim if self.latent else self.head_dim

    @property
    def num_paged_layers(self) -> int:
        """Layers that store keys and values: those with attention, but to keys of their own."""
        return sum(layer.has_attention and layer.keys_of is None for layer in self.layers)

    @property
    def num_stateful_layers(self) -> int:
        """Layers with a state of fixed size (N14)."""
        return sum(layer.has_mixer for layer in self.layers)

    @property
    def state_bytes(self) -> int:
        """What the states of a sequence take, all layers together."""
        return 4 * self.num_stateful_layers * self.mixer.state_size if self.mixer else 0

    def places_in_cache(self, index: int) -> tuple[int, int]:
        """Which of the cache's layers of pages, and which of its states, are those of a layer that has such."""
        source = self.layers[index].keys_of
        storing = self.layers[: index if source is None else source]
        pages_at = sum(layer.has_attention and layer.keys_of is None for layer in storing)
        return pages_at, sum(layer.has_mixer for layer in self.layers[:index])

    @property
    def longest_context(self) -> int:
        """The most tokens that a server may be given as its context: dynamic positions stretch beyond the model's."""
        scalings = [layer.rope.scaling for layer in self.layers if layer.rope and layer.rope.scaling]
        stretched = [int(s.factor * s.original_context) for s in scalings if s.rope_type == "dynamic"]
        return max(self.context_size, min(stretched, default=0))

    @property
    def window(self) -> int | None:
        """How many of the latest tokens some layer attends to; None if a layer attends to all of them."""
        windows = [layer.window for layer in self.layers if layer.has_attention]
        found = [window for window in windows if window is not None]
        return max(found) if found and len(found) == len(windows) else None

    @property
    def sinks(self) -> int:
        """How many of the first tokens some layer attends to behind its window."""
        return max(layer.sinks for layer in self.layers)


def read_json(path: Path) -> dict:
    """Read a JSON object from a model directory; a ModelError names the file and what is wrong with it."""
    check_ordinary(path, MAX_JSON_BYTES)
    try:
        text = path.read_bytes()
        check_json(path, text)
        content = json.loads(text.decode("utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist") from None
    except (ValueError, RecursionError, OSError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} must hold a JSON object, not {type(content).__name__}")
    return content
