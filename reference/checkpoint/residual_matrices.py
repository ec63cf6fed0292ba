"""The tensors of inputs of layers (N9b), of several streams (N9c), and of experts beside a dense network (N9).

Names are those of Gemma 3n and 4. Where norms and constant factors follow one another, the weight of the norm takes the
factor over: it is rounded once, here.
"""

from typing import Any

import numpy as np

from verbatim.reference.checkpoint.layer_reader import LayerReader
from verbatim.reference.checkpoint.tensors import BranchTensors, InputMatrices, Matrix, StreamMatrices, TokenInputs
from verbatim.reference.checkpoint.weights import Tensor, Weights
from verbatim.reference.records.config import ModelConfig
from verbatim.reference.records.experts import Experts
from verbatim.reference.records.residuals import LayerInputs, Streams


def read_residuals(config: ModelConfig, reader: LayerReader) -> dict[str, Any]:
    """What a layer has of these, as fields of a Layer."""
    found: dict[str, Any] = {}
    if config.layer_inputs:
        found["inputs"] = _layer_inputs(config.layer_inputs, reader)
    if config.streams:
        found["streams"] = _streams(config.streams, reader)
    if config.has_layer_scale:
        found["scale"] = reader.tensor("layer_scalar", 1)
    return found


def read_model(config: ModelConfig, weights: Weights, stem: str) -> dict[str, Any]:
    """What a model has of these beside its layers, as fields of a Checkpoint; `stem` precedes all names."""
    found: dict[str, Any] = {}
    if config.layer_inputs:
        found["inputs"] = _token_inputs(config, config.layer_inputs, weights, stem)
    if config.streams:
        numbers = range(config.streams.count - 1)
        for field, name in (("streams_in", "altup_projections"), ("streams_out", "altup_unembed_projections")):
            found[field] = tuple(_square(config, weights, f"{stem}{name}.{i}.weight") for i in numbers)
    return found


def read_branch(experts: Experts, reader: LayerReader) -> BranchTensors:
    """The norms and factors of experts beside a dense network."""
    hidden = reader.config.hidden_size
    return BranchTensors(
        router_norm=_times(reader.tensor("router.scale", hidden), float(hidden) ** -0.5),
        norm=reader.vector("pre_feedforward_layernorm_2", hidden),
        out_norm=reader.vector("post_feedforward_layernorm_2", hidden),
        dense_out_norm=reader.vector("post_feedforward_layernorm_1", hidden),
        factors=reader.tensor("router.per_expert_scale", experts.num_experts),
    )


def _layer_inputs(settings: LayerInputs, reader: LayerReader) -> InputMatrices:
    hidden = reader.config.hidden_size
    return InputMatrices(
        gate=reader.matrix("per_layer_input_gate", settings.size, hidden),
        projection=reader.matrix("per_layer_projection", hidden, settings.size),
        norm=reader.vector("post_per_layer_input_norm", hidden),
    )


def _streams(settings: Streams, reader: LayerReader) -> StreamMatrices:
    hidden, count, rank = reader.config.hidden_size, settings.count, settings.laurel_rank
    return StreamMatrices(
        router_norm=_times(reader.vector("altup.router_norm", hidden), 1.0 / hidden),
        router=reader.float_matrix("altup.modality_router", count),
        predictions=reader.float_matrix("altup.prediction_coefs", count * count, count),
        corrections=reader.float_matrix("altup.correction_coefs", count, count),
        scale=reader.tensor("altup.correct_output_scale", hidden) if settings.scales_inputs else None,
        left=reader.matrix("laurel.linear_left", rank, hidden),
        right=reader.matrix("laurel.linear_right", hidden, rank),
        norm=reader.vector("laurel.post_laurel_norm", hidden),
    )


def _token_inputs(config: ModelConfig, settings: LayerInputs, weights: Weights, stem: str) -> TokenInputs:
    size, hidden = config.num_layers * settings.size, config.hidden_size
    projection = weights.get(f"{stem}per_layer_model_projection.weight", (size, hidden))
    return TokenInputs(
        embedding=weights.get(f"{stem}embed_tokens_per_layer.weight", (settings.vocab_size, size)),
        projection=Matrix(weight=projection, num_inputs=hidden),
        norm=weights.get(f"{stem}per_layer_projection_norm.weight", (settings.size,)),
    )


def _square(config: ModelConfig, weights: Weights, name: str) -> Matrix:
    hidden = config.hidden_size
    return Matrix(weight=weights.get(name, (hidden, hidden)), num_inputs=hidden)


def _times(tensor: Tensor, factor: float) -> Tensor:
    """A norm's weight times a constant, each rounded to float32."""
    return Tensor(f"{tensor.name}[scaled]", "F32", tensor.float32() * np.float32(factor))
