"""One token from each of a step's rows of logits: all threads draw, each from rows of its own (N10)."""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport table
from verbatim.fastpath.sampling.rules cimport choose
from verbatim.fastpath.machine.threads cimport claim, finish_phase, run, run_alone, team

from verbatim.fastpath.machine.memory import KeptRoom
from verbatim.fastpath.machine.threads import count as num_threads

cdef enum:
    MOST_ROOMS = 16  # threads that draw at once; each has room for two numbers a token


cdef struct drawn_together:
    one_draw *draws
    long count, vocab, rooms
    uint64_t *room


KEPT = KeptRoom(np.uint64)


cdef draw_all(one_draw *draws, long count, long vocab):
    """Draw from rows of `vocab` logits, but not where a row is NULL."""
    if count == 0:
        return
    cdef long rooms = min(count, num_threads(), MOST_ROOMS)
    cdef uint64_t[:, ::1] room = KEPT.empty(rooms, 2 * vocab)
    cdef drawn_together work = drawn_together(draws, count, vocab, rooms, &room[0, 0])
    if rooms > 1:
        run(_draw_some, &work)
    else:
        run_alone(_draw_some, &work)


cdef void _draw_some(team *members, void *argument) noexcept nogil:
    """A thread's part."""
    cdef drawn_together *work = <drawn_together *>argument
    cdef long room = claim(members), i
    cdef one_draw *one
    cdef float peak
    finish_phase(members)
    if room >= work.rooms:
        return
    i = claim(members)
    while i < work.count:
        one, i = &work.draws[i], claim(members)
        if one.row == NULL:
            continue
        peak = table().peak(one.row, work.vocab, &one.is_finite)
        if one.is_finite:
            one.token_id = choose(one.row, work.vocab, peak, one.how, one.position, one.choice,
                                  work.room + room * 2 * work.vocab)
