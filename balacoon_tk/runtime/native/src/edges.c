/* The rows that edges hold: how many are needed, the padding around them, and the memory that they lie in. */
#include "run.h"

#include <stdlib.h>
#include <string.h>

#define MOST_KEPT (64 << 10) /* bytes that are copied for memory that others may borrow */

void bk_clear_rows(const bk_run *run, int edge, int64_t first, int64_t n_rows)
{
    const bk_edge *e = &run->program->edges[edge];
    const int zero = e->item_size == 1 ? e->zero_point : 0;
    if (n_rows > 0)
        memset(row_of(run, edge, first), zero, (size_t)n_rows * row_size(e));
}

int64_t bk_n_needed_to_pad(const bk_edge *edge)
{
    return edge->padding == BK_REFLECT ? edge->before : edge->padding == BK_EDGE ? 0 : -1;
}

/* Fill rows of padding, from `first` on, with what stands there. */
static void fill_padding(const bk_run *run, int edge, int64_t first, int64_t n_rows)
{
    const bk_edge *e = &run->program->edges[edge];
    if (e->padding == BK_CONSTANT)
        bk_clear_rows(run, edge, first, n_rows);
    for (int64_t k = first; e->padding != BK_CONSTANT && k < first + n_rows; k++)
        memcpy(row_of(run, edge, k), row_of(run, edge, padding_step(e->padding, k, run->tracks[edge].count)),
               row_size(e));
}

void bk_set_count(const bk_run *run, int edge, int64_t count)
{
    const bk_edge *e = &run->program->edges[edge];
    track *t = &run->tracks[edge];
    const int filled = t->count > bk_n_needed_to_pad(e);
    t->count = count;
    if (e->padding != BK_CONSTANT && !filled && count > bk_n_needed_to_pad(e))
        fill_padding(run, edge, t->base, -t->base);
}

int64_t bk_first_of_window(const bk_stage *stage, int64_t done)
{
    const int older = bk_in_bundles(stage) && bk_reads_older(bk_method_of(stage), stage->n_taps);
    return done * stage->stride - stage->pad_left - older * stage->dilation;
}

/* The first step of an edge that a reader still has to read. */
static int64_t first_needed(const bk_run *run, int edge)
{
    const bk_program *program = run->program;
    const bk_edge *e = &program->edges[edge];
    int64_t lowest = run->tracks[edge].count;
    for (int k = 0; k < e->n_readers; k++) {
        const bk_reader *reader = &program->readers[e->first_reader + k];
        int64_t needed;
        if (reader->reading == BK_OUTPUT)
            needed = run->tracks[edge].base;
        else {
            const bk_stage *stage = &program->stages[reader->stage];
            const int64_t done = run->done[reader->stage];
            if (run->finished[reader->stage])
                continue;
            if (reader->reading == BK_WINDOW)
                needed = bk_first_of_window(stage, done);
            else if (reader->reading == BK_BY_GROUP)
                needed = done;
            else if (reader->reading == BK_BY_KERNEL)
                needed = done / stage->kernel_steps;
            else if (reader->reading == BK_STEP_BEFORE)
                needed = done - 1;
            else if (reader->reading == BK_BY_QUERY)
                needed = stage->left_context < 0 ? run->tracks[edge].base : done - stage->left_context;
            else
                needed = done * stage->n_phases - stage->crop;
        }
        lowest = smaller(lowest, needed);
    }
    /* Steps that the padding behind the last may repeat. */
    if (e->padding != BK_CONSTANT && !run->tracks[edge].ended)
        lowest = smaller(lowest, run->tracks[edge].count - 1 - (e->padding == BK_REFLECT ? e->after : 0));
    return lowest < run->tracks[edge].base ? run->tracks[edge].base : lowest;
}

void bk_forget_rows(bk_run *run, int edge)
{
    track *t = &run->tracks[edge];
    const int64_t lowest = first_needed(run, edge);
    const size_t size = row_size(&run->program->edges[edge]);
    const int64_t end = t->count + (t->ended ? run->program->edges[edge].after : 0);
    if (lowest > t->base) {
        memmove(t->rows, t->rows + (size_t)(lowest - t->base) * size, (size_t)(end - lowest) * size);
        t->base = lowest;
    }
}

