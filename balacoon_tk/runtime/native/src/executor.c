#include "run.h"

#include <stdlib.h>
#include <string.h>

#define LONGEST ((int64_t)1 << 40) /* steps of a stream: products with strides and rows stay within 64 bits */
#define GUARD 256 /* bytes behind a buffer, which a kernel may read and never uses */
#define MOST_KEPT (64 << 10) /* bytes that are copied for memory that others may borrow */

static void clear_rows(const bk_run *run, int edge, int64_t first, int64_t n_rows)
{
    const bk_edge *e = &run->program->edges[edge];
    const int zero = e->item_size == 1 ? e->zero_point : 0;
    if (n_rows > 0)
        memset(row_of(run, edge, first), zero, (size_t)n_rows * row_size(e));
}

/* How many steps there have to be before what is padded has its first one, less one; nothing is padded with zeros. */
static int64_t n_needed(const bk_edge *edge)
{
    return edge->padding == BK_REFLECT ? edge->before : edge->padding == BK_EDGE ? 0 : -1;
}

/* Fill rows of padding, from `first` on, with what stands there. */
static void fill_padding(const bk_run *run, int edge, int64_t first, int64_t n_rows)
{
    const bk_edge *e = &run->program->edges[edge];
    if (e->padding == BK_CONSTANT)
        clear_rows(run, edge, first, n_rows);
    for (int64_t k = first; e->padding != BK_CONSTANT && k < first + n_rows; k++)
        memcpy(row_of(run, edge, k), row_of(run, edge, padding_step(e->padding, k, run->tracks[edge].count)),
               row_size(e));
}

/* Say that so many steps are known, and fill the padding in front of the first when what it repeats is there. */
static void set_count(const bk_run *run, int edge, int64_t count)
{
    const bk_edge *e = &run->program->edges[edge];
    track *t = &run->tracks[edge];
    const int filled = t->count > n_needed(e);
    t->count = count;
    if (e->padding != BK_CONSTANT && !filled && count > n_needed(e))
        fill_padding(run, edge, t->base, -t->base);
}

bk_run *bk_new_run(const bk_program *program, int n_threads)
{
    bk_run *run = calloc(1, sizeof(bk_run));
    if (run == NULL)
        return NULL;
    run->program = program;
    run->n_threads = n_threads;
    run->tracks = calloc((size_t)program->n_edges + 1, sizeof(track));
    run->done = calloc((size_t)program->n_stages + 1, sizeof(int64_t));
    run->finished = calloc((size_t)program->n_stages + 1, sizeof(int));
    run->spares = calloc((size_t)program->n_edges + 1, sizeof(spare_memory));
    run->scratch_size = (size_t)BK_ROWS * (size_t)(BK_REGISTERS * BK_WIDTH + program->longest_row)
                        + (size_t)BK_NOWHERE * BK_WIDTH + program->combined_size;
    run->memory = malloc(run->scratch_size * (size_t)n_threads * sizeof(float) + ALIGNMENT + GUARD);
    if (run->tracks == NULL || run->done == NULL || run->finished == NULL || run->spares == NULL
        || run->memory == NULL) {
        bk_free_run(run);
        return NULL;
    }
    run->scratch = (float *)aligned(run->memory);
    /* Rows of a tile that lie outside of the output are computed and not stored. */
    memset(run->scratch, 0, run->scratch_size * (size_t)n_threads * sizeof(float));
    return run;
}

void bk_free_run(bk_run *run)
{
    if (run == NULL)
        return;
    for (int k = 0; run->tracks != NULL && k < run->program->n_edges; k++) {
        const track *t = &run->tracks[k];
        if (t->own != t->memory)
            free(t->own);
        free(t->memory);
    }
    free(run->tracks);
    free(run->done);
    free(run->finished);
    free(run->memory);
    free(run->work);
    for (int k = 0; k < run->n_spares; k++)
        free(run->spares[k].memory);
    free(run->spares);
    free(run);
}

/* The first step of its source that a stage still has to read, if there is such a step. */
static int64_t first_of_window(const bk_stage *stage, int64_t done)
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
                needed = first_of_window(stage, done);
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

