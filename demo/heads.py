"""Medusa and Eagle heads in PyTorch, for training only.

The input of both is the demo model's normed last state; its output layer computes their logits. The names of the
parameters are those of the papers' own checkpoints (https://arxiv.org/abs/2401.10774,
https://arxiv.org/abs/2401.15077).
"""

from dataclasses import asdict

import torch
from torch import nn
from torch.nn import functional

from verbatim.demo.network import Layer, rotations

MEDUSA_HEADS, MEDUSA_BLOCKS = 3, 2
EAGLE_PASSES = 2  # the second pass continues from the states that the first has predicted, as in use


class Residual(nn.Module):
    """x + silu(linear(x)); it begins as x itself."""

    def __init__(self, size):
        super().__init__()
        self.linear = nn.Linear(size, size)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x):
        """The block's output."""
        return x + functional.silu(self.linear(x))


class Medusa(nn.Module):
    """Head i predicts, from the state of a token, the token i + 2 positions later."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        heads = ([Residual(shape.hidden_size) for _ in range(MEDUSA_BLOCKS)] for _ in range(MEDUSA_HEADS))
        self.medusa_head = nn.ModuleList(nn.Sequential(*head) for head in heads)

    def config(self):
        """config.json."""
        return {
            "model_type": "medusa",
            "medusa_num_heads": MEDUSA_HEADS,
            "medusa_num_layers": MEDUSA_BLOCKS,
            "hidden_size": self.shape.hidden_size,
            "vocab_size": self.shape.vocab_size,
            "torch_dtype": "bfloat16",
        }

    def loss(self, network, ids, states, spoken):
        """Cross-entropy of the assistant's words, each predicted from 2, 3, ... words before."""
        losses = []
        for ahead, head in enumerate(self.medusa_head, start=2):
            wanted = spoken[:, 1 : 1 - ahead] & spoken[:, ahead:]  # the word in between is the assistant's too
            predicted = network.score(head(states[:, :-ahead][wanted]))
            losses.append(functional.cross_entropy(predicted.float(), ids[:, ahead:][wanted]))
        return sum(losses) / len(losses)


class Eagle(nn.Module):
    """From a state and the token drawn from it, the state that comes next: one decoder layer over the two."""

    def __init__(self, shape):
        super().__init__()
        self.shape, hidden = shape, shape.hidden_size
        self.fc = nn.Linear(2 * hidden, hidden)
        self.layers = nn.ModuleList([Layer(shape)])
        self.layers[0].input_layernorm = nn.Identity()
        cosines, sines = rotations(shape, shape.max_position_embeddings)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)

    def config(self):
        """config.json: the decoder's, of one layer."""
        return asdict(self.shape) | {
            "architectures": ["EagleLlamaForCausalLM"], "model_type": "eagle", "num_hidden_layers": 1,
            "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "bias": True, "torch_dtype": "bfloat16",
        }  # fmt: skip

    def forward(self, embedded, states):
        """The states that follow, (batch, tokens, hidden), if these tokens are drawn from these states."""
        length = embedded.shape[1]
        x = self.fc(torch.cat([embedded, states], -1))
        return self.layers[0](x, self.cosines[:length], self.sines[:length])

    def loss(self, network, ids, states, spoken):
        """The distance of predicted states from the model's own, and of their distributions from the model's."""
        embedded = network.embed_tokens(ids[:, 1:-1])
        wanted = spoken[:, 1:-1] & spoken[:, 2:]
        true = states[:, 1:-1][wanted]
        likely = network.score(true).float().softmax(-1)
        given, losses = states[:, :-2], []
        for _ in range(EAGLE_PASSES):
            predicted = self(embedded, given)
            scores = network.score(predicted[wanted]).float()
            losses += [functional.cross_entropy(scores, likely), functional.smooth_l1_loss(predicted[wanted], true)]
            given = torch.cat([states[:, :1], predicted[:, :-1].detach()], 1)
        return sum(losses) / EAGLE_PASSES
