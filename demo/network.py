"""The Llama architecture in PyTorch, only as much of it as training needs.

The names of the parameters are those of Hugging Face, so that the weights are exported as they are.
"""

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional


@dataclass
class Shape:
    """The sizes of a network, named as in Hugging Face's config.json."""

    vocab_size: int
    hidden_size: int = 192
    intermediate_size: int = 512
    num_hidden_layers: int = 8
    num_attention_heads: int = 6
    num_key_value_heads: int = 2
    head_dim: int = 32
    max_position_embeddings: int = 2048
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5

    def config(self, bos=1, eos=2):
        """config.json as Hugging Face's LlamaConfig writes it."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            **asdict(self),
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "mlp_bias": False,
            "rope_scaling": None,
            "initializer_range": 0.02,
            "pretraining_tp": 1,
            "tie_word_embeddings": True,
            "use_cache": True,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "pad_token_id": 0,
            "torch_dtype": "bfloat16",
        }


DRAFT_SIZES = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
}


class Norm(nn.Module):
    """RMSNorm."""

    def __init__(self, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.hidden_size))
        self.eps = shape.rms_norm_eps

    def forward(self, x):
        """Scales every position to a mean square of one."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


def rotations(shape, length):
    """Cosines and sines of every position, each half of a head turning by the same angles."""
    speeds = shape.rope_theta ** (-torch.arange(0, shape.head_dim, 2) / shape.head_dim)
    angles = torch.outer(torch.arange(length), speeds).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(x, cosines, sines):
    """Turns the pairs (first half, second half) of every head."""
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat([-second, first], dim=-1) * sines


def attend(queries, keys, values, block=128):
    """Causal attention, `block` queries at a time: on a CPU twice as fast as PyTorch's own for such short rows."""
    queries, length, mixed = queries * queries.shape[-1] ** -0.5, queries.shape[2], []
    later = queries.new_full((block, block), float("-inf")).triu(1)
    for start in range(0, length, block):
        end = min(start + block, length)
        scores = queries[:, :, start:end] @ keys[:, :, :end].transpose(-1, -2)
        scores[..., start:] += later[: end - start, : end - start]
        mixed.append(scores.softmax(-1) @ values[:, :, :end])
    return torch.cat(mixed, 2)


class Attention(nn.Module):
    """Causal attention in which several query heads share one key-value head."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        queries, keys = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, shape.hidden_size, bias=False)

    def forward(self, x, cosines, sines):
        """Mixes in what earlier positions hold."""
        batch, length, _ = x.shape
        q, k, v = (
            project(x).view(batch, length, -1, self.shape.head_dim).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, cosines, sines).to(v.dtype), rotate(k, cosines, sines).to(v.dtype)
        shared = self.shape.num_attention_heads // self.shape.num_key_value_heads
        k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
        mixed = attend(q, k, v)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, shape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x):
        """Works on every position by itself."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Attention and MLP, each added to what comes in."""

    def __init__(self, shape):
        super().__init__()
        self.input_layernorm, self.self_attn = Norm(shape), Attention(shape)
        self.post_attention_layernorm, self.mlp = Norm(shape), MLP(shape)

    def forward(self, x, cosines, sines):
        """One layer further."""
        x = x + self.self_attn(self.input_layernorm(x), cosines, sines)
        return x + self.mlp(self.post_attention_layernorm(x))


class Network(nn.Module):
    """Token ids in, the last layer's normed state out; `score` turns it into logits."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = Norm(shape)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                last = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=0.05 / ((2 * shape.num_hidden_layers) ** 0.5 if last else 1))
        cosines, sines = rotations(shape, shape.max_position_embeddings)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)

    def forward(self, ids):
        """The normed states of the last layer."""
        x = self.embed_tokens(ids)
        cosines, sines = self.cosines[: ids.shape[1]], self.sines[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, cosines, sines)
        return self.norm(x)

    def score(self, x):
        """Logits of states; the output layer is the embedding again."""
        return x @ self.embed_tokens.weight.T

    def exported(self):
        """The weights in bfloat16 under Hugging Face's names; the output layer is the embedding again."""
        state = self.state_dict().items()
        return {f"model.{name}": weight.detach().to(torch.bfloat16).contiguous() for name, weight in state}
