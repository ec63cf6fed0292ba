"""The number of threads that compute: one for each processor of this process, or VERBATIM_THREADS.

The number changes no bit (docs/numerics.md): work items are the same for every number. The threads are spawned with the
first job, spin for about a millisecond between jobs, then sleep, and block all signals.
"""

import os

from verbatim.reference.records.errors import BackendError

__all__ = ["count", "use"]

cdef extern from "team.h" nogil:
    void team_run(team_work work, void *argument)
    void team_run_alone(team_work work, void *argument)
    long team_claim(team *members)
    long team_claim_along(team *members, long items)
    void team_barrier(team *members)
    void team_resize(int threads)
    int team_size()


cdef void run(team_work work, void *argument) noexcept nogil:
    """Run `work` on all threads, or only on the caller's while another caller uses them."""
    team_run(work, argument)


cdef void run_alone(team_work work, void *argument) noexcept nogil:
    team_run_alone(work, argument)


cdef long claim(team *members) noexcept nogil:
    """Claim the next work item of this phase."""
    return team_claim(members)


cdef long claim_along(team *members, long items) noexcept nogil:
    """Claim one of `items` work items that lie side by side in memory; returns `items` when none is left."""
    return team_claim_along(members, items)


cdef void finish_phase(team *members) noexcept nogil:
    """Wait at the phase's barrier."""
    team_barrier(members)


def count() -> int:
    """The number of threads."""
    return team_size()


def use(number) -> None:
    """Set the number of threads; raises BackendError unless it is a whole number in range."""
    if not str(number).isascii() or not str(number).isdigit() or not 1 <= int(number) <= MAX_THREADS:
        raise BackendError(f"VERBATIM_THREADS must be a whole number from 1 to {MAX_THREADS}, not {number!r}")
    team_resize(int(number))


def _allowed():
    """The processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


use(os.environ.get("VERBATIM_THREADS", min(_allowed(), MAX_THREADS)))
