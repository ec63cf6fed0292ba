"""Sample a token from each logits row of a step, the rows shared by all threads (N10)."""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport table
from verbatim.fastpath.sampling.rules cimport choose
from verbatim.fastpath.machine.threads cimport claim, finish_phase, run, run_alone, team

from verbatim.fastpath.machine.memory import ReusedBuffer
from verbatim.fastpath.machine.threads import count as num_threads

cdef enum:
    MAX_BUFFERS = 16  # threads that draw at once; each needs a buffer of two integers a token


cdef struct draw_job:
    row_draw *draws
    long count, vocab, num_buffers
    uint64_t *buffers


SCRATCH = ReusedBuffer(np.uint64)


cdef draw_all(row_draw *draws, long count, long vocab):
    """Draw from each row of `vocab` logits that is not NULL."""
    if count == 0:
        return
    cdef long num_buffers = min(count, num_threads(), MAX_BUFFERS)
    cdef uint64_t[:, ::1] buffers = SCRATCH.empty(num_buffers, 2 * vocab)
    cdef draw_job job = draw_job(draws, count, vocab, num_buffers, &buffers[0, 0])
    if num_buffers > 1:
        run(_draw_share, &job)
    else:
        run_alone(_draw_share, &job)


cdef void _draw_share(team *members, void *argument) noexcept nogil:
    """Draw this thread's share of the rows."""
    cdef draw_job *job = <draw_job *>argument
    cdef long buffer = claim(members), i
    cdef row_draw *draw
    cdef float peak
    finish_phase(members)
    if buffer >= job.num_buffers:
        return
    i = claim(members)
    while i < job.count:
        draw, i = &job.draws[i], claim(members)
        if draw.row == NULL:
            continue
        peak = table().peak(draw.row, job.vocab, &draw.is_finite)
        if draw.is_finite:
            draw.token_id = choose(draw.row, job.vocab, peak, draw.params, draw.position, draw.choice,
                                   job.buffers + buffer * 2 * job.vocab)
