"""GPTQ: 4 or 8 bits, a word holds 32 / bits inputs of an output (https://github.com/ModelCloud/GPTQModel).

qweight int32 (inputs * bits / 32, outputs), qzeros int32 (groups, outputs * bits / 32), scales float16 (groups,
outputs), and perhaps g_idx int32 (inputs,), the group of each input.
"""

import numpy as np

from verbatim.reference.checkpoint.quantized.matrices import MadeTensor, Packed, make_matrix
from verbatim.reference.checkpoint.quantized.parts import Parts, centred, fields
from verbatim.reference.checkpoint.quantized.settings import Settings

ONES = {4: 0x11111111, 8: 0x01010101}  # 1 in each integer of a word
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
        """The offset is added to whole words, with carry and modulo 2^32, since it was subtracted so."""
        start = first // per_word * per_word
        whole = zero_words[:, start // per_word : -(-last // per_word)] + np.uint32(settings.zero_offset * ONES[bits])
        unpacked = centred(fields(whole, bits, along=1), bits).astype(np.int16)
        return unpacked[:, first - start : last - start].T

    packed = Packed(
        bits=bits, num_inputs=num_inputs, group_size=size, zeros=zeros,
        integers=lambda first, last: np.ascontiguousarray(centred(fields(words[:, first:last], bits, along=0), bits).T),
        scales=lambda first, last: scales[:, first:last].T,
        group_of=parts.order("g_idx", size, num_inputs),
    )  # fmt: skip
    return make_matrix(f"{parts.name}.weight", words, outputs, packed)
