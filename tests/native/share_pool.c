/* Streams of several threads share one pool and one program, for ThreadSanitizer to look at: each has to give the
 * bits that it gives alone. Says how often the pool was free, and how many streams were wrong; 1 if one was. */
#include "executor.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_THREADS 3 /* of the pool */
#define N_STREAMS 4
#define N_ROUNDS 6
#define N_STEPS 150
#define N_SYMBOLS 5
#define N_IN 32
#define N_HIDDEN 64
#define N_OUT 2
#define N_TAPS 3

enum { SOURCE, SYMBOL, HIDDEN, PAIRED, OUTPUT, N_EDGES };

static float weights[N_TAPS * N_HIDDEN * N_HIDDEN * 3], bias[N_HIDDEN], table[N_SYMBOLS * N_HIDDEN];
static float source[N_STEPS * N_IN], symbols[N_STEPS];

/* before, after: what the windows of their readers reach beyond the ends. */
static const bk_edge edges[N_EDGES] = {
    [SOURCE] = {.n_channels = N_IN, .row = N_IN, .item_size = 4,
     .before = 1, .after = 1, .n_readers = 1, .first_reader = 0},
    [SYMBOL] = {.n_channels = 1, .row = 1, .item_size = 4,
     .before = 0, .after = 0, .n_readers = 1, .first_reader = 1},
    [HIDDEN] = {.n_channels = N_HIDDEN, .row = N_HIDDEN, .item_size = 4,
     .before = 3, .after = 3, .n_readers = 1, .first_reader = 2},
    [PAIRED] = {.n_channels = N_HIDDEN, .row = N_HIDDEN, .item_size = 4,
     .before = 1, .after = 1, .n_readers = 1, .first_reader = 3},
    [OUTPUT] = {.n_channels = N_OUT, .row = N_OUT, .item_size = 4,
     .before = 0, .after = 0, .n_readers = 1, .first_reader = 4},
};
static const bk_reader readers[] = {
    {0, BK_WINDOW}, {0, BK_BY_ROW}, {1, BK_WINDOW}, {2, BK_WINDOW}, {0, BK_OUTPUT},
};
static const bk_call first_calls[] = {
    {.action = BK_LOOKUP, .out = 1, .edge = SYMBOL, .vector = table, .n_symbols = N_SYMBOLS},
    {.action = BK_APPLY, .function = BK_ADD, .operand = BK_TILE, .out = 0, .a = 0, .b = 1},
    {.action = BK_APPLY, .function = BK_TANH, .operand = BK_TILE, .out = 0, .a = 0},
    {.action = BK_STORE, .a = 0, .edge = HIDDEN},
};
static const bk_call paired_calls[] = {{.action = BK_STORE, .a = 0, .edge = PAIRED}};
static const bk_call last_calls[] = {{.action = BK_STORE, .a = 0, .edge = OUTPUT}};
static const bk_block wide[] = {
    {.channel = 0, .channel_block = 0, .width = BK_WIDTH, .weights = weights, .bias = bias},
    {.channel = BK_WIDTH, .channel_block = 1, .width = BK_WIDTH, .weights = weights + 7, .bias = bias + BK_WIDTH},
};
static const bk_block narrow[] = {{.width = N_OUT, .weights = weights, .bias = bias}};
static bk_stage stages[] = {
    {.kind = BK_CONVOLVE, .source = SOURCE, .n_in = N_IN, .n_out = N_HIDDEN, .n_taps = N_TAPS, .dilation = 1,
     .stride = 1, .pad_left = 1, .pad_right = 1, .n_phases = 1, .n_blocks = 2, .n_channel_blocks = 2,
     .blocks = wide, .n_calls = 4, .calls = first_calls, .ending.first = 4, .n_most = 64},
    {.kind = BK_PAIRED, .source = HIDDEN, .n_in = N_HIDDEN, .n_out = N_HIDDEN, .n_taps = N_TAPS, .dilation = 3,
     .stride = 1, .pad_left = 3, .pad_right = 3, .n_phases = 1, .n_blocks = 2, .n_channel_blocks = 2,
     .blocks = wide, .n_calls = 1, .calls = paired_calls, .ending.first = 1, .n_most = 64,
     .n_together = 2},
    {.kind = BK_NARROW, .source = PAIRED, .n_in = N_HIDDEN, .n_out = N_OUT, .n_taps = N_TAPS, .dilation = 1,
     .stride = 1, .pad_left = 1, .pad_right = 1, .n_phases = 1, .n_blocks = 1, .n_channel_blocks = 1,
     .blocks = narrow, .n_calls = 1, .calls = last_calls, .ending.first = 1, .n_most = 64},
};
static const int first_stages[] = {0, 1, 3};
static bk_program program = {NULL, N_EDGES, 3, 2, edges, stages, readers, first_stages, 0, 0};

