"""Medusa heads on a device: fastpath/speculation/medusa.pyx as launches. Logits are copied to the host."""

import numpy as np

from verbatim.fastpath.gpu.packing import pack
from verbatim.fastpath.gpu.weights import Uploads


class MedusaHeads(Uploads):
    """Medusa heads with their weights on the device, in their stored dtype."""

    def __init__(self, device, checkpoint):
        super().__init__(device)
        self.blocks = [[self.upload(pack([block])) for block in head] for head in checkpoint.blocks]
        self.outputs = [self.upload(pack([output])) for output in checkpoint.outputs]

    def __len__(self) -> int:
        return len(self.blocks)

    def score(self, states, count: int, model) -> np.ndarray:
        """Logits float32 (count, rows, vocab) of the first `count` heads over states (rows, hidden) of the model."""
        rows, config, ops = len(states), model.config, model.operations
        at = model.place(np.tile(np.asarray(states, np.float32), (count, 1)))
        heads = [at["normed"] + 4 * head * rows * config.hidden_size for head in range(count)]
        for x, blocks in zip(heads, self.blocks, strict=False):
            for block in blocks:
                ops.linear(block, x, 0, at["projected"], rows=rows)
                ops.add_silu(x, at["projected"], count=rows * config.hidden_size)
        for head, (x, output) in enumerate(zip(heads, self.outputs, strict=False)):
            ops.linear(output, x, 0, at["logits"] + 4 * head * rows * config.vocab_size, rows=rows)
        found = model.fetch_logits(at, count * rows, is_scored=bool(self.outputs))
        return found.reshape(count, rows, -1)
