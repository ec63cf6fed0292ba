# The draws of a step, for answer.pyx.
from verbatim.fastpath.sampling.rules cimport draw_params
from libc.stdint cimport uint64_t


cdef struct row_draw:  # a draw from a logits row without penalties, bias or mask
    const float *row  # NULL for no draw
    const draw_params *params
    uint64_t position
    long choice
    long token_id  # the sampled token
    int is_finite  # 0: no token was sampled


cdef draw_all(row_draw *draws, long count, long vocab)