static bk_pool *pool;
static float wanted[N_STEPS * N_OUT];
static int n_wrong, n_free, n_busy;

/* Give an utterance in chunks that a seed chooses; fill `out` with what comes, -1 if it isn't all of it. */
static int stream(bk_run *run, unsigned seed, int alone, float *out)
{
    int64_t n_given = 0, n_taken = 0;
    if (bk_start(run) < 0)
        return -1;
    while (n_given < N_STEPS) {
        int64_t n = 1 + rand_r(&seed) % 40;
        if (n > N_STEPS - n_given)
            n = N_STEPS - n_given;
        float *room = bk_room(run, SOURCE, n), *symbol_room = bk_room(run, SYMBOL, n);
        if (room == NULL || symbol_room == NULL)
            return -1;
        memcpy(room, source + n_given * N_IN, (size_t)n * N_IN * sizeof(float));
        memcpy(symbol_room, symbols + n_given, (size_t)n * sizeof(float));
        bk_advance(run, SOURCE, n);
        bk_advance(run, SYMBOL, n);
        n_given += n;
        if (n_given == N_STEPS && (bk_end(run, SOURCE) < 0 || bk_end(run, SYMBOL) < 0))
            return -1;
        const int taken = !alone && bk_take_pool(pool);
        const int code = bk_execute(run, taken ? pool : NULL);
        if (taken)
            bk_leave_pool(pool);
        if (!alone)
            __atomic_add_fetch(taken ? &n_free : &n_busy, 1, __ATOMIC_RELAXED);
        const int64_t n_waiting = bk_n_waiting(run, OUTPUT);
        /* One of the symbols is in no table, which every push is told that has it. */
        if ((code != 0 && code != -2) || n_taken + n_waiting > N_STEPS)
            return -1;
        memcpy(out + n_taken * N_OUT, bk_waiting(run, OUTPUT), (size_t)n_waiting * N_OUT * sizeof(float));
        bk_take(run, OUTPUT);
        n_taken += n_waiting;
    }
    return n_taken == N_STEPS ? 0 : -1;
}

static void *streams(void *number)
{
    float got[N_STEPS * N_OUT];
    bk_run *run = bk_new_run(&program, N_THREADS);
    for (unsigned round = 0; round < N_ROUNDS; round++)
        if (run == NULL || stream(run, (unsigned)(size_t)number * 1000 + round, 0, got) < 0
            || memcmp(got, wanted, sizeof wanted) != 0)
            __atomic_add_fetch(&n_wrong, 1, __ATOMIC_RELAXED);
    bk_free_run(run);
    return NULL;
}

static void fill(float *values, size_t n)
{
    for (size_t k = 0; k < n; k++)
        values[k] = ((float)rand() / (float)RAND_MAX - 0.5f) / 8;
}

/* Let streams share the pool while they make steps one by one, in pairs or in fours. */
static int share(bk_kind kind)
{
    pthread_t threads[N_STREAMS];
    stages[1].kind = kind;
    program.combined_size = 0;
    if (kind != BK_CONVOLVE)
        program.combined_size = 2 * bk_combined_size(bk_method_of(&stages[1]), N_TAPS, N_HIDDEN);
    bk_run *run = bk_new_run(&program, 1);
    pool = bk_new_pool(N_THREADS);
    if (run == NULL || pool == NULL || stream(run, 1, 1, wanted) < 0)
        return -1;
    bk_free_run(run);
    for (size_t k = 0; k < N_STREAMS; k++)
        if (pthread_create(&threads[k], NULL, streams, (void *)k) != 0)
            return -1;
    for (int k = 0; k < N_STREAMS; k++)
        pthread_join(threads[k], NULL);
    bk_free_pool(pool);
    return 0;
}

int main(void)
{
    program.kernels = bk_find_kernels(NULL);
    if (program.kernels == NULL)
        return 1;
    fill(weights, sizeof weights / sizeof *weights);
    fill(bias, N_HIDDEN);
    fill(table, N_SYMBOLS * N_HIDDEN);
    fill(source, N_STEPS * N_IN);
    for (int k = 0; k < N_STEPS; k++)
        symbols[k] = (float)(k % (N_SYMBOLS + 1));
    const bk_kind kinds[] = {BK_CONVOLVE, BK_PAIRED, BK_FOURS};
    const int n_kinds = program.kernels->pairs.convolve == NULL ? 1 : 3;
    for (int k = 0; k < n_kinds; k++)
        if (share(kinds[k]) < 0)
            return 1;
    printf("%s: the pool was free for %d pushes and busy for %d, %d streams of %d wrong\n", program.kernels->name,
           n_free, n_busy, n_wrong, n_kinds * N_STREAMS * N_ROUNDS);
    return n_wrong != 0;
}
