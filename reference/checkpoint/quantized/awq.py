"""AWQ: 4 bits in columns of outputs, eight to a word in an order of their own (https://github.com/casper-hansen/AutoAWQ).

qweight int32 (inputs, outputs / 8), qzeros int32 (groups, outputs / 8), scales float16 (groups, outputs).
"""

import numpy as np

from verbatim.reference.checkpoint.quantized.matrices import MadeTensor, Packed, make_matrix
from verbatim.reference.checkpoint.quantized.parts import Parts, centred, fields
from verbatim.reference.checkpoint.quantized.settings import Settings

ENDS = ("qweight", "qzeros", "scales")
PLACES = (0, 4, 1, 5, 2, 6, 3, 7)  # where output i of a word lies
PER_WORD = 8


def read_matrix(parts: Parts, settings: Settings) -> MadeTensor:
    """The matrix of these parts; without zero points they are 8."""
    words = parts.words("qweight")
    num_inputs, outputs = words.shape[0], words.shape[1] * PER_WORD
    size = settings.group_size or num_inputs
    num_groups = -(-num_inputs // size)
    scales = parts.numbers("scales", (num_groups, outputs))
    zeros = parts.words("qzeros", (num_groups, words.shape[1])) if "qzeros" in parts else None
    packed = Packed(
        bits=4, num_inputs=num_inputs, group_size=size,
        integers=lambda first, last: np.ascontiguousarray(_columns(words, first, last).T),
        scales=lambda first, last: scales[:, first:last].T,
        zeros=None if zeros is None else lambda first, last: _columns(zeros, first, last).T.astype(np.int16),
    )  # fmt: skip
    return make_matrix(f"{parts.name}.weight", words, outputs, packed)


def _columns(words: np.ndarray, first: int, last: int) -> np.ndarray:
    """Some outputs of packed words, int8 (rows of the words, outputs)."""
    start = first // PER_WORD
    unpacked = fields(words[:, start : -(-last // PER_WORD)], 4, PLACES, along=1)
    return centred(unpacked, 4)[:, first - start * PER_WORD : last - start * PER_WORD]
