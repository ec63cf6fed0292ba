"""Bytes of small integers, as the kernels of the CPU and of a GPU unpack them."""

import numpy as np


def words_of(integers: np.ndarray, bits: int) -> np.ndarray:
    """The bytes of each group, uint8 (outputs, groups, 32): as they are, or four low bits, then two high bits of 6."""
    if bits == 8:
        return integers
    low = integers[..., :16] & 15 | integers[..., 16:] << 4
    if bits == 4:
        return low
    high = (integers >> 4).reshape(*integers.shape[:2], 2, 2, 2, 4)  # half of the group, pair of words, word, byte
    tops = high[..., 0, :, 0, :] | high[..., 1, :, 0, :] << 2 | high[..., 0, :, 1, :] << 4 | high[..., 1, :, 1, :] << 6
    return np.concatenate([low, tops.reshape(*integers.shape[:2], 8)], axis=-1)