static void forget(bk_run *run, int edge)
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
    clear_rows(run, edge, t->base, -t->base);
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

/* Lend the memory of an edge to others, if all have read it. */
static void release(bk_run *run, int edge)
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

/* Put an edge back into memory of its own, whatever is in that. */
static void give_back(bk_run *run, int edge)
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

/* Give back what an edge has borrowed, if little is kept of what is in it. */
static void keep(bk_run *run, int edge)
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
    give_back(run, edge);
    t->base = lowest;
}

/* Make room for steps behind those that are known, and for the zeros behind the last: in borrowed memory, where an edge
 * may have such. */
static int make_room(bk_run *run, int edge, int64_t n_steps, int borrows)
{
    track *t = &run->tracks[edge];
    const bk_edge *e = &run->program->edges[edge];
    int64_t needed = t->count + n_steps + e->after - t->base;
    if (needed <= t->capacity && t->rows != NULL)
        return 0;
    if (t->rows == NULL && run->program->needs_all && !e->timeless)
        return take_memory(run, edge, needed > 0 ? needed : 1);
    forget(run, edge);
    needed = t->count + n_steps + e->after - t->base;
    if (needed <= t->capacity && t->rows != NULL)
        return 0;
    return borrows && may_borrow(run, edge) ? borrow(run, edge, needed) : grow(run, edge, needed + needed / 4);
}

/* Whether an edge has the steps that its padding repeats. */
static int is_long_enough_to_pad(const bk_run *run, int edge)
{
    const bk_edge *e = &run->program->edges[edge];
    return run->tracks[edge].count > (e->padding == BK_REFLECT && e->after > e->before ? e->after : n_needed(e));
}

static void end_edge(bk_run *run, int edge)
{
    track *t = &run->tracks[edge];
    if (t->ended)
        return;
    t->ended = 1;
    /* Where there is too little to repeat, whoever reads it fails. */
    if (is_long_enough_to_pad(run, edge))
        fill_padding(run, edge, t->count, run->program->edges[edge].after);
}

int bk_start(bk_run *run)
{
    const bk_program *program = run->program;
    memset(run->done, 0, (size_t)program->n_stages * sizeof(int64_t));
    memset(run->finished, 0, (size_t)program->n_stages * sizeof(int));
    run->begun = 0;
    for (int k = 0; k < program->n_edges; k++) {
        track *t = &run->tracks[k];
        t->base = t->count = -program->edges[k].before;
        t->ended = 0;
        if (program->needs_all && !program->edges[k].timeless) {
            /* Its rows in front are cleared with its memory, which another edge may have now. */
            t->count = 0;
            if (t->rows != NULL)
                clear_rows(run, k, t->base, program->edges[k].before);
            continue;
        }
        give_back(run, k);
        if (make_room(run, k, program->edges[k].before, 0) < 0)
            return -1;
        clear_rows(run, k, t->base, program->edges[k].before);
        t->count = 0;
    }
    return 0;
}

int bk_n_positions(const bk_program *program) { return 2 * program->n_edges + program->n_stages; }

int64_t bk_state_size(bk_run *run)
{
    int64_t size = 0;
    for (int k = 0; k < run->program->n_edges; k++)
        if (!run->program->edges[k].timeless) {
            forget(run, k);
            size += (run->tracks[k].count - run->tracks[k].base) * (int64_t)row_size(&run->program->edges[k]);
        }
    return size;
}

void bk_save(const bk_run *run, int64_t *positions, char *rows)
{
    for (int k = 0; k < run->program->n_edges; k++) {
        const track *t = &run->tracks[k];
        *positions++ = t->base;
        *positions++ = t->count;
        if (!run->program->edges[k].timeless) {
            const size_t size = (size_t)(t->count - t->base) * row_size(&run->program->edges[k]);
            memcpy(rows, t->rows, size);
            rows += size;
        }
    }
    memcpy(positions, run->done, (size_t)run->program->n_stages * sizeof(int64_t));
}

