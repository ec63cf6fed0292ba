"""GPTQ: 4 or 8 bits, a word holds 32 / bits inputs of an output (https://github.com/ModelCloud/GPTQModel).

qweight int32 (inputs * bits / 32, outputs), qzeros int32 (groups, outputs * bits / 32), scales float16 (groups,
outputs), and perhaps g_idx int32 (inputs,), the group of each input.
"""

import numpy as np

from verbatim.reference.checkpoint.quantized.matrices import MadeTensor, Packed, make_matrix
from verbatim.reference.checkpoint.quantized.parts import Parts, centred, fields
from verbatim.reference.checkpoint.quantized.settings import Settings

ENDS = ("qweight", "qzeros", "scales", "g_idx")


def read_matrix(parts: Parts, settings: Settings) -> MadeTensor:
    """The matrix of these parts."""
    bits, words = settings.bits, parts.words("qweight")
    per_word = 32 // bits
    num_inputs, outputs = words.shape[0] * per_word, words.shape[1]
    size = settings.group_size or num_inputs
    num_groups = -(-num_inputs // size)
    scales = parts.numbers("scales", (num_groups, outputs))
    zero_words = parts.words("qzeros", (num_groups, -(-outputs // per_word)))

    def zeros(first: int, last: int) -> np.ndarray:
        """Not kept to `bits` after the offset: where 15 is stored, and 1 is added, the zero point is 16."""
        start = first // per_word
        stored = fields(zero_words[:, start : -(-last // per_word)], bits, along=1)
        stored = stored[:, first - start * per_word : last - start * per_word]
        return stored.T.astype(np.int16) + np.int16(settings.zero_offset - (1 << bits - 1))

    packed = Packed(
        bits=bits, num_inputs=num_inputs, group_size=size, zeros=zeros,
        integers=lambda first, last: np.ascontiguousarray(centred(fields(words[:, first:last], bits, along=0), bits).T),
        scales=lambda first, last: scales[:, first:last].T,
        group_of=parts.order("g_idx", size, num_inputs),
    )  # fmt: skip
    return make_matrix(f"{parts.name}.weight", words, outputs, packed)
