# C types for reference/engine/scheduler.py, which is compiled as this module.
cimport cython

from verbatim.fastpath.cache.pages cimport PagedCache


cdef class Scheduler:
    cdef readonly PagedCache cache
    cdef readonly object prefix_cache, waiting, prefill_mode, window
    cdef readonly list running
    cdef readonly long max_num_sequence, prefill_chunk_size, sinks
    cdef bint _prefills_next
    cdef long _num_preempted

    @cython.locals(uncomputed=long, budget=long, spare=long, preempted=long, plan=list, decoding=list, prefilling=list)
    cdef list _fill(self, bint decodes, bint prefills)
    @cython.locals(start=long, stop=long, num_drafts=long, num_logits=long)
    @cython.locals(drafts=list, output_ids=list, token_ids=tuple)
    cdef long _plan(self, sequence, long uncomputed, long budget, list plan) except -1
    @cython.locals(index=long, first=long, pages=tuple)
    cdef _release_behind_window(self, sequence, long start)
    @cython.locals(drafts=list)
    cdef long _trim_drafts(self, sequence, long spare) except -1
    @cython.locals(first=long, needed=long, pages=tuple)
    cdef bint _reserve(self, sequence, long start, long stop) except -1
    @cython.locals(holders=list)
    cdef bint _free_a_page(self, sequence) except -1
    cdef bint _admit(self, sequence) except -1
    cdef _match_prefix(self, sequence)
    cdef _drop_pages(self, sequence)


@cython.locals(output_ids=list, prompt_ids=tuple)
cdef long _num_uncomputed(sequence) except -1
cdef tuple _replace_page(tuple pages, long index, page)
