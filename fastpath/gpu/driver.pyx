"""Driver calls that PyCUDA lacks: stream capture as a graph whose kernels overlap, its replay, cooperative launches.

The driver is loaded with the first graph or kernel, so this module is built and imported without CUDA. It uses PyCUDA's
contexts and streams by their handles. (CUDA driver API, "Graph Management" and "Execution Control".)
"""

from libc.stdint cimport uint64_t, uintptr_t
from libc.stdlib cimport free, malloc

from verbatim.reference.records.errors import BackendError

cdef extern from "dlfcn.h" nogil:
    void *dlopen(const char *, int)
    void *dlsym(void *, const char *)
    enum: RTLD_NOW

ctypedef int (*begin_capture)(void *, int) noexcept nogil
ctypedef int (*end_capture)(void *, void **) noexcept nogil
ctypedef int (*instantiate)(void **, void *, unsigned long long) noexcept nogil
ctypedef int (*launch_graph)(void *, void *) noexcept nogil
ctypedef int (*destroy)(void *) noexcept nogil

ctypedef int (*load_module)(void **, const void *) noexcept nogil
ctypedef int (*find_function)(void **, void *, const char *) noexcept nogil
ctypedef int (*launch_together)(
    void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **
) noexcept nogil
ctypedef int (*node_type)(void *, int *) noexcept nogil

cdef struct edge:  # CUgraphEdgeData
    unsigned char from_port, to_port, type
    unsigned char reserved[5]

ctypedef int (*get_edges)(void *, void **, void **, edge *, size_t *) noexcept nogil
ctypedef int (*change_edges)(void *, void **, void **, const edge *, size_t) noexcept nogil

cdef enum: KERNEL = 0, PROGRAMMATIC = 1
cdef enum: MOST_ARGUMENTS = 16
cdef enum: RELAXED = 2  # during capture, calls that do not use the stream, such as PyCUDA's own, are allowed


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
    """Let each kernel of a graph start before its predecessor has ended (cuda/common.cuh); returns how many do."""
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
    """A graph: the work captured from a stream between `begin` and `end`; `launch` repeats it."""

    cdef readonly long num_overlaps  # kernels that start before their predecessor has ended
    cdef void *stream
    cdef void *executable
    cdef launch_graph _launch

    def __init__(self, uintptr_t stream):
        self.stream = <void *>stream
        self._launch = <launch_graph>_symbol(b"cuGraphLaunch")

    def begin(self) -> None:
        """Begin the capture: the stream's work is recorded and not executed."""
        _check((<begin_capture>_symbol(b"cuStreamBeginCapture_v2"))(self.stream, RELAXED), "beginning a graph")

    def end(self, overlaps=False) -> None:
        """End the capture; with `overlaps`, kernels synchronise by programmatic dependent launch."""
        cdef void *graph = NULL
        _check((<end_capture>_symbol(b"cuStreamEndCapture"))(self.stream, &graph), "ending a graph")
        try:
            self.num_overlaps = _overlap(graph) if overlaps else 0
            status = (<instantiate>_symbol(b"cuGraphInstantiateWithFlags"))(&self.executable, graph, 0)
            _check(status, "making a graph ready")
        finally:
            (<destroy>_symbol(b"cuGraphDestroy"))(graph)

    def launch(self) -> None:
        """Enqueue the graph."""
        if self.executable == NULL:
            raise ValueError("a graph is launched after its end")
        cdef int status
        with nogil:
            status = self._launch(self.executable, self.stream)
        _check(status, "launching a graph")

    def close(self) -> None:
        """Destroy the graph; the context must still exist."""
        if self.executable != NULL:
            (<destroy>_symbol(b"cuGraphExecDestroy"))(self.executable)
            self.executable = NULL


cdef union argument:
    uint64_t address
    int number


cdef class CooperativeKernel:
    """A cooperative kernel: all blocks of a launch are on the device at once, or the driver refuses it.

    PyCUDA does not expose its functions' handles, so the code is loaded again. `types` are letters of struct, P or i.
    """

    cdef void *module
    cdef void *function
    cdef launch_together _launch
    cdef str types

    def __init__(self, bytes image, name, types):
        if len(types) > MOST_ARGUMENTS or set(types) - set("Pi"):
            raise ValueError(f"a cooperative kernel takes at most {MOST_ARGUMENTS} arguments, P or i, not {types}")
        self.types = types
        self._launch = <launch_together>_symbol(b"cuLaunchCooperativeKernel")
        _check((<load_module>_symbol(b"cuModuleLoadData"))(&self.module, <const char *>image), "loading kernels")
        find = <find_function>_symbol(b"cuModuleGetFunction")
        _check(find(&self.function, self.module, name.encode()), f"looking for {name}")

    def launch(self, grid, unsigned threads, uintptr_t stream, *values) -> None:
        """Enqueue the kernel."""
        cdef argument held[MOST_ARGUMENTS]
        cdef void *places[MOST_ARGUMENTS]
        cdef unsigned width = grid[0], height = grid[1]
        if len(values) != len(self.types):
            raise ValueError(f"{len(self.types)} arguments are wanted, not {len(values)}")
        for i, letter in enumerate(self.types):
            places[i] = &held[i]
            if letter == "P":
                held[i].address = values[i]
            else:
                held[i].number = values[i]
        status = self._launch(self.function, width, height, 1, threads, 1, 1, 0, <void *>stream, places)
        _check(status, "launching blocks that wait for each other")

    def close(self) -> None:
        """Unload the kernel; the context must still exist."""
        if self.module != NULL:
            (<destroy>_symbol(b"cuModuleUnload"))(self.module)
            self.module = NULL
