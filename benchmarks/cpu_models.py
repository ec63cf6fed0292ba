"""Random models of well-known shapes, as the CPU benchmark needs them: speed does not depend on what weights say.

Without the biases that Qwen has; each layer has memory of its own.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from reference.checkpoint import Checkpoint, FeedForward, Layer
from reference.config import LayerConfig, ModelConfig, Rope
from reference.quantization import GROUP_SIZE, QuantizedTensor
from reference.weights import Tensor

SHAPES = {
    "Qwen2.5-0.5B": {
        "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_layers": 24, "num_heads": 14,
        "num_kv_heads": 2, "head_dim": 64,
    },
    "Llama-3.2-1B": {
        "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_layers": 16, "num_heads": 32,
        "num_kv_heads": 8, "head_dim": 64,
    },
    "rehearsal": {
        "vocab_size": 320, "hidden_size": 256, "intermediate_size": 512, "num_layers": 2, "num_heads": 4,
        "num_kv_heads": 2, "head_dim": 64,
    },
}  # fmt: skip
CONTEXT_SIZE = 4096
BYTES_A_GROUP = {None: 2 * GROUP_SIZE, "w8a8": GROUP_SIZE + 2, "w4a8": GROUP_SIZE // 2 + 2}


@dataclass(frozen=True, slots=True, eq=False)
class RandomMatrix:
    """A matrix of bfloat16, or of random integers: to round them would take minutes."""

    weight: Tensor
    num_inputs: int
    bias: None = None

    def quantized(self, quantization: str) -> QuantizedTensor:
        """Random integers of that format."""
        outputs, groups = self.weight.shape[0], -(-self.num_inputs // GROUP_SIZE)
        low, high = (-127, 127) if quantization == "w8a8" else (-8, 7)
        integers = np.random.default_rng(1).integers(low, high, (outputs, groups, GROUP_SIZE), np.int8, endpoint=True)
        return QuantizedTensor(quantization, integers, np.full((outputs, groups), 1e-3, np.float16), self.num_inputs)


def config_of(name: str) -> ModelConfig:
    """The configuration of a shape."""
    sizes = SHAPES[name]
    layer = LayerConfig(rope=Rope(theta=500000.0, rotary_dim=sizes["head_dim"]))
    return ModelConfig(
        **sizes, layers=(layer,) * sizes["num_layers"], norm_epsilon=1e-5, context_size=CONTEXT_SIZE, eos_ids=(),
        tie_embeddings=True,
    )  # fmt: skip


@cache
def random_checkpoint(name: str) -> Checkpoint:
    """A model whose layers say the same; whoever packs it makes a copy of each."""
    config, random = config_of(name), np.random.default_rng(0)

    def matrix(outputs, inputs):
        values = random.standard_normal((outputs, inputs), np.float32) * np.float32(inputs**-0.5)
        return RandomMatrix(Tensor("random", "BF16", (values.view(np.uint32) >> 16).astype(np.uint16)), inputs)

    hidden, inner = config.hidden_size, config.intermediate_size
    norm = Tensor("norm", "F32", np.ones(hidden, np.float32))
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    layer = Layer(
        config=config.layers[0], attention_norm=norm, attention_out_norm=None, query=matrix(queries, hidden),
        key=matrix(keys, hidden), value=matrix(keys, hidden), output=matrix(hidden, queries), query_norm=None,
        key_norm=None, mlp_norm=norm, mlp_out_norm=None, router=None, experts=(),
        mlp=FeedForward(matrix(inner, hidden), matrix(inner, hidden), matrix(hidden, inner)),
    )  # fmt: skip
    embedding = matrix(config.vocab_size, hidden)
    return Checkpoint(embedding=embedding.weight, layers=(layer,) * config.num_layers, norm=norm, head=embedding)


def num_weights(name: str) -> int:
    """The weights that a token passes: all matrices and the head."""
    config = config_of(name)
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    layer = 2 * hidden * queries + 2 * hidden * keys + 3 * hidden * inner
    return config.num_layers * layer + config.vocab_size * hidden


def num_bytes(name: str, quantization: str | None) -> int:
    """What a step reads of weights and their scales."""
    return num_weights(name) * BYTES_A_GROUP[quantization] // GROUP_SIZE
