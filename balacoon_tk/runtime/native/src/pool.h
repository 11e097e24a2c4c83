/* Threads that take parts of one task at a time, wait for the next in a loop for a fraction of a millisecond, and sleep.
 *
 * Whoever gives a task works on it as well and waits for nobody who hasn't begun: on a machine that is busy with
 * something else a task takes no longer than it would in one thread.
 */
#ifndef BALACOON_TK_POOL_H
#define BALACOON_TK_POOL_H

#include <stdint.h>

typedef struct bk_pool bk_pool;
/* Takes parts of the task until there are none; `thread` is 0 for the caller's, below the pool's n_threads. */
typedef void (*bk_task)(void *context, int thread);

/* A pool of n_threads with the caller's: NULL where memory is short. Threads begin with the first task. */
bk_pool *bk_new_pool(int n_threads);
void bk_free_pool(bk_pool *pool);
/* Take the pool for oneself and wake its threads; 0 if somebody else has it, whose threads are busy then. */
int bk_take_pool(bk_pool *pool);
void bk_leave_pool(bk_pool *pool);
/* Let the threads of a pool work on a task, and return when it is done. By one thread alone if pool is NULL. */
void bk_share(bk_pool *pool, bk_task task, void *context);
/* Take one of a task's parts, by a counter that all its threads share and that begins at 0: -1 if none are left. Every
 * second thread takes them from behind, so that of neighbours in time, stage after stage, most stay in its cache. */
int64_t bk_next_part(uint64_t *taken, int64_t n_parts, int thread);
/* Set to 1 what other threads of the task may set at the same time. */
void bk_raise_flag(int *flag);

#endif
