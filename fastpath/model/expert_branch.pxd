# A decoder whose layers may have experts beside a dense network.
from verbatim.fastpath.model.layer_inputs cimport LayerInputPass
from verbatim.fastpath.model.phases cimport floats


cdef class BranchPass(LayerInputPass):
    cdef bint has_branch
    cdef floats dense_rows
    cdef object branch_scratch
