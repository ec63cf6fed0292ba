"""Random models of well-known shapes, generated fast: speed does not depend on the values of weights.

One layer is generated, and packed or uploaded for each layer, so that every layer has its own memory. Qwen's has no
biases.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from verbatim.reference.checkpoint.tensors import Checkpoint, FeedForward, Layer
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.numerics.block_weights import BlockedTensor
from verbatim.reference.numerics.quantization import BLOCKED_FORMATS, GROUP_SIZE, QuantizedTensor
from verbatim.reference.records.config import LayerConfig, ModelConfig
from verbatim.reference.records.rope import Rope

COMMON = {"context_size": 8192, "eos_ids": ()}
SHAPES = {
    "Qwen2.5-0.5B": {
        "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_layers": 24, "num_heads": 14,
        "num_kv_heads": 2, "head_dim": 64, "tie_embeddings": True,
    },
    "Llama-3.2-1B": {
        "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_layers": 16, "num_heads": 32,
        "num_kv_heads": 8, "head_dim": 64, "tie_embeddings": True,
    },
    "Llama-3.1-8B": {
        "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_layers": 32, "num_heads": 32,
        "num_kv_heads": 8, "head_dim": 128,
    },
    "rehearsal": {
        "vocab_size": 200, "hidden_size": 64, "intermediate_size": 96, "num_layers": 2, "num_heads": 4,
        "num_kv_heads": 2, "head_dim": 16, "context_size": 512,
    },
}  # fmt: skip
BYTES_A_GROUP = {  # a block's float32 scale is half a byte a group
    None: 2 * GROUP_SIZE, "w8a8": GROUP_SIZE + 2, "w4a8": GROUP_SIZE // 2 + 2, "w16a16": 2 * GROUP_SIZE + 0.5,
    "w8a16": GROUP_SIZE + 0.5, "w8a8-256": GROUP_SIZE + 0.5, "w4a16": GROUP_SIZE // 2 + 1.5,
    "w4a8-256": GROUP_SIZE // 2 + 1.5,
}  # fmt: skip


def config_of(name: str) -> ModelConfig:
    """The configuration of a shape."""
    sizes = COMMON | SHAPES[name]
    rope = Rope(theta=500000.0, rotary_dim=sizes["head_dim"])
    return ModelConfig(**sizes, layers=(LayerConfig(rope=rope),) * sizes["num_layers"], norm_epsilon=1e-5)


@dataclass(frozen=True, slots=True, eq=False)
class RandomMatrix:
    """A matrix of bfloat16 or of random integers; rounding floats would take minutes for large models."""

    weight: Tensor
    num_inputs: int
    bias: None = None

    def format(self, quantization: str | None) -> str | None:
        """As a checkpoint's float matrix."""
        return quantization

    def quantized(self, quantization: str) -> QuantizedTensor | BlockedTensor:
        """Random integers in that format, like Matrix.quantized."""
        outputs, groups = self.weight.shape[0], -(-self.num_inputs // GROUP_SIZE)
        if quantization in BLOCKED_FORMATS:
            return self._blocked(quantization, (outputs, groups, GROUP_SIZE))
        low, high = (-127, 127) if quantization == "w8a8" else (-8, 7)
        integers = np.random.default_rng(1).integers(low, high, (outputs, groups, GROUP_SIZE), np.int8, endpoint=True)
        return QuantizedTensor(quantization, integers, np.full((outputs, groups), 1e-3, np.float16), self.num_inputs)

    def _blocked(self, quantization: str, shape: tuple[int, int, int]) -> BlockedTensor:
        random, bits = np.random.default_rng(1), int(quantization[1 : quantization.index("a")])
        bound, dtype = (2000, np.int16) if bits == 16 else (2 ** (bits - 1) - 1, np.int8)
        integers = random.integers(-bound, bound, shape, dtype, endpoint=True)
        scales = np.full((shape[0], -(-shape[1] // 8)), 0.05 / bound, np.float32)
        multipliers = random.integers(8, 15, shape[:2], np.int8, endpoint=True) if bits == 4 else None
        return BlockedTensor(
            format=quantization, integers=integers, scales=scales / np.float32(12 if bits == 4 else 1),
            num_inputs=self.num_inputs, multipliers=multipliers,
        )  # fmt: skip


@cache
def random_checkpoint(config: ModelConfig, seed: int = 0) -> Checkpoint:
    """A model whose layers are equal."""
    random, hidden = np.random.default_rng(seed), config.hidden_size

    def matrix(outputs, inputs):
        values = random.standard_normal((outputs, inputs), np.float32)
        values *= np.float32(inputs**-0.5)
        return RandomMatrix(Tensor("random", "BF16", (values.view(np.uint32) >> 16).astype(np.uint16)), inputs)

    norm = Tensor("norm", "F32", np.ones(hidden, np.float32))
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    inner = config.intermediate_size
    layer = Layer(
        config=config.layers[0], attention_norm=norm, attention_out_norm=None, query=matrix(queries, hidden),
        key=matrix(keys, hidden), value=matrix(keys, hidden), output=matrix(hidden, queries), query_norm=None,
        key_norm=None, mlp_norm=norm, mlp_out_norm=None, router=None, experts=(),
        mlp=FeedForward(matrix(inner, hidden), matrix(inner, hidden), matrix(hidden, inner)),
    )  # fmt: skip
    embedding = matrix(config.vocab_size, hidden)
    head = embedding if config.tie_embeddings else matrix(config.vocab_size, hidden)
    return Checkpoint(embedding=embedding.weight, layers=(layer,) * config.num_layers, norm=norm, head=head)


def num_weights(config: ModelConfig) -> int:
    """The number of weights that a token uses: all matrices and the head."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    layer = 2 * hidden * queries + 2 * hidden * keys + 3 * hidden * inner
    return config.num_layers * layer + config.vocab_size * hidden


def num_bytes(config: ModelConfig, quantization: str | None) -> int:
    """Bytes of weights and scales that a step reads."""
    return int(num_weights(config) * BYTES_A_GROUP[quantization]) // GROUP_SIZE
