"""The tensors that a tool made of one matrix: found by the ends of their names, each checked for type and shape."""

from dataclasses import dataclass

import numpy as np

from verbatim.reference.checkpoint.weights import FLOATS, Tensor
from verbatim.reference.records.errors import ModelError


@dataclass(frozen=True, slots=True)
class Parts:
    """What is stored for the matrix `name` (`model.layers.0.self_attn.q_proj`): end of a name -> tensor."""

    name: str
    tensors: dict[str, Tensor]

    def __contains__(self, end: str) -> bool:
        return end in self.tensors

    def get(self, end: str, dtypes: tuple[str, ...], *shapes: tuple[int, ...]) -> Tensor:
        """The tensor; ModelError if it is missing, of another type, or of none of the shapes (any, where none is)."""
        tensor, name = self.tensors.get(end), f"{self.name}.{end}"
        if tensor is None:
            raise ModelError(f"weights: tensor {name} is missing")
        if tensor.dtype not in dtypes:
            raise ModelError(f"weights: tensor {name} is stored as {tensor.dtype}, not as {' or '.join(dtypes)}")
        if shapes and tensor.shape not in shapes:
            raise ModelError(f"weights: tensor {name} has shape {tensor.shape}, not {' or '.join(map(str, shapes))}")
        return tensor

    def words(self, end: str, *shapes: tuple[int, ...]) -> np.ndarray:
        """A matrix of 32-bit words."""
        found = self.get(end, ("I32",), *shapes).bits
        if found.ndim != 2 or not found.size:
            raise ModelError(f"weights: tensor {self.name}.{end} has shape {found.shape}, not that of a matrix")
        return found.view(np.uint32)

    def numbers(self, end: str, *shapes: tuple[int, ...]) -> np.ndarray:
        """Floats: float16 as they are, others widened."""
        found = self.get(end, FLOATS, *shapes)
        return found.bits if found.dtype == "F16" else found.float32()

    def order(self, end: str, group_size: int, num_inputs: int) -> np.ndarray | None:
        """The group of each input; None where they are in order anyway, or nothing is stored."""
        if end not in self.tensors:
            return None
        groups = self.get(end, ("I32",), (num_inputs,)).bits
        num_groups = -(-num_inputs // group_size)
        if np.array_equal(groups, np.arange(num_inputs) // group_size) or (groups == -1).all():
            return None
        if groups.min() < 0 or groups.max() >= num_groups:
            raise ModelError(f"weights: tensor {self.name}.{end} must hold groups from 0 to {num_groups - 1}")
        return groups


def fields(words: np.ndarray, bits: int, places: tuple[int, ...] | None = None, *, along: int) -> np.ndarray:
    """uint8: the 32 / bits integers of each word, side by side along axis 0 or 1, the lowest bits first.

    With `places`, integer i of a word lies at its place places[i].
    """
    count = 32 // bits
    made = np.empty((*words.shape, count) if along else (len(words), count, words.shape[1]), np.uint8)
    for i in range(count):
        shift = np.uint32(bits * (places[i] if places else i))
        made[(..., i) if along else (slice(None), i)] = words >> shift & np.uint32((1 << bits) - 1)
    return made.reshape(len(words), -1) if along else made.reshape(-1, words.shape[1])


def centred(integers: np.ndarray, bits: int) -> np.ndarray:
    """int8: stored integers less half of their range."""
    return (integers ^ np.uint8(0x80)).view(np.int8) if bits == 8 else integers.view(np.int8) - np.int8(8)
