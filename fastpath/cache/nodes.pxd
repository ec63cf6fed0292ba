# The nodes of the prefix cache's tree, and packed token ids.
from libc.stdint cimport int32_t

from verbatim.fastpath.machine.dispatch cimport PACK

cdef enum:
    PAGE_BYTES = PACK * sizeof(int32_t)  # of token ids


cdef class Node:
    cdef public bytes token_ids
    cdef readonly object page  # None in a root
    cdef public Node parent  # None in a root, and in one that is not in the tree
    cdef readonly dict children
    cdef public long used, state
    cdef public bint is_pinned
    cdef bint is_queued  # in the heap
    cdef long rank  # its order there: `used` as it was then


cdef list below(nodes)
cdef bytes packed_ids(token_ids)
cdef bytes part_of(bytes packed, long index)
cdef long length_of(bytes packed) noexcept
cdef Node closest(Node node, bytes part, long *agreeing)
cdef Node ending(Node node, bytes part)
