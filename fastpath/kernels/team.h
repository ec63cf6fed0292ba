/* A team of threads that goes through one piece of work together, phase by phase.
 *
 * All its threads run the same function. Within a phase each claims pieces until none is left; `team_wait` then holds
 * it until all others have come there too, and the next phase counts its pieces from 0 again. What a piece computes
 * does not depend on who claims it, so no result depends on the number of threads.
 *
 * The threads are made once and wait between two pieces of work, spinning a moment, then asleep. They belong to the
 * process, not to a model: while one caller has them, another does its work alone. A forked child makes its own.
 */
#ifndef VERBATIM_TEAM_H
#define VERBATIM_TEAM_H

#include <stdatomic.h>

enum { MOST_THREADS = 256 };

struct team {
    int threads;
    atomic_int arrived;
    atomic_long next;
    _Alignas(64) atomic_uint phase; /* on a line of its own, at which those look who are done */
    struct { _Alignas(64) atomic_long next; } stretches[MOST_THREADS]; /* a cache line for each thread */
};

typedef void (*team_work)(struct team *team, void *work);

/* Run `work` on the caller and so many helpers as the process has free; returns when all are done. */
void team_run(team_work work, void *argument);
void team_run_alone(team_work work, void *argument); /* without helpers */

/* The next piece of this phase: 0, 1, 2, ... in the order of asking; the caller knows how many there are. */
static inline long team_claim(struct team *team) { return atomic_fetch_add(&team->next, 1); }

/* The same for that many pieces that lie one behind the other in memory: every thread has a stretch of them for itself,
 * which it reads from end to end, and then helps with those of others. Where all are taken, `pieces`. */
long team_claim_along(struct team *team, long pieces);

/* The end of a phase. */
void team_wait(struct team *team);

/* How many threads a team has from now on, 1 to MOST_THREADS; they are made when there is work. */
void team_resize(int threads);
int team_size(void);

#endif
