"""What PyCUDA lacks: capture of a stream's work as a graph whose kernels overlap, and its replay as one launch.

The driver is loaded when the first graph is made, so this unit is built and imported without CUDA. Contexts and streams
are PyCUDA's own, by their handles. (CUDA driver API, section "Graph Management".)
"""

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

from reference.errors import BackendError

cdef extern from "dlfcn.h" nogil:
    void *dlopen(const char *, int)
    void *dlsym(void *, const char *)
    enum: RTLD_NOW

ctypedef int (*begin_capture)(void *, int) noexcept nogil
ctypedef int (*end_capture)(void *, void **) noexcept nogil
ctypedef int (*instantiate)(void **, void *, unsigned long long) noexcept nogil
ctypedef int (*launch_graph)(void *, void *) noexcept nogil
ctypedef int (*destroy)(void *) noexcept nogil

ctypedef int (*node_type)(void *, int *) noexcept nogil

cdef struct edge:  # CUgraphEdgeData
    unsigned char from_port, to_port, type
    unsigned char reserved[5]

ctypedef int (*get_edges)(void *, void **, void **, edge *, size_t *) noexcept nogil
ctypedef int (*change_edges)(void *, void **, void **, const edge *, size_t) noexcept nogil

cdef enum: KERNEL = 0, PROGRAMMATIC = 1
cdef enum: RELAXED = 2  # calls that do not touch the stream, such as PyCUDA's own, are no mistake meanwhile


def is_driver_there() -> bool:
    """Whether NVIDIA's driver can be loaded."""
    return dlopen(b"libcuda.so.1", RTLD_NOW) != NULL


cdef void *_symbol(const char *name) except NULL:
    cdef void *library = dlopen(b"libcuda.so.1", RTLD_NOW)
    cdef void *found = NULL if library == NULL else dlsym(library, name)
    if found == NULL:
        raise BackendError(f"NVIDIA's driver (libcuda.so.1) has no {name.decode()}: a newer driver is needed")
    return found


cdef _check(int status, doing):
    if status:
        raise BackendError(f"CUDA error {status} while {doing}")


cdef long _overlap(void *graph) except -1:
    """Let each kernel of a graph start before the one ahead of it has ended; how many do. cuda/common.cuh says how."""
    cdef get_edges edges_of = <get_edges>_symbol(b"cuGraphGetEdges_v2")
    cdef node_type type_of = <node_type>_symbol(b"cuGraphNodeGetType")
    cdef change_edges remove = <change_edges>_symbol(b"cuGraphRemoveDependencies_v2")
    cdef change_edges add = <change_edges>_symbol(b"cuGraphAddDependencies_v2")
    cdef size_t count = 0, i
    cdef long found = 0
    cdef int ahead = 0, behind = 0, status = 0
    _check(edges_of(graph, NULL, NULL, NULL, &count), "counting a graph's edges")
    cdef void **nodes = <void **>malloc((2 * count + 1) * sizeof(void *))
    cdef edge *edges = <edge *>malloc((count + 1) * sizeof(edge))
    status = edges_of(graph, nodes, nodes + count, edges, &count)
    for i in range(count):
        status = status or type_of(nodes[i], &ahead) or type_of(nodes[count + i], &behind)
        if status or ahead != KERNEL or behind != KERNEL:
            continue
        status = remove(graph, nodes + i, nodes + count + i, edges + i, 1)
        edges[i].from_port = edges[i].type = PROGRAMMATIC
        status = status or add(graph, nodes + i, nodes + count + i, edges + i, 1)
        found += 1
    free(nodes)
    free(edges)
    _check(status, "letting a graph's kernels overlap")
    return found


cdef class Graph:
    """The work that is put on a stream between `begin` and `end`; `launch` does it all again."""

    cdef readonly long num_overlaps  # kernels that start before the one ahead of them has ended
    cdef void *stream
    cdef void *executable
    cdef launch_graph _launch

    def __init__(self, uintptr_t stream):
        self.stream = <void *>stream
        self._launch = <launch_graph>_symbol(b"cuGraphLaunch")

    def begin(self) -> None:
        """From here on the stream's work is noted down and not done."""
        _check((<begin_capture>_symbol(b"cuStreamBeginCapture_v2"))(self.stream, RELAXED), "beginning a graph")

    def end(self, overlaps=False) -> None:
        """The graph is what was noted down; with `overlaps`, its kernels wait for each other themselves."""
        cdef void *graph = NULL
        _check((<end_capture>_symbol(b"cuStreamEndCapture"))(self.stream, &graph), "ending a graph")
        try:
            self.num_overlaps = _overlap(graph) if overlaps else 0
            status = (<instantiate>_symbol(b"cuGraphInstantiateWithFlags"))(&self.executable, graph, 0)
            _check(status, "making a graph ready")
        finally:
            (<destroy>_symbol(b"cuGraphDestroy"))(graph)

    def launch(self) -> None:
        """Put the whole graph on the stream."""
        if self.executable == NULL:
            raise ValueError("a graph is launched after its end")
        cdef int status
        with nogil:
            status = self._launch(self.executable, self.stream)
        _check(status, "launching a graph")

    def close(self) -> None:
        """Give the graph back, while the context is there."""
        if self.executable != NULL:
            (<destroy>_symbol(b"cuGraphExecDestroy"))(self.executable)
            self.executable = NULL
