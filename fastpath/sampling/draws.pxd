# A step's draws, for answer.pyx; draws.pyx says how.
from verbatim.fastpath.sampling.rules cimport drawing
from libc.stdint cimport uint64_t


cdef struct one_draw:  # from a row of logits that nothing changes
    const float *row  # NULL for no draw
    const drawing *how
    uint64_t position
    long choice
    long token_id  # what was drawn
    int is_finite  # else nothing was


cdef draw_all(one_draw *draws, long count, long vocab)
