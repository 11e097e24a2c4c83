#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* for the processors that a thread may run on */
#endif
#include "pool.h"

#include <stdlib.h>

#if defined(_WIN32)

/* No threads of its own: the one that calls does all the parts. */
struct bk_pool {
    int taken;
};

bk_pool *bk_new_pool(int n_threads)
{
    (void)n_threads;
    return calloc(1, sizeof(bk_pool));
}
void bk_free_pool(bk_pool *pool) { free(pool); }
int bk_take_pool(bk_pool *pool)
{
    (void)pool;
    return 0;
}
void bk_leave_pool(bk_pool *pool) { (void)pool; }
void bk_share(bk_pool *pool, bk_task task, void *context)
{
    (void)pool;
    task(context, 0);
}
int64_t bk_next_part(uint64_t *taken, int64_t n_parts, int thread)
{
    (void)thread;
    return (int64_t)*taken < n_parts ? (int64_t)(*taken)++ : -1;
}
void bk_raise_flag(int *flag) { *flag = 1; }

#else

#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

#define WAIT_NS 200000 /* longer than from one push to the next of whoever wants them all, shorter than most pushes */
#define N_LOOKS 64     /* for a task, before a thread looks at the time */
#define N_POLITE 400 /* from here on, whoever waits for the last part lets others have the processor */

#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("yield")
#else
#define PAUSE() ((void)0)
#endif

/* Of the word that says which task there is: whether it is open, and how many threads are inside. */
#define OPEN ((uint64_t)1 << 31)
#define INSIDE (OPEN - 1)
#define GENERATION(word) ((word) >> 32)

/* A thread of the pool; what others read of it belongs to whoever holds the mutex. */
typedef struct {
    bk_pool *pool;
    pthread_t handle;
    int thread;
    uint64_t seen; /* generation of the last task before its time */
    int is_asleep;
#if defined(__linux__)
    pid_t id;
    int is_sent; /* whether it may not run where its caller does, but for now */
    cpu_set_t allowed; /* where it may run else */
#endif
} worker;

struct bk_pool {
    int n_threads;
    int n_started; /* threads that run, besides the caller's */
    pid_t process; /* they are of; a child of it has none */
    worker *workers;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    pid_t taken; /* by a thread of this process; 0 if by nobody */
    int ending, n_asleep;
    uint64_t word; /* counts tasks in its upper half */
    bk_task task;
    void *context;
};

static uint64_t read_word(bk_pool *pool) { return __atomic_load_n(&pool->word, __ATOMIC_ACQUIRE); }

