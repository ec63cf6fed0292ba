"""A checkpoint on the GPU: each layer's matrices and vectors, packed and uploaded."""

from dataclasses import dataclass

import numpy as np

from verbatim.fastpath.gpu.operations import NOTHING, DeviceMatrix
from verbatim.fastpath.gpu.packing import FORMATS, pack, pack_stack
from verbatim.reference.numerics.rotary import rotary_table

NORMS = ("attention_norm", "attention_out_norm", "query_norm", "key_norm", "mlp_norm", "mlp_out_norm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """A feed-forward network, or one expert: gate and up as one matrix, then down."""

    gate_and_up: DeviceMatrix
    down: DeviceMatrix

    @property
    def intermediate(self) -> int:
        """The intermediate dimension."""
        return self.down.inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLayer:
    """The device addresses of a layer; `norms` by name, 0 for those that the family does not have."""

    norms: dict[str, int]
    inputs: DeviceMatrix  # query, key and value as one
    output: DeviceMatrix
    table: tuple[int, int, int]  # cosines, sines, and the number of rotated pairs
    window: int
    sinks: int
    parts: tuple[Gated, ...]
    stack: Gated | None  # the experts' matrices, stacked by expert id
    router: DeviceMatrix | None


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
        self.embedding_dtype = FORMATS[checkpoint.embedding.dtype]
        self.embedding = self.put(checkpoint.embedding.bits)
        self.layers = [self._layer(stored, placed) for stored in checkpoint.layers]
        self.norm = self._vector(checkpoint.norm)
        self.head = checkpoint.head and self._matrix(checkpoint.head)
        self.fusion = checkpoint.fusion and self._matrix(checkpoint.fusion, quantization=None)

    def _layer(self, stored, tables) -> DeviceLayer:
        stack, parts = self._experts(stored.experts) if stored.experts else (None, (self._gated(stored.mlp),))
        return DeviceLayer(
            norms={name: self._vector(getattr(stored, name)) for name in NORMS},
            inputs=self._matrix(stored.query, stored.key, stored.value),
            output=self._matrix(stored.output),
            table=tables.get(stored.config.rope, (NOTHING, NOTHING, 0)),
            window=stored.config.window or 0,
            sinks=stored.config.sinks,
            parts=parts,
            stack=stack,
            router=stored.router and self._matrix(stored.router, quantization=None),  # its scores choose the experts
        )

    def _gated(self, stored) -> Gated:
        return Gated(gate_and_up=self._matrix(stored.gate, stored.up), down=self._matrix(stored.down))

    def _experts(self, stored) -> tuple[Gated, tuple[Gated, ...]]:
        """All experts' matrices as a stack, and each expert's part of it."""
        groups = {"gate_and_up": [(e.gate, e.up) for e in stored], "down": [(e.down,) for e in stored]}
        stack = {name: self.upload(pack_stack(group, self._quantization)) for name, group in groups.items()}
        parts = tuple(Gated(**{n: m.part(i) for n, m in stack.items()}) for i in range(len(stored)))
        return Gated(**stack), parts

    def _vector(self, tensor) -> int:
        return NOTHING if tensor is None else self.put(tensor.float32() + self._offset)

    def _matrix(self, *matrices, **options) -> DeviceMatrix:
        return self.upload(pack(matrices, options.get("quantization", self._quantization)))
