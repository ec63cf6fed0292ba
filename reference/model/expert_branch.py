"""Mirrored. Experts beside a dense network (N9): both take the same residual, each with norms of its own (Gemma 4)."""

from typing import Any

import numpy as np

from verbatim.reference.checkpoint.tensors import BranchTensors
from verbatim.reference.model.experts import mix
from verbatim.reference.model.layers import Linear, Network, Norm
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.experts import Experts


class ExpertBranch:
    """The norms around experts and router, and the factors of the experts' weights."""

    def __init__(self, config: ModelConfig, stored: BranchTensors):
        norms = stored.router_norm, stored.norm, stored.out_norm, stored.dense_out_norm
        self.router_norm, self.norm, self.out_norm, self.dense_out_norm = (Norm(config, norm) for norm in norms)
        self.factors = stored.factors.float32()

    def add(
        self, dense: np.ndarray, x: np.ndarray, router: Linear, experts: list[Network], settings: Experts, show: Any
    ) -> np.ndarray:
        """What experts make of the residual x (tokens, hidden), added to what the dense network gave, both normed."""
        scores = show("router", router(self.router_norm(x)))
        mixed = show("experts", mix(self.norm(x), scores, experts, settings, factors=self.factors))
        return self.dense_out_norm(dense) + self.out_norm(mixed)