/* Give an edge memory for so many rows, whatever is in it: the smallest that is spare and does. */
static int take_memory(bk_run *run, int edge, int64_t n_rows)
{
    track *t = &run->tracks[edge];
    const bk_edge *e = &run->program->edges[edge];
    const size_t size = (size_t)n_rows * row_size(e);
    int best = -1;
    for (int k = 0; k < run->n_spares; k++)
        if (run->spares[k].size >= size && (best < 0 || run->spares[k].size < run->spares[best].size))
            best = k;
    /* None that is large enough: one less, so that they don't become more by every longer sentence. */
    if (best < 0 && run->n_spares > 0)
        free(run->spares[--run->n_spares].memory);
    spare_memory taken = {NULL, size + size / 4};
    if (best >= 0) {
        taken = run->spares[best];
        run->spares[best] = run->spares[--run->n_spares];
    } else
        taken.memory = malloc(taken.size + ALIGNMENT + GUARD);
    if (taken.memory == NULL)
        return -1;
    t->memory = taken.memory;
    t->rows = aligned(taken.memory);
    t->capacity = (int64_t)(taken.size / row_size(e));
    if (e->row > e->n_channels)
        memset(t->rows, 0, size); /* what a row is filled up with */
    bk_clear_rows(run, edge, t->base, -t->base);
    return 0;
}

static int is_read(const bk_run *run, int edge)
{
    const bk_edge *e = &run->program->edges[edge];
    for (int k = 0; k < e->n_readers; k++) {
        const bk_reader *reader = &run->program->readers[e->first_reader + k];
        if (reader->reading == BK_OUTPUT || !run->finished[reader->stage])
            return 1;
    }
    return 0;
}

void bk_release_rows(bk_run *run, int edge)
{
    if (edge < 0 || run->program->edges[edge].timeless || is_read(run, edge))
        return;
    track *t = &run->tracks[edge];
    if (t->memory == NULL)
        return;
    const size_t size = (size_t)t->capacity * row_size(&run->program->edges[edge]);
    run->spares[run->n_spares++] = (spare_memory){t->memory, size};
    t->memory = t->rows = NULL;
    t->capacity = 0;
}

/* What a stream keeps of an edge is short, and what a stage makes of it in one go is long. So an edge has memory of its
 * own for what is kept, and borrows some for as long as stages make the rest and read it: memory that one stage after the
 * other writes to stays in a second cache. */

/* Outputs wait in their own for whoever takes them; an edge without time has one step. */
static int may_borrow(const bk_run *run, int edge)
{
    const bk_edge *e = &run->program->edges[edge];
    for (int k = 0; k < e->n_readers; k++)
        if (run->program->readers[e->first_reader + k].reading == BK_OUTPUT)
            return 0;
    return !e->timeless && !run->program->needs_all;
}

/* Steps that an edge has rows of, with the padding behind its last. */
static int64_t n_held(const bk_run *run, int edge)
{
    const track *t = &run->tracks[edge];
    return t->rows == NULL ? 0 : t->count + (t->ended ? run->program->edges[edge].after : 0) - t->base;
}

/* Copy the rows of an edge into other memory, which has room for `n_rows`. */
static void move_rows(bk_run *run, int edge, char *memory, int64_t n_rows)
{
    track *t = &run->tracks[edge];
    const bk_edge *e = &run->program->edges[edge];
    const size_t size = row_size(e), held = (size_t)n_held(run, edge) * size;
    char *rows = aligned(memory);
    if (held > 0)
        memcpy(rows, t->rows, held);
    if (e->row > e->n_channels)
        memset(rows + held, 0, (size_t)n_rows * size - held); /* what a row is filled up with */
    t->memory = memory;
    t->rows = rows;
    t->capacity = n_rows;
}

/* Let an edge have more memory of its own. */
static int grow(bk_run *run, int edge, int64_t n_rows)
{
    track *t = &run->tracks[edge];
    char *old = t->memory, *memory = malloc((size_t)n_rows * row_size(&run->program->edges[edge]) + ALIGNMENT + GUARD);
    if (memory == NULL)
        return -1;
    move_rows(run, edge, memory, n_rows);
    free(old);
    if (!run->program->needs_all) {
        t->own = memory;
        t->own_capacity = n_rows;
    }
    return 0;
}

