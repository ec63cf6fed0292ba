"""The nodes of the prefix cache's tree, and the search for the one that agrees with a text.

Token ids are packed, 4 bytes each: as Python objects they would outlive their sequence, be freed one by one, and
fragment the memory that every step allocates from.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t

from verbatim.reference.cache.states import NO_STATE


cdef class Node:
    """A page in the tree. `token_ids` are its 16, or fewer in a leaf where a sequence ended; `used` is a step count.

    `state` is the slot with the states after its last token, NO_STATE for none.
    """

    def __cinit__(self, page=None):
        self.page, self.children, self.state = page, {}, NO_STATE

    def __lt__(self, Node other):
        return self.rank < other.rank


cdef list below(nodes):
    """Return these nodes and their descendants."""
    cdef list found = list(nodes)
    for node in found:  # which grows
        found.extend((<Node>node).children.values())
    return found


cdef bytes packed_ids(token_ids):
    """Pack token ids, 4 bytes each."""
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, len(token_ids) * sizeof(int32_t))
    cdef int32_t *place = ids(packed)
    for token_id in token_ids:
        place[0] = token_id
        place += 1
    return packed


cdef bytes part_of(bytes packed, long index):
    """The packed token ids of one page."""
    return packed[index * PAGE_BYTES : (index + 1) * PAGE_BYTES]


cdef int32_t *ids(bytes packed) noexcept:
    return <int32_t *>PyBytes_AS_STRING(packed)


cdef long length_of(bytes packed) noexcept:
    return PyBytes_GET_SIZE(packed) // sizeof(int32_t)


cdef Node closest(Node node, bytes part, long *agreeing):
    """Return the child with the longest common prefix with `part`, and its length in tokens; None if there is none."""
    cdef Node child, best = node.children.get(part)
    cdef long count, longest = 0
    agreeing[0] = length_of(part)
    if best is not None:
        return best
    for child in node.children.values():
        count = 0
        while count < min(agreeing[0], length_of(child.token_ids)) and ids(part)[count] == ids(child.token_ids)[count]:
            count += 1
        if count > longest:
            best, longest = child, count
    agreeing[0] = longest
    return best


cdef Node ending(Node node, bytes part):
    """Return the child with a state whose tokens are the longest beginning of `part`; None if there is none."""
    cdef Node child, best = None
    for child in node.children.values():
        if child.state >= 0 and part.startswith(child.token_ids):
            if best is None or len(child.token_ids) > len(best.token_ids):
                best = child
    return best
