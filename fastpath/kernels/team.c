/* The threads behind team.h: spin, then sleep; one lock and one condition wake whoever sleeps. */
#define _GNU_SOURCE
#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>

/* How long a thread waits awake: a millisecond or so (1.4 between two steps and 1 within one, on a Zen 5), since one that sleeps
 * wakes late where others use the processors. A server's own bursts are shorter than that. But where others stay, who
 * sleeps makes room for the thread that is waited for: after a wait that was too long for it, a thread waits a tenth as
 * long, and then a little longer after each that was not. */
enum { SPINS_BETWEEN = 60000, SPINS_MOST = 40000, SPINS_LEAST = 4000, SPINS_MORE = 32, YIELDS = 20 };

static struct {
    pthread_mutex_t owner; /* whoever has the team */
    pthread_mutex_t lock;  /* around sleeping */
    pthread_cond_t wake;
    atomic_int sleepers;
    atomic_uint epoch; /* counts pieces of work */
    atomic_int quits;
    int wanted, helpers; /* threads of a team; those that exist beside the caller */
    pthread_t ids[MOST_THREADS - 1];
    struct team team;
    team_work work;
    void *argument;
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER,
          .wanted = 1};

static _Thread_local int member; /* which of the team's threads this is; 0 is the caller */
static _Thread_local int patience = SPINS_MOST;

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Until *word is no longer `old`; returns whether that was so while it span. All orders are sequential: either the
 * changer sees the sleeper or the sleeper the change. */
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

/* Plain stores: others see them with the change of phase, or of epoch, that follows. */
static void begin_phase(struct team *team) {
    atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&team->next, 0, memory_order_relaxed);
    for (int i = 0; i < team->threads; i++) atomic_store_explicit(&team->stretches[i].next, 0, memory_order_relaxed);
}

void team_wait(struct team *team) {
    unsigned phase = atomic_load(&team->phase);
    int threads = team->threads; /* who has arrived looks at nothing but the phase */
    if (atomic_fetch_add(&team->arrived, 1) + 1 < threads) {
        if (!wait_while(&team->phase, phase, patience)) patience = SPINS_LEAST;
        else if (patience < SPINS_MOST) patience += SPINS_MORE;
        return;
    }
    begin_phase(team);
    if (threads > 1) change(&team->phase);
}

long team_claim_along(struct team *team, long pieces) {
    for (int i = 0; i < team->threads; i++) {
        int whose = (member + i) % team->threads;
        long first = pieces * whose / team->threads, end = pieces * (whose + 1) / team->threads;
        if (i && first + atomic_load(&team->stretches[whose].next) >= end) continue;
        long piece = first + atomic_fetch_add(&team->stretches[whose].next, 1);
        if (piece < end) return piece;
    }
    return pieces;
}

struct birth { int member; unsigned epoch; };

static void *help(void *argument) {
    struct birth *birth = argument;
    unsigned seen = birth->epoch;
    member = birth->member;
    free(birth);
    for (;; seen++) {
        wait_while(&pool.epoch, seen, SPINS_BETWEEN);
        if (atomic_load(&pool.quits)) return NULL;
        pool.work(&pool.team, pool.argument);
        team_wait(&pool.team);
    }
}

/* A child has only the thread that forked: it begins without helpers, whatever the others were doing. */
static void forget_helpers(void) {
    pthread_mutex_init(&pool.owner, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    atomic_store(&pool.sleepers, 0);
    pool.helpers = 0;
}

static void dismiss(void) {
    atomic_store(&pool.quits, 1);
    change(&pool.epoch);
    for (int i = 0; i < pool.helpers; i++) pthread_join(pool.ids[i], NULL);
    atomic_store(&pool.quits, 0);
    pool.helpers = 0;
}

/* Helpers take no signals: those are for the thread that Python handles them in. */
static void hire(int helpers) {
    static int is_watching_forks;
    if (pool.helpers == helpers) return;
    if (!is_watching_forks) is_watching_forks = !pthread_atfork(NULL, NULL, forget_helpers);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; pool.helpers < helpers; pool.helpers++) {
        struct birth *birth = malloc(sizeof *birth);
        if (birth == NULL) break;
        *birth = (struct birth){pool.helpers + 1, atomic_load(&pool.epoch)};
        if (pthread_create(&pool.ids[pool.helpers], NULL, help, birth)) {
            free(birth);
            break;
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void team_resize(int threads) {
    pthread_mutex_lock(&pool.owner);
    if (pool.helpers) dismiss();
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
    hire(pool.wanted - 1); /* with fewer than wanted the work is done all the same */
    pool.team.threads = pool.helpers + 1;
    begin_phase(&pool.team);
    pool.work = work, pool.argument = argument;
    change(&pool.epoch);
    work(&pool.team, argument);
    team_wait(&pool.team);
    pthread_mutex_unlock(&pool.owner);
}
