"""A checkpoint on the GPU: each layer's matrices and vectors, packed and uploaded."""

from dataclasses import dataclass, replace

import numpy as np

from verbatim.fastpath.gpu.formats import FLOATS
from verbatim.fastpath.gpu.matrices import NOTHING, DeviceMatrix, Joined
from verbatim.fastpath.gpu.packing import pack, pack_joined, pack_stacks
from verbatim.reference.checkpoint.tensors import Matrix
from verbatim.reference.numerics.rotary import position_scales, rotary_table

NORMS = ("attention_norm", "attention_out_norm", "query_norm", "key_norm", "mlp_norm", "mlp_out_norm")
BIASES = ("attention_norm_bias", "mlp_norm_bias")
LOG2E, ONE = np.float32(1.4426950408889634), np.float32(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """A feed-forward network, or one expert: gate, where there is one, and up side by side, then down."""

    gate_and_up: Joined
    down: Joined

    @property
    def intermediate(self) -> int:
        """The intermediate dimension."""
        return self.down.inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLayer:
    """The device addresses of a layer; norms' weights and biases by name, 0 for those that the family does not have."""

    norms: dict[str, int]
    inputs: Joined  # query, key and value side by side
    output: DeviceMatrix
    table: tuple[int, int, int]  # cosines, sines, and the number of rotated pairs
    window: int
    sinks: int
    sink_scores: int  # times log2 e
    parts: tuple[Gated, ...]
    stack: Gated | None  # the experts' matrices, stacked by expert id
    router: DeviceMatrix | None
    shared: Gated | None  # the expert of every token
    shared_gate: DeviceMatrix | None


class Uploads:
    """Owns arrays in a device's memory; `num_bytes` is their size."""

    def __init__(self, device):
        self._device, self._kept, self.num_bytes = device, [], 0

    def put(self, array) -> int:
        """Upload an array; returns its address, 0 for None."""
        if array is None:
            return NOTHING
        self._kept.append(self._device.put(array))
        self.num_bytes += array.nbytes
        return int(self._kept[-1])

    def upload(self, packed) -> DeviceMatrix:
        """Upload a packed matrix."""
        return DeviceMatrix(
            format=packed.format, outputs=packed.outputs, inputs=packed.inputs, weights=self.put(packed.weights),
            scales=self.put(packed.scales), bias=self.put(packed.bias),
        )  # fmt: skip


class DeviceWeights(Uploads):
    """All weights of a model."""

    def __init__(self, device, config, checkpoint, quantization: str | None):
        super().__init__(device)
        self._offset, self._quantization = np.float32(config.norm_offset), quantization
        ropes = {layer.rope for layer in config.layers if layer.rope}
        tables = {rope: rotary_table(rope, config.context_size) for rope in ropes}
        placed = {rope: (*map(self.put, table), table[0].shape[1]) for rope, table in tables.items()}
        self.embedding, self.table = self._embedding(checkpoint.embedding)
        self.layers = [self._layer(stored, placed) for stored in checkpoint.layers]
        self.norm, self.norm_bias = self._vector(checkpoint.norm), self._plain(checkpoint.norm_bias)
        growth = config.position_scale
        self.query_scales = self.put(position_scales(growth, config.context_size)) if growth else NOTHING
        self.head = checkpoint.head and self._head(checkpoint.head, checkpoint.embedding)
        self.fusion = checkpoint.fusion and self._matrix(checkpoint.fusion, quantization=None)

    def _embedding(self, stored) -> tuple[tuple[str, int] | None, DeviceMatrix | None]:
        """The dtype and address of rows of floats, or a matrix of integers, whose rows are dequantised."""
        if stored.dtype in FLOATS:
            return (FLOATS[stored.dtype], self.put(stored.bits)), None
        return None, self._matrix(Matrix(weight=stored, num_inputs=stored.shape[1]))

    def _head(self, stored, embedding) -> DeviceMatrix:
        """The head; one that is tied to a matrix of integers lies where that does."""
        if self.table is None or stored.weight.name != embedding.name:
            return self._matrix(stored)
        return replace(self.table, bias=self.put(stored.bias and stored.bias.float32()))

    def _layer(self, stored, tables) -> DeviceLayer:
        stack, parts = self._experts(stored.experts) if stored.experts else (None, (self._gated(stored.mlp),))
        return DeviceLayer(
            norms={name: self._vector(getattr(stored, name)) for name in NORMS}
            | {name: self._plain(getattr(stored, name)) for name in BIASES},
            inputs=self._joined(stored.query, stored.key, stored.value),
            output=self._matrix(stored.output),
            table=tables.get(stored.config.rope, (NOTHING, NOTHING, 0)),
            window=stored.config.window or 0,
            sinks=stored.config.sinks,
            sink_scores=self._plain(stored.sink_scores, LOG2E),
            parts=parts,
            stack=stack,
            router=stored.router and self._matrix(stored.router, quantization=None),  # its scores choose the experts
            shared=stored.shared and self._gated(stored.shared),
            shared_gate=stored.shared_gate and self._matrix(stored.shared_gate, quantization=None),
        )

    def _gated(self, stored) -> Gated:
        *first, down = stored.matrices()
        return Gated(gate_and_up=self._joined(*first), down=self._joined(down))

    def _experts(self, stored) -> tuple[Gated, tuple[Gated, ...]]:
        """All experts' matrices as stacks, and each expert's part of them."""
        groups = {"gate_and_up": [(e.gate, e.up) for e in stored], "down": [(e.down,) for e in stored]}
        stacks = {
            name: Joined(tuple(map(self.upload, pack_stacks(group, self._quantization))))
            for name, group in groups.items()
        }
        parts = tuple(Gated(**{name: stack.part(i) for name, stack in stacks.items()}) for i in range(len(stored)))
        return Gated(**stacks), parts

    def _vector(self, tensor) -> int:
        return NOTHING if tensor is None else self.put(tensor.float32() + self._offset)

    def _plain(self, tensor, factor=ONE) -> int:
        """A vector that is no norm's weight, times a constant."""
        return NOTHING if tensor is None else self.put(tensor.float32() * factor)

    def _matrix(self, matrix, **options) -> DeviceMatrix:
        return self.upload(pack([matrix], options.get("quantization", self._quantization)))

    def _joined(self, *matrices) -> Joined:
        return Joined(tuple(map(self.upload, pack_joined(matrices, self._quantization))))
