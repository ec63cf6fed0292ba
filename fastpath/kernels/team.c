/* The threads of team.h: they spin, then sleep on one condition variable. */
#define _GNU_SOURCE
#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>

/* The number of checks before a thread sleeps: about a millisecond (1.4 between jobs and 1 at a barrier, on a Zen 5),
 * because a sleeping thread wakes late where other processes use the processors. A server's own bursts are shorter than
 * that. But where other load stays, spinning takes time from the thread that is waited for: after a wait that exhausted
 * its spin budget, a thread backs off to a tenth of it, and raises it a little after each shorter wait. */
enum { STACK_BYTES = 8 << 20 };
enum { JOB_SPINS = 60000, MAX_SPIN_BUDGET = 40000, MIN_SPIN_BUDGET = 4000, SPIN_BUDGET_STEP = 32, YIELDS = 20 };

static struct {
    pthread_mutex_t owner; /* held while a job runs */
    pthread_mutex_t lock;  /* guards the condition variable */
    pthread_cond_t wake;
    atomic_int sleepers;
    atomic_uint epoch; /* counts jobs */
    atomic_int quits;
    int wanted, workers; /* threads of a job; threads that exist beside the caller */
    pthread_t ids[MAX_THREADS - 1];
    struct team team;
    team_work work;
    void *argument;
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .wanted = 1};

static _Thread_local int member; /* this thread's index in the team; 0 is the caller */
static _Thread_local int spin_budget = MAX_SPIN_BUDGET;

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Wait until *word differs from `old`; returns whether it did while spinning. Memory order is sequential: either the
 * thread that changes the word sees the sleeper, or the sleeper sees the change. */
static int wait_while(atomic_uint *word, unsigned old, int spins) {
    for (int i = 0; i < spins; i++) {
        if (atomic_load(word) != old) return 1;
        pause_briefly();
    }
    for (int i = 0; i < YIELDS; i++) { /* perhaps there are fewer processors than threads */
        if (atomic_load(word) != old) return 0;
        sched_yield();
    }
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.sleepers, 1);
    while (atomic_load(word) == old) pthread_cond_wait(&pool.wake, &pool.lock);
    atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&pool.lock);
    return 0;
}

static void change(atomic_uint *word) {
    atomic_fetch_add(word, 1);
    if (atomic_load(&pool.sleepers) == 0) return;
    pthread_mutex_lock(&pool.lock);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
}

/* Relaxed stores: the change of phase or epoch that follows publishes them. */
static void begin_phase(struct team *team) {
    atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&team->next, 0, memory_order_relaxed);
    for (int i = 0; i < team->threads; i++) atomic_store_explicit(&team->stretches[i].next, 0, memory_order_relaxed);
}

void team_barrier(struct team *team) {
    unsigned phase = atomic_load(&team->phase);
    int threads = team->threads; /* read first: after its arrival a thread may read nothing but the phase */
    if (atomic_fetch_add(&team->arrived, 1) + 1 < threads) {
        if (!wait_while(&team->phase, phase, spin_budget)) spin_budget = MIN_SPIN_BUDGET;
        else if (spin_budget < MAX_SPIN_BUDGET) spin_budget += SPIN_BUDGET_STEP;
        return;
    }
    begin_phase(team);
    if (threads > 1) change(&team->phase);
}

long team_claim_along(struct team *team, long items) {
    for (int i = 0; i < team->threads; i++) {
        int owner = (member + i) % team->threads;
        long first = items * owner / team->threads, end = items * (owner + 1) / team->threads;
        if (i && first + atomic_load(&team->stretches[owner].next) >= end) continue;
        long item = first + atomic_fetch_add(&team->stretches[owner].next, 1);
        if (item < end) return item;
    }
    return items;
}

struct start {
    int member;
    unsigned epoch;
};

static void *run_worker(void *argument) {
    struct start *start = argument;
    unsigned seen = start->epoch;
    member = start->member;
    free(start);
    for (;; seen++) {
        wait_while(&pool.epoch, seen, JOB_SPINS);
        if (atomic_load(&pool.quits)) return NULL;
        pool.work(&pool.team, pool.argument);
        team_barrier(&pool.team);
    }
}

/* A forked child has only the thread that forked: it starts without workers, and with unlocked mutexes. */
static void reset_after_fork(void) {
    pthread_mutex_init(&pool.owner, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    atomic_store(&pool.sleepers, 0);
    pool.workers = 0;
}

static void join_threads(void) {
    atomic_store(&pool.quits, 1);
    change(&pool.epoch);
    for (int i = 0; i < pool.workers; i++) pthread_join(pool.ids[i], NULL);
    atomic_store(&pool.quits, 0);
    pool.workers = 0;
}

/* Workers block all signals: Python handles them in its own thread. */
static void spawn_threads(int workers) {
    static int is_watching_forks;
    if (pool.workers == workers) return;
    if (!is_watching_forks) is_watching_forks = !pthread_atfork(NULL, NULL, reset_after_fork);
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES); /* attention's buffers lie there; some systems give little */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; pool.workers < workers; pool.workers++) {
        struct start *start = malloc(sizeof *start);
        if (start == NULL) break;
        *start = (struct start){pool.workers + 1, atomic_load(&pool.epoch)};
        if (pthread_create(&pool.ids[pool.workers], &attributes, run_worker, start)) {
            free(start);
            break;
        }
    }
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void team_resize(int threads) {
    pthread_mutex_lock(&pool.owner);
    if (pool.workers) join_threads();
    pool.wanted = threads;
    pthread_mutex_unlock(&pool.owner);
}

int team_size(void) { return pool.wanted; }

void team_run_alone(team_work work, void *argument) {
    struct team alone = {.threads = 1};
    work(&alone, argument);
}

void team_run(team_work work, void *argument) {
    if (pool.wanted == 1 || pthread_mutex_trylock(&pool.owner)) {
        team_run_alone(work, argument);
        return;
    }
    spawn_threads(pool.wanted - 1); /* perhaps fewer: the job is done all the same */
    pool.team.threads = pool.workers + 1;
    begin_phase(&pool.team);
    pool.work = work, pool.argument = argument;
    change(&pool.epoch);
    work(&pool.team, argument);
    team_barrier(&pool.team);
    pthread_mutex_unlock(&pool.owner);
}