static int sees_all(const bk_stage *stage) { return stage->kind == BK_ATTEND && stage->left_context < 0; }

static int64_t n_possible(const bk_run *run, const bk_stage *stage, int *all);

/* Whether what a stage has made agrees with the rows of the edges that it reads and writes, before any has ended. */
static int agrees(const bk_run *run, int index)
{
    const bk_stage *stage = &run->program->stages[index];
    const int64_t done = run->done[index];
    int64_t n_known = done * stage->n_phases - stage->crop;
    int all;
    if (n_known < 0)
        n_known = 0;
    if (done > n_possible(run, stage, &all))
        return 0;
    if (stage->source >= 0) {
        const int64_t first = first_of_window(stage, done), base = run->tracks[stage->source].base;
        if (first < base && base > -run->program->edges[stage->source].before)
            return 0;
    }
    if (stage->kind == BK_PREDICTED && done / stage->kernel_steps < run->tracks[stage->kernels].base)
        return 0;
    if (stage->kind == BK_PREDICTED && stage->biases >= 0
        && done / stage->kernel_steps < run->tracks[stage->biases].base)
        return 0;
    if (stage->kind == BK_RECUR && done - 1 < run->tracks[stage->own].base)
        return 0;
    /* An attention has the steps that its next query sees, or all; each step of a spline has its parameters. */
    int64_t needed = done;
    if (stage->kind == BK_ATTEND)
        needed = sees_all(stage) || done < stage->left_context ? 0 : done - stage->left_context;
    for (int k = 0; k < stage->n_others; k++)
        if (needed < run->tracks[stage->others[k]].base)
            return 0;
    for (int k = 0; k < stage->n_calls; k++) {
        const bk_call *call = &stage->calls[k];
        const track *t = &run->tracks[call->edge];
        if (call->action == BK_STORE && t->count != n_known)
            return 0;
        if ((call->action == BK_LOAD || call->action == BK_LOOKUP) && !run->program->edges[call->edge].timeless
            && (call->by_group ? done : n_known) < t->base)
            return 0;
    }
    return 1;
}

int bk_load(bk_run *run, const int64_t *positions, const char *rows, int64_t n_bytes)
{
    const bk_program *program = run->program;
    const int64_t *done = positions + 2 * program->n_edges;
    int64_t total = 0;
    for (int k = 0; k < program->n_edges; k++) {
        const int64_t base = positions[2 * k], count = positions[2 * k + 1];
        if (base < -program->edges[k].before || count < base || count < 0 || count > LONGEST
            || count - base > n_bytes)
            return -2;
        if (!program->edges[k].timeless)
            total += (count - base) * (int64_t)row_size(&program->edges[k]);
        /* Of what is padded with its own steps, those that are repeated must be there. */
        const bk_padding padding = program->edges[k].padding;
        if (padding != BK_CONSTANT && base > 0
            && base > count - 1 - (padding == BK_REFLECT ? program->edges[k].after : 0))
            return -2;
        if (padding != BK_CONSTANT && base > -program->edges[k].before && count <= n_needed(&program->edges[k]))
            return -2;
    }
    for (int k = 0; k < program->n_stages; k++)
        if (done[k] < 0 || done[k] > LONGEST)
            return -2;
    if (total != n_bytes)
        return -2;
    memcpy(run->done, done, (size_t)program->n_stages * sizeof(int64_t));
    memset(run->finished, 0, (size_t)program->n_stages * sizeof(int));
    run->begun = 0;
    for (int k = 0; k < program->n_edges; k++) {
        track *t = &run->tracks[k];
        const int64_t n_rows = program->edges[k].timeless ? 0 : positions[2 * k + 1] - positions[2 * k];
        t->ended = 0;
        t->base = t->count = positions[2 * k];
        give_back(run, k);
        if (make_room(run, k, n_rows, 0) < 0)
            return -1;
        /* A state of no rows at all has none to point at. */
        if (n_rows > 0) {
            memcpy(t->rows, rows, (size_t)n_rows * row_size(&program->edges[k]));
            rows += (size_t)n_rows * row_size(&program->edges[k]);
        }
        t->count = program->edges[k].timeless ? 0 : positions[2 * k + 1];
        if (program->edges[k].timeless)
            t->base = 0;
    }
    /* A state that was altered must not make a stage read or write outside. */
    for (int k = 0; k < program->n_stages; k++)
        if (!program->stages[k].timeless && !agrees(run, k))
            return -2;
    return 0;
}

