/* What a run holds, and what is shared by the scheduling of stages (executor.c), the memory of edges
 * (edges.c) and the making of tiles. */
#ifndef BALACOON_TK_RUN_H
#define BALACOON_TK_RUN_H

#include "executor.h"

#define ALIGNMENT 64 /* what begins at a multiple of so many bytes is read faster */
#define GUARD 256 /* bytes behind a buffer, which a kernel may read and never uses */

/* The rows of an edge that a run holds. */
typedef struct {
    char *memory; /* as it was allocated */
    char *rows;
    int64_t capacity; /* rows */
    char *own;        /* memory for the rows that a stream keeps: theirs, unless they lie in borrowed memory now */
    int64_t own_capacity;
    size_t borrowed;  /* bytes, or 0 */
    int64_t base;     /* step of the first row */
    int64_t count;    /* steps that are known */
    int ended;
    int settled; /* whether what runs now adds no more steps */
} track;

/* Memory in which no edge has rows now. */
typedef struct {
    char *memory;
    size_t size; /* bytes behind its first aligned one */
} spare_memory;

struct bk_run {
    const bk_program *program;
    int n_threads;
    track *tracks;
    int64_t *done; /* groups that each stage has made */
    int *finished; /* stages that will make no more */
    float *scratch;
    size_t scratch_size; /* floats of one thread */
    char *memory;        /* of the scratch */
    char *work;          /* what an attention or a recurrence works in */
    size_t work_size;    /* bytes */
    spare_memory *spares; /* as many as edges at most; the last one was in use last */
    int n_spares;
    int unknown_symbol;
    int begun; /* whether the inputs that have ended had a step */
};

/* What threads share of one piece of a stage. */
typedef struct piece {
    bk_run *run;
    const bk_stage *stage;
    int64_t first; /* group */
    int64_t n_groups;
    int64_t n_total; /* steps of the whole output; large if nobody knows */
    uint64_t taken; /* parts that some thread has taken, from both ends */
    const struct piece *sibling; /* the same groups of a stage that reads the same, made with this; or NULL */
} piece;

static inline char *aligned(char *memory) { return memory + (ALIGNMENT - (uintptr_t)memory % ALIGNMENT); }

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static inline int smaller_int(int a, int b) { return a < b ? a : b; }

static inline size_t row_size(const bk_edge *edge) { return (size_t)edge->row * (size_t)edge->item_size; }

static inline char *row_of(const bk_run *run, int edge, int64_t step)
{
    const track *t = &run->tracks[edge];
    return t->rows + (step - t->base) * (int64_t)row_size(&run->program->edges[edge]);
}

/* The step that stands at a place in front of the first, or behind the last of n. */
static inline int64_t padding_step(bk_padding padding, int64_t step, int64_t n)
{
    if (padding == BK_REFLECT)
        return step < 0 ? -step : 2 * (n - 1) - step;
    return step < 0 ? 0 : n - 1;
}

/* edges.c: the rows of an edge. */
void bk_clear_rows(const bk_run *run, int edge, int64_t first, int64_t n_rows);
/* Say that so many steps are known, and fill the padding in front of the first when what it repeats is there. */
void bk_set_count(const bk_run *run, int edge, int64_t count);
void bk_end_edge(bk_run *run, int edge);
/* How many steps there have to be before what is padded has its first one, less one; nothing is padded with zeros. */
int64_t bk_n_needed_to_pad(const bk_edge *edge);
/* Whether an edge has the steps that its padding repeats. */
int bk_is_long_enough_to_pad(const bk_run *run, int edge);
/* The first step of its source that a stage still has to read, if there is such a step. */
int64_t bk_first_of_window(const bk_stage *stage, int64_t done);
/* Make room for steps behind those that are known, and for the zeros behind the last: in borrowed memory, where an edge
 * may have such. -1 where memory is short. */
int bk_make_room(bk_run *run, int edge, int64_t n_steps, int borrows);
/* Give up the rows that no reader needs any more. */
void bk_forget_rows(bk_run *run, int edge);
/* Give back what an edge has borrowed, if little is kept of what is in it. */
void bk_keep_rows(bk_run *run, int edge);
/* Put an edge back into memory of its own, whatever is in that. */
void bk_give_back_rows(bk_run *run, int edge);
/* Lend the memory of an edge to others, if all have read it. */
void bk_release_rows(bk_run *run, int edge);
/* tiles.c: the chain of functions, on a tile of `rows` of which some are steps of the output (tiles.c). */
void bk_run_chain(const piece *p, const bk_block *block, const bk_span *spans, int n_spans, int rows, float *scratch);
/* Tasks for bk_share: parts of a piece of a stage. */
void bk_run_parts(void *context, int thread);
void bk_run_attention(void *context, int thread);
void bk_run_spline(void *context, int thread);
void bk_run_recurrence(void *context, int thread);
/* Floats that these work in: of all threads. */
size_t bk_attention_size(const bk_run *run, const bk_stage *stage);
size_t bk_recurrence_size(const bk_stage *stage);

#endif
