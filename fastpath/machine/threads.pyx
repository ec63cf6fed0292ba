"""How many threads compute: as many as this process may run on, or what VERBATIM_THREADS says.

The number changes no bit (docs/numerics.md): pieces of work are cut the same way for every number. The threads are
made when there is work, wait between two steps a millisecond or so awake and then asleep, and take no signals.
"""

import os

from verbatim.reference.records.errors import BackendError

__all__ = ["count", "use"]

cdef extern from "team.h" nogil:
    void team_run(team_work work, void *argument)
    void team_run_alone(team_work work, void *argument)
    long team_claim(team *members)
    long team_claim_along(team *members, long pieces)
    void team_wait(team *members)
    void team_resize(int threads)
    int team_size()


cdef void run(team_work work, void *argument) noexcept nogil:
    """All threads run `work`; the caller alone, while another caller has them."""
    team_run(work, argument)


cdef void run_alone(team_work work, void *argument) noexcept nogil:
    team_run_alone(work, argument)


cdef long claim(team *members) noexcept nogil:
    """The next piece of this phase."""
    return team_claim(members)


cdef long claim_along(team *members, long pieces) noexcept nogil:
    """The next of so many pieces that lie one behind the other in memory; where none is left, `pieces`."""
    return team_claim_along(members, pieces)


cdef void finish_phase(team *members) noexcept nogil:
    """Wait until every thread has come here."""
    team_wait(members)


def count() -> int:
    """How many threads work on a step."""
    return team_size()


def use(number) -> None:
    """Work with so many threads from now on; raises BackendError for what is no such number."""
    if not str(number).isascii() or not str(number).isdigit() or not 1 <= int(number) <= MOST_THREADS:
        raise BackendError(f"VERBATIM_THREADS must be a whole number from 1 to {MOST_THREADS}, not {number!r}")
    team_resize(int(number))


def _allowed():
    """The processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


use(os.environ.get("VERBATIM_THREADS", min(_allowed(), MOST_THREADS)))