float *bk_room(bk_run *run, int edge, int64_t n_steps)
{
    if (run->program->edges[edge].timeless)
        run->tracks[edge].count = run->tracks[edge].base = 0;
    if (make_room(run, edge, n_steps, 1) < 0)
        return NULL;
    return (float *)row_of(run, edge, run->tracks[edge].count);
}

void bk_advance(bk_run *run, int edge, int64_t n_steps) { set_count(run, edge, run->tracks[edge].count + n_steps); }

int64_t bk_n_waiting(const bk_run *run, int edge)
{
    const track *t = &run->tracks[edge];
    return t->count - (t->base < 0 ? 0 : t->base);
}

const float *bk_waiting(const bk_run *run, int edge)
{
    const int64_t base = run->tracks[edge].base;
    return (const float *)row_of(run, edge, base < 0 ? 0 : base);
}

/* What is left of an output that a stage reads as well is kept until that has read it. */
void bk_take(bk_run *run, int edge)
{
    track *t = &run->tracks[edge];
    t->base = t->count;
}

/* ------------------------------------------------------------------------------------------ a stage */

/* Groups that a stage should have made by now, and whether these are all that it ever will. */
static int64_t n_possible(const bk_run *run, const bk_stage *stage, int *all)
{
    int64_t possible = INT64_MAX;
    int ended = 1;
    if (stage->source >= 0) {
        const track *t = &run->tracks[stage->source];
        const int64_t n_steps = t->count + stage->pad_left + (t->ended ? stage->pad_right : 0);
        const int64_t span = (int64_t)(stage->n_taps - 1) * stage->dilation;
        possible = n_steps <= span ? 0 : (n_steps - span - 1) / stage->stride + 1;
        if (stage->kind == BK_PAD) {
            /* The first step is made of others that have to be there. */
            const int64_t needed = stage->padding == BK_REFLECT ? stage->n_left : stage->n_left ? 0 : -1;
            const int64_t behind = t->ended || stage->n_right < 0 ? stage->n_right : 0;
            possible = t->count > needed || t->ended ? t->count + stage->n_left + behind : 0;
        }
        if (stage->transposed && !t->ended) {
            /* The end may come now, and cut steps off the last group: whole groups wait until it can't. */
            const int64_t n_sure = t->count * stage->n_phases + stage->n_extra + stage->crop;
            possible = smaller(possible, n_sure < 0 ? 0 : n_sure / stage->n_phases);
        }
        /* Padding alone gives nothing: a tensor of no steps stays one. */
        if (t->count == 0 || t->count <= n_needed(&run->program->edges[stage->source]))
            possible = 0;
        ended = t->ended;
    }
    for (int k = 0; stage->kind == BK_PREDICTED && k < 2; k++) {
        const int edge = k ? stage->biases : stage->kernels;
        if (edge < 0)
            continue;
        possible = smaller(possible, run->tracks[edge].count * stage->kernel_steps);
        ended = ended && run->tracks[edge].ended;
    }
    for (int k = 0; k < stage->n_others; k++) {
        const track *t = &run->tracks[stage->others[k]];
        if (!sees_all(stage) || t->count == 0)
            possible = smaller(possible, t->count - (t->ended ? 0 : stage->right_context));
        ended = ended && t->ended;
    }
    /* Each step depends on all. */
    if (sees_all(stage) && !ended)
        possible = 0;
    for (int k = 0; k < stage->n_calls; k++) {
        const bk_call *call = &stage->calls[k];
        if ((call->action != BK_LOAD && call->action != BK_LOOKUP) || run->program->edges[call->edge].timeless)
            continue;
        const track *t = &run->tracks[call->edge];
        int64_t n_groups = t->count;
        if (!call->by_group) {
            /* The groups that begin within; the last of all may be cropped, so that it may reach beyond. */
            const int64_t n_rows = t->count + stage->crop;
            n_groups = t->ended ? (n_rows + stage->n_phases - 1) / stage->n_phases : n_rows / stage->n_phases;
            if (t->ended && stage->n_phases > 1)
                n_groups = INT64_MAX;
        }
        possible = smaller(possible, n_groups);
        ended = ended && t->ended;
    }
    *all = ended;
    if (!ended)
        possible -= stage->held_back;
    return possible < 0 ? 0 : possible;
}

