# A team of threads that runs a job phase by phase (kernels/team.h).
cdef extern from "team.h" nogil:
    enum:
        MAX_THREADS

    struct team:
        int threads

    ctypedef void (*team_work)(team *, void *) noexcept nogil


cdef void run(team_work work, void *argument) noexcept nogil
cdef long claim(team *members) noexcept nogil
cdef long claim_along(team *members, long items) noexcept nogil
cdef void finish_phase(team *members) noexcept nogil
cdef void run_alone(team_work work, void *argument) noexcept nogil