/* Go inside if the task is still open; a thread that comes late finds it closed, and nobody waits for it. */
static int enter(bk_pool *pool, uint64_t generation)
{
    uint64_t word = read_word(pool);
    while (GENERATION(word) == generation && (word & OPEN))
        if (__atomic_compare_exchange_n(&pool->word, &word, word + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            return 1;
    return 0;
}

/* Let threads that are asleep wake on other processors than this one. A virtual machine's idle processors can look taken, so
 * that a thread is woken where its caller runs, and each would wait for the other at every task, for some milliseconds,
 * until the system finds out. */
static void send_elsewhere(bk_pool *pool)
{
#if defined(__linux__)
    const int here = sched_getcpu();
    for (int k = 0; here >= 0 && k < pool->n_started; k++) {
        worker *each = &pool->workers[k];
        if (!each->is_asleep || each->is_sent || sched_getaffinity(each->id, sizeof(cpu_set_t), &each->allowed) != 0)
            continue;
        cpu_set_t others = each->allowed;
        CPU_CLR(here, &others);
        if (CPU_COUNT(&others) > 0)
            each->is_sent = sched_setaffinity(each->id, sizeof(others), &others) == 0;
    }
#else
    (void)pool;
#endif
}

/* Sleep until there is another task than the one that was seen, and return its generation. */
static uint64_t sleep_until_woken(worker *self, uint64_t seen)
{
    bk_pool *pool = self->pool;
    uint64_t generation;
    pthread_mutex_lock(&pool->mutex);
    self->is_asleep = 1;
    /* Whoever gives a task looks for sleepers after it has counted: this is seen, or the count is. */
    __atomic_add_fetch(&pool->n_asleep, 1, __ATOMIC_SEQ_CST);
    while ((generation = GENERATION(__atomic_load_n(&pool->word, __ATOMIC_SEQ_CST))) == seen)
        pthread_cond_wait(&pool->wake, &pool->mutex);
    __atomic_sub_fetch(&pool->n_asleep, 1, __ATOMIC_SEQ_CST);
    self->is_asleep = 0;
#if defined(__linux__)
    if (self->is_sent)
        sched_setaffinity(0, sizeof(cpu_set_t), &self->allowed);
    self->is_sent = 0;
#endif
    pthread_mutex_unlock(&pool->mutex);
    return generation;
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void *work(void *argument)
{
    worker *self = argument;
    bk_pool *pool = self->pool;
    uint64_t seen = self->seen;
#if defined(__linux__)
    pthread_mutex_lock(&pool->mutex);
    self->id = (pid_t)syscall(SYS_gettid);
    pthread_mutex_unlock(&pool->mutex);
#endif
    for (;;) {
        uint64_t generation = seen;
        const int64_t end = now_ns() + WAIT_NS;
        do {
            for (int spin = 0; spin < N_LOOKS && generation == seen; spin++) {
                generation = GENERATION(read_word(pool));
                PAUSE();
            }
        } while (generation == seen && now_ns() < end);
        if (generation == seen)
            generation = sleep_until_woken(self, seen);
        seen = generation;
        if (__atomic_load_n(&pool->ending, __ATOMIC_ACQUIRE))
            return NULL;
        if (enter(pool, generation)) {
            pool->task(pool->context, self->thread);
            __atomic_sub_fetch(&pool->word, 1, __ATOMIC_RELEASE);
        }
    }
}

/* Count a task, which is open or only wakes who is asleep. */
static void announce(bk_pool *pool, uint64_t open)
{
    const uint64_t generation = GENERATION(read_word(pool)) + 1;
    __atomic_store_n(&pool->word, generation << 32 | open, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&pool->n_asleep, __ATOMIC_SEQ_CST)) {
        pthread_mutex_lock(&pool->mutex);
        send_elsewhere(pool);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->mutex);
    }
}

static void start(bk_pool *pool)
{
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->process = getpid();
    pool->n_started = 0;
    pool->n_asleep = 0;
    pool->word &= ~(OPEN | INSIDE);
    for (int k = 1; k < pool->n_threads; k++) {
        worker *new = &pool->workers[pool->n_started];
        *new = (worker){.pool = pool, .thread = k, .seen = GENERATION(pool->word)};
        if (pthread_create(&new->handle, NULL, work, new) != 0)
            return; /* with fewer threads then */
        pool->n_started++;
    }
}

bk_pool *bk_new_pool(int n_threads)
{
    bk_pool *pool = calloc(1, sizeof(bk_pool));
    if (pool == NULL)
        return NULL;
    pool->n_threads = n_threads;
    pool->workers = calloc((size_t)n_threads, sizeof(worker));
    if (pool->workers == NULL) {
        free(pool);
        return NULL;
    }
    return pool;
}

void bk_free_pool(bk_pool *pool)
{
    if (pool == NULL)
        return;
    if (pool->n_started && pool->process == getpid()) {
        __atomic_store_n(&pool->ending, 1, __ATOMIC_RELEASE);
        announce(pool, OPEN);
        for (int k = 0; k < pool->n_started; k++)
            pthread_join(pool->workers[k].handle, NULL);
        pthread_mutex_destroy(&pool->mutex);
        pthread_cond_destroy(&pool->wake);
    }
    free(pool->workers);
    free(pool);
}

int bk_take_pool(bk_pool *pool)
{
    if (pool == NULL)
        return 0;
    const pid_t process = getpid();
    pid_t taken = __atomic_load_n(&pool->taken, __ATOMIC_RELAXED);
    /* In a child, whoever had the pool when it was forked isn't there to leave it; of all the child's threads
     * one takes its place. */
    do {
        if (taken == process)
            return 0;
    } while (!__atomic_compare_exchange_n(&pool->taken, &taken, process, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
    if (pool->n_threads > 1 && pool->process != process)
        start(pool);
    /* Threads that are asleep wake while the inputs are brought: no task is open yet, so none goes inside. */
    if (pool->n_started > 0)
        announce(pool, 0);
    return 1;
}

void bk_leave_pool(bk_pool *pool) { __atomic_store_n(&pool->taken, 0, __ATOMIC_RELEASE); }

void bk_share(bk_pool *pool, bk_task task, void *context)
{
    if (pool == NULL || pool->n_started == 0) {
        task(context, 0);
        return;
    }
    pool->task = task;
    pool->context = context;
    announce(pool, OPEN);
    task(context, 0);
    __atomic_and_fetch(&pool->word, ~OPEN, __ATOMIC_ACQ_REL);
    for (int spin = 0; read_word(pool) & INSIDE; spin++) {
        if (spin < N_POLITE)
            PAUSE();
        else
            sched_yield();
    }
}

int64_t bk_next_part(uint64_t *taken, int64_t n_parts, int thread)
{
    const int from_behind = thread & 1;
    const uint64_t before = __atomic_fetch_add(taken, from_behind ? (uint64_t)1 << 32 : 1, __ATOMIC_RELAXED);
    const int64_t in_front = (int64_t)(before & UINT32_MAX), behind = (int64_t)(before >> 32);
    if (in_front + behind >= n_parts)
        return -1;
    return from_behind ? n_parts - 1 - behind : in_front;
}

void bk_raise_flag(int *flag) { __atomic_store_n(flag, 1, __ATOMIC_RELAXED); }

#endif