/* Whether a stage whose sources have ended is what a whole run would make of them, which fails for windows that
 * nothing fits into and for tensors of different lengths. An utterance of no steps at all is none. */
static int is_long_enough(const bk_run *run, const bk_stage *stage, int64_t n_groups)
{
    int64_t n_steps = n_groups * stage->n_phases - stage->crop;
    /* Nothing may be left by what only takes steps away; it can't take more than there are. */
    const int takes_away = stage->kind == BK_PAD && stage->n_left <= 0 && stage->n_right <= 0;
    if (stage->source >= 0 && n_groups == 0 && !takes_away)
        return 0;
    if (takes_away && run->tracks[stage->source].count + stage->n_left + stage->n_right < 0)
        return 0;
    if (stage->transposed) {
        n_steps = smaller(n_steps, run->tracks[stage->source].count * stage->n_phases + stage->n_extra);
        if (n_steps <= 0)
            return 0;
    }
    if (stage->kind == BK_PREDICTED
        && (run->tracks[stage->kernels].count * stage->kernel_steps != n_steps
            || (stage->biases >= 0 && run->tracks[stage->biases].count * stage->kernel_steps != n_steps)))
        return 0;
    /* A value for each key; a key in the window of each query; parameters for each step. */
    if (stage->kind == BK_ATTEND && run->tracks[stage->others[0]].count != run->tracks[stage->others[1]].count)
        return 0;
    if (stage->n_others > 0 && !sees_all(stage) && run->tracks[stage->others[0]].count != n_steps)
        return 0;
    for (int k = 0; k < stage->n_calls; k++) {
        const bk_call *call = &stage->calls[k];
        if ((call->action == BK_LOAD || call->action == BK_LOOKUP) && !run->program->edges[call->edge].timeless
            && run->tracks[call->edge].count != (call->by_group ? n_groups : n_steps))
            return 0;
    }
    return 1;
}

/* Steps from one place where bundles of a stage begin to the next. */
static int64_t bundle_period(const bk_stage *stage)
{
    return bk_in_bundles(stage) ? bk_n_outputs(bk_method_of(stage)) * stage->dilation : 1;
}

/* Whether nothing that a stage reads becomes longer before this push, or whole run, is done with. */
static int reads_settled(const bk_run *run, const bk_stage *stage)
{
    int settled = stage->source < 0 || run->tracks[stage->source].settled;
    if (stage->kind == BK_PREDICTED)
        settled = settled && run->tracks[stage->kernels].settled
                  && (stage->biases < 0 || run->tracks[stage->biases].settled);
    for (int k = 0; k < stage->n_others; k++)
        settled = settled && run->tracks[stage->others[k]].settled;
    for (int k = 0; k < stage->n_calls; k++)
        if (stage->calls[k].action == BK_LOAD || stage->calls[k].action == BK_LOOKUP)
            settled = settled && run->tracks[stage->calls[k].edge].settled;
    return settled;
}

static void settle(bk_run *run, const bk_stage *stage, int settled)
{
    for (int k = 0; k < stage->n_calls; k++)
        if (stage->calls[k].action == BK_STORE)
            run->tracks[stage->calls[k].edge].settled = settled;
}

static bk_task task_of(const bk_stage *stage)
{
    switch (stage->kind) {
    case BK_ATTEND: return bk_run_attention;
    case BK_RECUR: return bk_run_recurrence;
    case BK_SPLINE: return bk_run_spline;
    default: return bk_run_parts;
    }
}

