"""Dispatch to the best instruction set that the processor has, or to the one that VERBATIM_CPU names.

The choice changes no bit (docs/numerics.md). This extension holds all C kernels, compiled once for each level: amx,
avx512, avxvnni, avx2, plain. The other extensions call them through `table()`.
"""

import os

from verbatim.reference.records.errors import BackendError

__all__ = ["available", "level", "use"]

cdef const kernels *_table = available_kernels()[0]


cdef const kernels *table() noexcept nogil:
    return _table


cdef size_t address(array) except? 0:
    return array.ctypes.data


def available() -> list[str]:
    """The levels that this processor can run, best first."""
    names = []
    cdef const kernels *const *entry = available_kernels()
    while entry[0] != NULL:
        names.append(entry[0].name.decode())
        entry += 1
    return names


def level() -> str:
    """The level in use."""
    return _table.name.decode()


def use(name: str) -> None:
    """Switch to a level for all further computation; raises BackendError if the processor lacks it."""
    global _table
    names = available()
    if name not in names:
        raise BackendError(f"VERBATIM_CPU must be one of {', '.join(names)} on this machine, not {name!r}")
    _table = available_kernels()[<size_t>names.index(name)]


if "VERBATIM_CPU" in os.environ:
    use(os.environ["VERBATIM_CPU"])
