"""The parameters of an MLC artifact under the names that the model's family has elsewhere.

MLC keeps query, key and value as one matrix, so gate and up, and the experts of a layer as a stack. Rows of the one are
the others: nothing is copied.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from verbatim.reference.checkpoint.families import family_named
from verbatim.reference.checkpoint.mlc.formats import AUTO_AWQ, ENDS, FLOAT, read_matrix
from verbatim.reference.checkpoint.quantized.parts import Parts
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.errors import ModelError

LAYER = re.compile(r"(?:model\.layers|transformer\.h)\.(\d{1,6})\.(.+)")
PRESHARDED = re.compile(r"_shard-\d+$")
QUERY_KEY_VALUE = (
    "self_attn.qkv_proj",
    "self_attn.c_attn",
    "self_attn.wqkv_pack",
    "mixer.qkv_proj",
    "mixer.Wqkv",
    "attention.wqkv",
)
GATE_AND_UP = ("mlp.gate_up_proj", "mlp.shared_expert.gate_up_proj", "feed_forward.gate_up_proj")
STACKED_GATES, STACKED_DOWNS = ("moe.e1_e3", "mlp.moe_gate_up_proj"), ("moe.e2", "mlp.moe_down_proj")
ROUTER = "moe.gate"  # of Mixtral
INNER = {  # names within a layer -> Llama's
    "mixer.out_proj": "self_attn.o_proj", "ln": "input_layernorm", "mlp.fc1": "mlp.up_proj", "mlp.fc2": "mlp.down_proj",
    "mlp.c_fc": "mlp.up_proj", "mlp.c_proj": "mlp.down_proj", "attention.wo": "self_attn.o_proj",
    "feed_forward.w2": "mlp.down_proj", "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip
OUTER = {  # names outside of the layers -> Llama's
    "model.embed_tokens": "model.embed_tokens", "transformer.embd": "model.embed_tokens",
    "model.tok_embeddings": "model.embed_tokens",
    "transformer.norm": "model.norm", "lm_head.ln": "model.norm", "model.norm": "model.norm",
    "lm_head.linear": "lm_head", "output": "lm_head", "lm_head": "lm_head",
}  # fmt: skip


class Names:
    """Gives tensors their names; `quantization` is that of mlc-chat-config.json."""

    def __init__(self, config: ModelConfig, quantization: str):
        self.config, self.quantization = config, quantization
        self.family = family_named(config.family)
        self.ends = () if quantization in FLOAT else ENDS[quantization == AUTO_AWQ]

    def rename(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """All tensors; ModelError for one that has no use."""
        tensors: dict[str, Tensor] = {}
        for name, tensor in self._matrices(stored):
            for found in self._of(name.removeprefix("language_model."), tensor):
                if found.name in tensors:
                    raise ModelError(f"weights: tensor {found.name} is there twice")
                tensors[found.name] = found
        return tensors

    def _matrices(self, stored: dict[str, Tensor]) -> Iterator[tuple[str, list[Tensor]]]:
        """Names as in the float model, and each tensor; of a stack of experts all matrices."""
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in stored.items():
            if PRESHARDED.search(name):
                raise ModelError(
                    f"weights: tensor {name} is a part for one of several GPUs: convert the weights without shards"
                )
            stem, _, end = name.rpartition(".")
            if end in self.ends:
                parts.setdefault(stem, {})[end] = tensor
            else:
                is_stack = tensor.bits.ndim == 3
                yield name, [replace(tensor, bits=bits) for bits in tensor.bits] if is_stack else [tensor]
        for stem, found in parts.items():
            yield f"{stem}.weight", self._quantized(stem, found)

    def _quantized(self, stem: str, found: dict[str, Tensor]) -> list[Tensor]:
        if missing := [end for end in self.ends if end not in found]:
            raise ModelError(f"weights: tensor {stem}.{missing[0]} is missing")
        shapes = {tensor.bits.shape[0] for tensor in found.values() if tensor.bits.ndim == 3}
        if len(shapes) > 1 or (shapes and any(tensor.bits.ndim != 3 for tensor in found.values())):
            raise ModelError(f"weights: the tensors of {stem} are for different numbers of experts")
        stacks = [found] if not shapes else [
            {end: replace(tensor, bits=tensor.bits[i]) for end, tensor in found.items()} for i in range(min(shapes))
        ]  # fmt: skip
        is_row_major = bool(shapes) or OUTER.get(stem.removeprefix("language_model.")) == "model.embed_tokens"
        num_inputs = self._num_inputs(stem)
        return [
            read_matrix(self.quantization, Parts(stem, part), num_inputs, is_row_major=is_row_major) for part in stacks
        ]

    def _num_inputs(self, stem: str) -> int:
        """The inputs of a matrix, which words do not tell where its last group is short."""
        config, experts = self.config, self.config.experts
        match = LAYER.fullmatch(stem.removeprefix("language_model."))
        inner = match[2] if match else ""
        if INNER.get(inner, inner) == "self_attn.o_proj":
            return config.num_heads * config.head_dim
        if experts is not None and inner in STACKED_DOWNS:
            return experts.intermediate_size
        if experts is not None and inner == "mlp.shared_expert.down_proj":
            return experts.shared_size
        return config.intermediate_size if INNER.get(inner, inner) == "mlp.down_proj" else config.hidden_size

    def _of(self, name: str, tensors: list[Tensor]) -> Iterator[Tensor]:
        """What a parameter becomes."""
        stem, _, end = name.rpartition(".")
        known = self.family.names
        if stem in OUTER:
            outer, _, last = OUTER[stem].rpartition(".")
            yield _named(f"{outer}{'.' * bool(outer)}{known.get(last, last)}.{end}", tensors[0])
            return
        match = LAYER.fullmatch(stem)
        if match is None:
            raise ModelError(f"weights: tensor {name} is not known for the family {self.config.family}")
        prefix, inner, part = f"model.layers.{int(match[1])}.", match[2], self.family.experts.part
        if inner in STACKED_GATES:
            for i, tensor in enumerate(tensors):
                yield from self._halves(f"{prefix}{part}experts.{i}.", end, tensor)
        elif inner in STACKED_DOWNS:
            for i, tensor in enumerate(tensors):
                yield _named(f"{prefix}{part}experts.{i}.{self.family.experts.down}.{end}", tensor)
        elif inner in QUERY_KEY_VALUE and not self.config.has_fused_matrices:
            yield from self._attention(prefix, end, tensors[0])
        elif inner in GATE_AND_UP and not self.config.has_fused_matrices:
            yield from self._gate_and_up(prefix, inner, end, tensors[0])
        else:
            inner = "self_attn.qkv_proj" if inner in QUERY_KEY_VALUE else INNER.get(inner, inner)
            inner = part + self.family.experts.router if inner == ROUTER else known.get(inner, inner)
            yield _named(f"{prefix}{inner}.{end}", tensors[0])

    def _attention(self, prefix: str, end: str, tensor: Tensor) -> Iterator[Tensor]:
        config = self.config
        sizes = [size * config.head_dim for size in (config.num_heads, config.num_kv_heads, config.num_kv_heads)]
        _check_rows(tensor, sum(sizes))
        start = 0
        for inner, size in zip(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), sizes, strict=True):
            yield _named(f"{prefix}{self.family.names.get(inner, inner)}.{end}", tensor.rows(start, start + size))
            start += size

    def _gate_and_up(self, prefix: str, inner: str, end: str, tensor: Tensor) -> Iterator[Tensor]:
        if "shared_expert" in inner:
            yield from self._halves(f"{prefix}{self.family.experts.part}{self.family.experts.shared}.", end, tensor)
            return
        names = self.family.names
        gate, up = (f"{prefix}{names.get(name, name)}" for name in ("mlp.gate_proj", "mlp.up_proj"))
        yield from _cut(tensor, f"{gate}.{end}", f"{up}.{end}")

    def _halves(self, prefix: str, end: str, tensor: Tensor) -> Iterator[Tensor]:
        known = self.family.experts
        yield from _cut(tensor, f"{prefix}{known.gate}.{end}", f"{prefix}{known.up}.{end}")


def _cut(tensor: Tensor, first: str, second: str) -> Iterator[Tensor]:
    middle = tensor.shape[0] // 2
    _check_rows(tensor, 2 * middle)
    yield _named(first, tensor.rows(0, middle))
    yield _named(second, tensor.rows(middle, 2 * middle))


def _check_rows(tensor: Tensor, wanted: int) -> None:
    if tensor.shape[0] != wanted:
        raise ModelError(f"weights: tensor {tensor.name} has {tensor.shape[0]} rows, not {wanted}")


def _named(name: str, tensor: Tensor) -> Tensor:
    return replace(tensor, name=name)