/* Make room for what a stage works in: -1 where memory is short. */
static int make_work(bk_run *run, const bk_stage *stage)
{
    if (stage->kind != BK_ATTEND && stage->kind != BK_RECUR)
        return 0;
    const size_t n_floats = stage->kind == BK_ATTEND ? bk_attention_size(run, stage) : bk_recurrence_size(stage);
    const size_t size = n_floats * sizeof(float) + ALIGNMENT;
    if (size <= run->work_size)
        return 0;
    free(run->work);
    run->work = malloc(size);
    run->work_size = run->work == NULL ? 0 : size;
    return run->work == NULL ? -1 : 0;
}

/* What a stage makes next. */
typedef struct {
    piece piece;
    int64_t n_known; /* steps of its output when that is made */
    int finishes;    /* whether these are its last */
} plan;

/* Find out what a stage makes next, and make room for it. */
static int make_plan(bk_run *run, int index, plan *next)
{
    const bk_stage *stage = &run->program->stages[index];
    int all;
    const int64_t possible = n_possible(run, stage, &all);
    const int64_t first = run->done[index], period = bundle_period(stage);
    int64_t n_groups = possible > first ? possible - first : 0;
    const int settled = reads_settled(run, stage);
    /* Not a large piece and a small one behind it. */
    const int is_large = n_groups >= stage->n_most + period;
    if (is_large)
        n_groups = n_groups >= 2 * stage->n_most ? stage->n_most : (n_groups + 1) / 2;
    /* A piece that ends where bundles do makes no outputs of one of which the next piece makes the others; it waits for
     * these as long as something else will run. */
    if (is_large || !settled) {
        const int64_t n_whole = (first + n_groups) / period * period - first;
        n_groups = n_whole > 0 ? n_whole : settled ? n_groups : 0;
    }
    settle(run, stage, settled && first + n_groups >= possible);
    if (all && stage->kind == BK_PAD && stage->padding == BK_REFLECT && possible > 0) {
        const int64_t longest = stage->n_left > stage->n_right ? stage->n_left : stage->n_right;
        if (run->tracks[stage->source].count <= longest)
            return -3;
    }
    if (all && stage->source >= 0 && possible > 0 && !is_long_enough_to_pad(run, stage->source))
        return -3;
    const int64_t end = first + n_groups;
    const int finishes = all && end >= possible && !run->finished[index];
    if (finishes && run->begun && !is_long_enough(run, stage, possible))
        return -3;
    int64_t n_total = INT64_MAX;
    if (all && stage->transposed)
        n_total = run->tracks[stage->source].count * stage->n_phases + stage->n_extra;
    const int64_t n_known = smaller(end * stage->n_phases - stage->crop, n_total);
    *next = (plan){{run, stage, first, n_groups, n_total, 0, NULL}, n_known < 0 ? 0 : n_known, finishes};
    for (int k = 0; (n_groups > 0 || finishes) && k < stage->n_calls; k++) {
        const bk_call *call = &stage->calls[k];
        if (call->action != BK_STORE)
            continue;
        const track *t = &run->tracks[call->edge];
        const int64_t n_new = next->n_known > t->count ? next->n_known - t->count : 0;
        if ((n_new > 0 || t->rows == NULL) && make_room(run, call->edge, n_new, 1) < 0)
            return -1;
    }
    return 0;
}

/* Say that what was planned is there. */
static void set_done(bk_run *run, int index, const plan *made)
{
    const bk_stage *stage = &run->program->stages[index];
    run->done[index] = made->piece.first + made->piece.n_groups;
    for (int k = 0; k < stage->n_calls; k++) {
        const bk_call *call = &stage->calls[k];
        if (call->action != BK_STORE)
            continue;
        if (made->n_known > run->tracks[call->edge].count)
            set_count(run, call->edge, made->n_known);
        if (made->finishes)
            end_edge(run, call->edge);
    }
    run->finished[index] |= made->finishes;
}

