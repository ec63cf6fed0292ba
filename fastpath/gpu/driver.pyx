"""What PyCUDA lacks: capture of a stream's work as a graph, and its replay as one launch.

The driver is loaded when the first graph is made, so this unit is built and imported without CUDA. Contexts and streams
are PyCUDA's own, by their handles. (CUDA driver API, section "Graph Management".)
"""

from libc.stdint cimport uintptr_t

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


cdef class Graph:
    """The work that is put on a stream between `begin` and `end`; `launch` does it all again."""

    cdef void *stream
    cdef void *executable
    cdef launch_graph _launch

    def __init__(self, uintptr_t stream):
        self.stream = <void *>stream
        self._launch = <launch_graph>_symbol(b"cuGraphLaunch")

    def begin(self) -> None:
        """From here on the stream's work is noted down and not done."""
        _check((<begin_capture>_symbol(b"cuStreamBeginCapture_v2"))(self.stream, RELAXED), "beginning a graph")

    def end(self) -> None:
        """The graph is what was noted down."""
        cdef void *graph = NULL
        _check((<end_capture>_symbol(b"cuStreamEndCapture"))(self.stream, &graph), "ending a graph")
        status = (<instantiate>_symbol(b"cuGraphInstantiateWithFlags"))(&self.executable, graph, 0)
        (<destroy>_symbol(b"cuGraphDestroy"))(graph)
        _check(status, "making a graph ready")

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
