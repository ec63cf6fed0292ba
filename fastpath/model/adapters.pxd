# LoRA adapters in the kernels' layout, and the rows of the present pass that have some (N13).
from verbatim.fastpath.machine.dispatch cimport matrix
from verbatim.fastpath.machine.threads cimport team
from verbatim.fastpath.numerics.packed cimport product

cdef enum:
    # In the order of reference/checkpoint/lora/modules.py.
    QUERY
    KEY
    VALUE
    OUTPUT
    GATE
    UP
    DOWN
    NUM_PLACES

cdef struct low_rank:  # a.weights are NULL where an adapter has nothing for a matrix
    matrix a, b
    float scale

cdef struct rows_of_adapter:  # consecutive rows with one adapter, whose matrices are (layers, NUM_PLACES)
    long start, rows
    const low_rank *matrices


cdef class Packed:
    cdef low_rank *matrices
    cdef list owners
    cdef long rank
    cdef matrix _matrix(self, source, memory) except *


cdef class Adapters:
    cdef dict _loaded
    cdef long num_layers, num_runs, capacity, num_rows, rank
    cdef rows_of_adapter *runs
    cdef object _low
    cdef float *low

    cdef _reserve(self, long num_rows)
    cdef _add_rows(self, long row, long count, Packed packed)
    cdef list order(self, chunks)
    cdef bint has_any(self)
    cdef float *_low_of(self, long slot, long row) noexcept nogil
    cdef void lower(self, team *members, const float *x, long layer, long place, long count) noexcept nogil
    cdef void add_strip(self, long layer, long place, long slot, float *y, long start, long rows, long strip,
                        long stride) noexcept nogil
    cdef void multiply(self, team *members, const product *products, long count, long layer, long place) noexcept nogil