/* What edges that a stage has read no longer need of their memory is lent to others. */
static void lend_read(bk_run *run, const bk_stage *stage)
{
    void (*const lend)(bk_run *, int) = run->program->needs_all ? release : keep;
    lend(run, stage->source);
    for (int k = 0; k < stage->n_others; k++)
        lend(run, stage->others[k]);
    for (int k = 0; k < 2; k++)
        lend(run, k ? stage->biases : stage->kernels);
    for (int k = 0; k < stage->n_calls; k++)
        if (stage->calls[k].action == BK_LOAD || stage->calls[k].action == BK_LOOKUP)
            lend(run, stage->calls[k].edge);
}

/* Run a stage, and with it those that are made block by block with it. */
static int run_stage(bk_run *run, int index, bk_pool *pool, int *made)
{
    const bk_stage *stages = &run->program->stages[index];
    const int n = 1 + stages->n_siblings;
    plan plans[1 + BK_SIBLINGS] = {0};
    for (int k = 0; k < n; k++) {
        const int code = make_plan(run, index + k, &plans[k]);
        if (code < 0)
            return code;
        /* What it stores will be there when the next one reads it. */
        if (k + 1 < n)
            set_done(run, index + k, &plans[k]);
    }
    for (int k = 0, next; k < n; k = next) {
        piece *first = &plans[k].piece;
        for (next = k + 1; next < n; next++) {
            const piece *other = &plans[next].piece;
            if (other->first != first->first || other->n_groups != first->n_groups)
                break;
            plans[next - 1].piece.sibling = other;
        }
        if (first->n_groups == 0)
            continue;
        if (make_work(run, first->stage) < 0)
            return -1;
        bk_share(pool, task_of(first->stage), first);
        *made = 1;
    }
    set_done(run, index + n - 1, &plans[n - 1]);
    for (int k = 0; k < n; k++)
        if (plans[k].finishes || !run->program->needs_all)
            lend_read(run, &stages[k]);
    return 0;
}

/* Stages without time make their one step anew with every push, in front of all others. */
static int run_timeless(bk_run *run, int index)
{
    const bk_stage *stage = &run->program->stages[index];
    for (int k = 0; k < stage->n_calls; k++)
        if (stage->calls[k].action == BK_STORE) {
            track *t = &run->tracks[stage->calls[k].edge];
            t->base = t->count = 0;
            if (make_room(run, stage->calls[k].edge, 1, 0) < 0)
                return -1;
        }
    piece p = {run, stage, 0, 1, INT64_MAX, 0, NULL};
    bk_run_parts(&p, 0);
    for (int k = 0; k < stage->n_calls; k++)
        if (stage->calls[k].action == BK_STORE)
            run->tracks[stage->calls[k].edge].count = 1;
    return 0;
}

int bk_end(bk_run *run, int edge)
{
    if (make_room(run, edge, 0, 1) < 0)
        return -1;
    end_edge(run, edge);
    run->begun |= run->tracks[edge].count > 0;
    return 0;
}

int bk_execute(bk_run *run, bk_pool *pool)
{
    const bk_program *program = run->program;
    int code = 0;
    run->unknown_symbol = 0;
    for (int k = 0; k < program->n_edges; k++)
        run->tracks[k].settled = 1;
    for (int k = 0; k < program->n_stages; k++) {
        settle(run, &program->stages[k], program->stages[k].timeless);
        if (program->stages[k].timeless && run_timeless(run, k) < 0)
            return -1;
    }
    for (int made = 1; made;) {
        made = 0;
        for (int segment = 0; segment < program->n_segments; segment++) {
            /* The first one brings a piece for all the others before it goes on. */
            for (int again = 1; again;) {
                again = 0;
                for (int k = program->first_stages[segment]; k < program->first_stages[segment + 1]; k++) {
                    if (!program->stages[k].timeless && (code = run_stage(run, k, pool, &again)) < 0)
                        return code;
                    k += program->stages[k].n_siblings;
                }
                made |= again;
                if (segment == 0)
                    break;
            }
        }
    }
    return run->unknown_symbol ? -2 : 0;
}
