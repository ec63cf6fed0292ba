/* A team of threads that runs one job together, phase by phase.
 *
 * All threads run the same function. Within a phase each thread claims work items until none is left; `team_barrier`
 * then waits for all other threads, and the next phase counts its items from 0 again. The result of an item does not
 * depend on the thread that claims it, so no result depends on the number of threads.
 *
 * The threads are spawned once; between jobs they spin for a moment, then sleep. They belong to the process, not to a
 * model: while one caller uses them, another caller's job runs on its own thread. A forked child spawns its own.
 */
#ifndef VERBATIM_TEAM_H
#define VERBATIM_TEAM_H

#include <stdatomic.h>

enum { MAX_THREADS = 256 };

struct team {
    int threads;
    atomic_int arrived;
    atomic_long next;
    _Alignas(64) atomic_uint phase; /* on a cache line of its own: threads that wait read nothing else */
    struct { _Alignas(64) atomic_long next; } stretches[MAX_THREADS]; /* a cache line for each thread */
};

typedef void (*team_work)(struct team *team, void *argument);

/* Run `work` on the caller and on all worker threads, if they are free; returns when all are done. */
void team_run(team_work work, void *argument);
void team_run_alone(team_work work, void *argument); /* on the caller only */

/* Claim the next item of this phase: 0, 1, 2, ...; the caller knows how many there are. */
static inline long team_claim(struct team *team) { return atomic_fetch_add(&team->next, 1); }

/* Claim one of `items` items that lie side by side in memory. Each thread has a stretch of its own, which it reads from
 * end to end before it takes items of other threads' stretches. Returns `items` when none is left. */
long team_claim_along(struct team *team, long items);

/* The barrier at the end of a phase. */
void team_barrier(struct team *team);

/* Set the number of threads, 1 to MAX_THREADS; they are spawned with the next job. */
void team_resize(int threads);
int team_size(void);

#endif
