"""The tensors of a GGUF file under the names that the model's family has elsewhere."""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from verbatim.reference.checkpoint.families import family_named
from verbatim.reference.checkpoint.families.family import NORM_NAMES
from verbatim.reference.checkpoint.gguf.delta_nets import delta_tensor
from verbatim.reference.checkpoint.gguf.header import Entry
from verbatim.reference.checkpoint.gguf.latents import MATRICES as LATENT_MATRICES
from verbatim.reference.checkpoint.gguf.shapes import EMBEDDING
from verbatim.reference.checkpoint.gguf.state_spaces import state_space_tensor
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.gated_delta import GatedDelta

LAYER = re.compile(r"blk\.(\d{1,6})\.(.+)\.(weight|bias)")
BARE_NORM = re.compile(r"blk\.\d{1,6}\.ffn_norm")  # of Falcon H1, whose name has no ending
SINGLE_EXPERT = re.compile(r"ffn_(gate|up|down)\.(\d{1,6})")  # as files had them before 2024
READ_ELSEWHERE = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")  # shapes.py
NORMS = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")  # in the order of NORM_NAMES
MATRICES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
PARTS = ("gate", "up", "down")
WHOLE_NAMES = ("attn_sinks", "exp_probs_b")  # which do not end in weight or bias elsewhere


def rename(config: ModelConfig, entries: Mapping[str, Entry], *, has_pairs: bool) -> dict[str, Tensor]:
    """Name -> tensor; stacked experts come apart, nothing is copied. ModelError for a tensor that has no use.

    With `has_pairs` the rows of queries and keys are marked as pairs, which `Weights.get` puts in order.
    """
    names = _Names(config, has_pairs=has_pairs)
    tensors: dict[str, Tensor] = {}
    for name, entry in entries.items():
        for tensor in names.of(name, entry):
            tensors[tensor.name] = tensor
    return tensors


class _Names:
    def __init__(self, config: ModelConfig, *, has_pairs: bool):
        self.config, self.family, self.has_pairs = config, family_named(config.family), has_pairs
        known, experts = self.family.names, self.family.experts
        self.outer = {
            EMBEDDING: f"model.{known.get('embed_tokens', 'embed_tokens')}.weight",
            "output_norm.weight": f"model.{known.get('norm', 'norm')}.weight",
            "output_norm.bias": f"model.{known.get('norm', 'norm')}.bias",
            "output.weight": f"{known.get('lm_head', 'lm_head')}.weight",
            "output.bias": f"{known.get('lm_head', 'lm_head')}.bias",
        }
        norms = zip(NORMS, NORM_NAMES[config.norms], strict=True)
        self.inner = MATRICES | {theirs: ours for theirs, ours in norms if ours}
        self.has_delta_nets = isinstance(config.mixer, GatedDelta)
        if config.family in ("seed_oss", "gpt_oss") or self.has_delta_nets:  # llama.cpp's name for it in these families
            self.inner["post_attention_norm"] = self.inner.pop("ffn_norm")
        if config.has_fused_matrices or (self.family.has_fused_gate and not experts.is_shared_network):
            self.inner["ffn_up"] = "mlp.gate_up_proj"
        self.inner = {theirs: known.get(ours, ours) for theirs, ours in self.inner.items()}
        if config.latent:
            self.inner |= LATENT_MATRICES
        self.inner["attn_sinks"] = "self_attn.sinks"
        self.inner["exp_probs_b"] = experts.part + experts.score_bias
        self.inner["ffn_gate_inp"] = experts.part + experts.router
        self.inner["ffn_gate_inp_shexp"] = experts.part + experts.shared_gate
        self.expert = {"gate": experts.gate, "up": experts.up, "down": experts.down}
        for part in PARTS:
            shared = f"{experts.part}{experts.shared}.{self.expert[part]}"
            network = known.get(f"mlp.{part}_proj", f"mlp.{part}_proj")
            self.inner[f"ffn_{part}_shexp"] = network if experts.is_shared_network else shared

    def of(self, name: str, entry: Entry) -> Iterator[Tensor]:
        """What a stored tensor becomes."""
        if name in self.outer:
            yield Tensor(self.outer[name], entry.format, entry.bits())
            return
        of_states = delta_tensor(name, entry) if self.has_delta_nets else None
        if found := of_states or state_space_tensor(name, entry, self.family.names):
            yield found
            return
        match = LAYER.fullmatch(f"{name}.weight" if BARE_NORM.fullmatch(name) else name)
        if match is None:
            if name not in READ_ELSEWHERE:
                raise ModelError(f"weights: tensor {name} is not known for the family {self.config.family}")
            return
        prefix, inner, ending = f"model.layers.{int(match[1])}.", match[2], match[3]
        if inner in ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"):
            yield from self._stack(prefix, inner.split("_")[1], ending, entry)
        elif single := SINGLE_EXPERT.fullmatch(inner):
            yield Tensor(self._expert_name(prefix, int(single[2]), single[1], ending), entry.format, entry.bits())
        elif inner == "attn_qkv" and not self.config.has_fused_matrices:
            yield from self._apart(prefix, ending, entry)
        elif inner in self.inner:
            bits = entry.bits()
            if inner == "ffn_gate_inp_shexp" and len(entry.shape) == 1:
                bits = bits[None]
            if inner == "exp_probs_b" and self.family.experts.score_bias_rows:
                bits = bits[None]
            name = f"{prefix}{self.inner[inner]}{'' if inner in WHOLE_NAMES else '.' + ending}"
            yield Tensor(name, entry.format, bits, self._num_pairs(inner))
        else:
            raise ModelError(f"weights: tensor {name} is not known for the family {self.config.family}")

    def _num_pairs(self, inner: str) -> int:
        """Heads of queries or keys whose rows lie in pairs, 0 for none."""
        heads = {"attn_q": self.config.num_heads, "attn_k": self.config.num_kv_heads}
        return heads.get(inner, 0) if self.has_pairs else 0

    def _stack(self, prefix: str, part: str, ending: str, entry: Entry) -> Iterator[Tensor]:
        if len(entry.shape) != (3 if ending == "weight" else 2):
            what = "matrix" if ending == "weight" else "bias"
            raise ModelError(f"weights: tensor {entry.name} must hold a {what} of each expert, not {entry.shape}")
        bits = entry.bits()
        for index in range(entry.shape[0]):
            yield Tensor(self._expert_name(prefix, index, part, ending), entry.format, bits[index])

    def _expert_name(self, prefix: str, index: int, part: str, ending: str) -> str:
        return f"{prefix}{self.family.experts.part}experts.{index}.{self.expert[part]}.{ending}"

    def _apart(self, prefix: str, ending: str, entry: Entry) -> Iterator[Tensor]:
        """Query, key and value of one matrix, for a family that has them apart."""
        sizes = np.array([self.config.num_heads, *[self.config.num_kv_heads] * 2]) * self.config.head_dim
        if entry.shape[0] != sizes.sum():
            raise ModelError(f"weights: tensor {entry.name} has {entry.shape[0]} rows, not {sizes.sum()}")
        start, bits = 0, entry.bits()
        for part, size in zip(("attn_q", "attn_k", "attn_v"), sizes.tolist(), strict=True):
            rows = bits[start : start + size]
            yield Tensor(f"{prefix}{self.inner[part]}.{ending}", entry.format, rows, self._num_pairs(part))
            start += size
