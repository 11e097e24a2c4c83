/* Threads that wait for parts of one task at a time, in a loop for some microseconds and then asleep. */
#ifndef BALACOON_TK_POOL_H
#define BALACOON_TK_POOL_H

typedef struct bk_pool bk_pool;
typedef void (*bk_task)(void *context, int part, int n_parts);

/* A pool of n_threads with the caller's: NULL where memory is short. Threads begin with the first task. */
bk_pool *bk_new_pool(int n_threads);
void bk_free_pool(bk_pool *pool);
/* Take the pool for oneself; 0 if somebody else has it, whose threads are busy then. */
int bk_take_pool(bk_pool *pool);
void bk_leave_pool(bk_pool *pool);
/* Call `task` once for each part, in several threads, and return when all are done. By one thread if pool is NULL. */
void bk_share(bk_pool *pool, bk_task task, void *context);
int bk_pool_threads(const bk_pool *pool);

#endif
