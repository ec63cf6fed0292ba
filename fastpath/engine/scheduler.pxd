# C types for reference/engine/scheduler.py, which is compiled as this module.
cimport cython

from verbatim.fastpath.engine.holdings cimport Holdings


cdef class Scheduler(Holdings):
    cdef readonly object prefill_mode
    cdef readonly long max_num_sequence
    cdef bint _prefills_next
    cdef long _num_turns
    cdef dict _latest_turns

    @cython.locals(uncomputed=long, budget=long, spare=long, preempted=long, plan=list, decoding=list, prefilling=list)
    cdef list _fill(self, bint decodes, bint prefills)
    @cython.locals(start=long, stop=long, num_drafts=long, num_logits=long, own=long)
    @cython.locals(drafts=list, output_ids=list, token_ids=tuple)
    cdef long _plan(self, sequence, long uncomputed, long budget, list plan) except -1
    @cython.locals(drafts=list)
    cdef long _trim_drafts(self, sequence, long spare) except -1
    cdef bint _admit(self, sequence) except -1


@cython.locals(output_ids=list, prompt_ids=tuple)
cdef long _num_uncomputed(sequence) except -1