void bk_give_back_rows(bk_run *run, int edge)
{
    track *t = &run->tracks[edge];
    if (t->borrowed == 0)
        return;
    run->spares[run->n_spares++] = (spare_memory){t->memory, t->borrowed};
    t->borrowed = 0;
    t->memory = t->own;
    t->rows = t->own == NULL ? NULL : aligned(t->own);
    t->capacity = t->own_capacity;
}

/* Let an edge have memory that was in use last, of what is large enough. */
static int borrow(bk_run *run, int edge, int64_t n_rows)
{
    track *t = &run->tracks[edge];
    const size_t size = (size_t)n_rows * row_size(&run->program->edges[edge]);
    int index = run->n_spares - 1;
    while (index >= 0 && run->spares[index].size < size)
        index--;
    /* None: the one that was in use first is given up for it, so that they don't become more with each longer push. */
    const int found = index >= 0;
    if (!found && run->n_spares > 0)
        free(run->spares[index = 0].memory);
    spare_memory taken = {NULL, size + size / 4};
    if (found)
        taken = run->spares[index];
    if (index >= 0) {
        run->n_spares--;
        memmove(&run->spares[index], &run->spares[index + 1], (size_t)(run->n_spares - index) * sizeof(spare_memory));
    }
    if (!found)
        taken.memory = malloc(taken.size + ALIGNMENT + GUARD);
    if (taken.memory == NULL)
        return -1;
    const spare_memory before = {t->memory, t->borrowed};
    move_rows(run, edge, taken.memory, n_rows);
    t->borrowed = taken.size;
    if (run->program->edges[edge].row == run->program->edges[edge].n_channels)
        t->capacity = (int64_t)(taken.size / row_size(&run->program->edges[edge]));
    if (before.size > 0)
        run->spares[run->n_spares++] = before;
    return 0;
}

void bk_keep_rows(bk_run *run, int edge)
{
    if (edge < 0 || run->tracks[edge].borrowed == 0)
        return;
    track *t = &run->tracks[edge];
    const size_t size = row_size(&run->program->edges[edge]);
    const int64_t lowest = first_needed(run, edge), held = n_held(run, edge), n_kept = held - (lowest - t->base);
    if (n_kept > held / 2 || (size_t)n_kept * size > MOST_KEPT)
        return;
    /* And what the padding behind the last step will take, when the edge ends. */
    const int64_t n_wanted = n_kept + (t->ended ? 0 : run->program->edges[edge].after);
    if (n_wanted > t->own_capacity) {
        const int64_t n_rows = n_wanted + n_wanted / 4;
        char *own = calloc((size_t)n_rows * size + ALIGNMENT + GUARD, 1);
        if (own == NULL)
            return;
        free(t->own);
        t->own = own;
        t->own_capacity = n_rows;
    }
    const char *kept = t->rows + (size_t)(lowest - t->base) * size;
    if (n_kept > 0)
        memcpy(aligned(t->own), kept, (size_t)n_kept * size);
    bk_give_back_rows(run, edge);
    t->base = lowest;
}

int bk_make_room(bk_run *run, int edge, int64_t n_steps, int borrows)
{
    track *t = &run->tracks[edge];
    const bk_edge *e = &run->program->edges[edge];
    int64_t needed = t->count + n_steps + e->after - t->base;
    if (needed <= t->capacity && t->rows != NULL)
        return 0;
    if (t->rows == NULL && run->program->needs_all && !e->timeless)
        return take_memory(run, edge, needed > 0 ? needed : 1);
    bk_forget_rows(run, edge);
    needed = t->count + n_steps + e->after - t->base;
    if (needed <= t->capacity && t->rows != NULL)
        return 0;
    return borrows && may_borrow(run, edge) ? borrow(run, edge, needed) : grow(run, edge, needed + needed / 4);
}

int bk_is_long_enough_to_pad(const bk_run *run, int edge)
{
    const bk_edge *e = &run->program->edges[edge];
    return run->tracks[edge].count > (e->padding == BK_REFLECT && e->after > e->before ? e->after : bk_n_needed_to_pad(e));
}

void bk_end_edge(bk_run *run, int edge)
{
    track *t = &run->tracks[edge];
    if (t->ended)
        return;
    t->ended = 1;
    /* Where there is too little to repeat, whoever reads it fails. */
    if (bk_is_long_enough_to_pad(run, edge))
        fill_padding(run, edge, t->count, run->program->edges[edge].after);
}
