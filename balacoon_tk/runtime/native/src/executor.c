#include "executor.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64
#define LONGEST ((int64_t)1 << 40) /* steps of a stream: products with strides and rows stay within 64 bits */
#define PARTS_OF_A_THREAD 4 /* of a stage, as far as it has so many tiles: who is done early takes another */
#define FEW_TILES 3 /* of which one that is nearly empty would cost */
#define GUARD 256 /* bytes behind a buffer, which a kernel may read and never uses */

/* The rows of an edge that a run holds. */
typedef struct {
    char *memory; /* as it was allocated */
    char *rows;
    int64_t capacity; /* rows */
    int64_t base;     /* step of the first row */
    int64_t count;    /* steps that are known */
    int ended;
    int settled; /* whether what runs now adds no more steps */
} track;

struct bk_run {
    const bk_program *program;
    int n_threads;
    track *tracks;
    int64_t *done; /* groups that each stage has made */
    int *finished; /* stages that will make no more */
    float *scratch;
    size_t scratch_size; /* floats of one thread */
    char *memory;        /* of the scratch */
    int unknown_symbol;
    int begun; /* whether the inputs that have ended had a step */
};

/* What threads share of one piece of a stage. */
typedef struct {
    bk_run *run;
    const bk_stage *stage;
    int64_t first; /* group */
    int64_t n_groups;
    int64_t n_total; /* steps of the whole output; large if nobody knows */
    uint64_t taken; /* parts that some thread has taken, from both ends */
} piece;

static char *aligned(char *memory) { return memory + (ALIGNMENT - (uintptr_t)memory % ALIGNMENT); }

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static int smaller_int(int a, int b) { return a < b ? a : b; }

static size_t row_size(const bk_edge *edge) { return (size_t)edge->row * (size_t)edge->item_size; }

static char *row_of(const bk_run *run, int edge, int64_t step)
{
    const track *t = &run->tracks[edge];
    return t->rows + (step - t->base) * (int64_t)row_size(&run->program->edges[edge]);
}

static void clear_rows(const bk_run *run, int edge, int64_t first, int64_t n_rows)
{
    const bk_edge *e = &run->program->edges[edge];
    const int zero = e->item_size == 1 ? e->zero_point : 0;
    if (n_rows > 0)
        memset(row_of(run, edge, first), zero, (size_t)n_rows * row_size(e));
}

/* The step that stands at a place in front of the first, or behind the last of n. */
static int64_t padding_step(bk_padding padding, int64_t step, int64_t n)
{
    if (padding == BK_REFLECT)
        return step < 0 ? -step : 2 * (n - 1) - step;
    return step < 0 ? 0 : n - 1;
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
    run->scratch_size = (size_t)BK_ROWS * (size_t)(BK_REGISTERS * BK_WIDTH + program->longest_row)
                        + (size_t)BK_NOWHERE * BK_WIDTH + program->combined_size;
    run->memory = malloc(run->scratch_size * (size_t)n_threads * sizeof(float) + ALIGNMENT + GUARD);
    if (run->tracks == NULL || run->done == NULL || run->finished == NULL || run->memory == NULL) {
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
    for (int k = 0; run->tracks != NULL && k < run->program->n_edges; k++)
        free(run->tracks[k].memory);
    free(run->tracks);
    free(run->done);
    free(run->finished);
    free(run->memory);
    free(run);
}

/* The first step of its source that a stage still has to read, if there is such a step. */
static int64_t first_of_window(const bk_stage *stage, int64_t done)
{
    const int older = stage->kind == BK_FOURS && bk_reads_older(BK_BUNDLE, stage->n_taps);
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

/* Make room for steps behind those that are known, and for the zeros behind the last. */
static int make_room(bk_run *run, int edge, int64_t n_steps)
{
    track *t = &run->tracks[edge];
    const bk_edge *e = &run->program->edges[edge];
    int64_t needed = t->count + n_steps + e->after - t->base;
    if (needed <= t->capacity && t->rows != NULL)
        return 0;
    forget(run, edge);
    needed = t->count + n_steps + e->after - t->base;
    if (needed <= t->capacity && t->rows != NULL)
        return 0;
    const int64_t capacity = needed + needed / 4;
    const size_t size = row_size(e);
    char *memory = malloc((size_t)capacity * size + ALIGNMENT + GUARD);
    if (memory == NULL)
        return -1;
    char *rows = aligned(memory);
    if (t->rows != NULL)
        memcpy(rows, t->rows, (size_t)(t->count - t->base) * size);
    memset(rows + (size_t)(t->count - t->base) * size, 0,
           (size_t)(capacity - (t->count - t->base)) * size + GUARD);
    free(t->memory);
    t->memory = memory;
    t->rows = rows;
    t->capacity = capacity;
    return 0;
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
        if (make_room(run, k, program->edges[k].before) < 0)
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
        if (make_room(run, k, n_rows) < 0)
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
    if (make_room(run, edge, n_steps) < 0)
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

/* ------------------------------------------------------------------------------------------- a tile */

static void fill(bk_operand operand, int rows, float *tile, const float *values)
{
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < BK_WIDTH; c++)
            tile[r * BK_WIDTH + c] = operand == BK_SCALAR ? *values : values[c];
}

/* Rows that are steps of the source, or what stands for those that it hasn't. */
static void pad(const bk_run *run, const bk_stage *stage, const bk_block *block, int64_t group, int rows,
                float *tile)
{
    const bk_edge *source = &run->program->edges[stage->source];
    const int64_t n = run->tracks[stage->source].count;
    for (int r = 0, n_rows; r < rows; r += n_rows) {
        int64_t step = group + r - stage->n_left;
        n_rows = step >= 0 && step < n ? (int)smaller(rows - r, n - step) : 1;
        if (step < 0 || step >= n) {
            if (stage->padding == BK_CONSTANT) {
                fill(BK_SCALAR, 1, tile + r * BK_WIDTH, &stage->value);
                continue;
            }
            step = padding_step(stage->padding, step, n);
        }
        const float *row = (const float *)row_of(run, stage->source, step) + block->source_channel;
        run->program->kernels->load(row, source->row, block->width, n_rows, tile + r * BK_WIDTH);
    }
}

/* The rows of each kernel by themselves. */
static void convolve_predicted(const bk_run *run, const bk_stage *stage, const bk_block *block, int64_t step, int rows,
                               bk_window *window, float *tile)
{
    const bk_kernels *kernels = run->program->kernels;
    const float *input = window->input;
    for (int row = 0, n; row < rows; row += n) {
        const int64_t frame = (step + row) / stage->kernel_steps;
        n = (int)smaller(rows - row, (frame + 1) * stage->kernel_steps - (step + row));
        const float *weights = (const float *)row_of(run, stage->kernels, frame);
        window->input = input + row * window->row_step;
        window->weights = weights + stage->kernel_channel + block->channel;
        if (stage->biases >= 0)
            window->bias = (const float *)row_of(run, stage->biases, frame) + stage->bias_channel + block->channel;
        kernels->convolve_predicted(window, stage->n_out, n, tile + row * BK_WIDTH);
    }
}

static void make_tile(const bk_run *run, const bk_stage *stage, const bk_block *block, int64_t group, int rows,
                      const float *normalised, float *tile, bk_prefetch *prefetch)
{
    const bk_program *program = run->program;
    if (stage->kind == BK_POINTWISE)
        return;
    const bk_edge *source = &program->edges[stage->source];
    if (stage->kind == BK_PAD) {
        pad(run, stage, block, group, rows, tile);
        return;
    }
    const int64_t step = group * stage->stride - stage->pad_left;
    const char *first = row_of(run, stage->source, step)
                        + (ptrdiff_t)block->source_channel * source->item_size;
    bk_window window = {
        .input = first,
        .row_step = (ptrdiff_t)stage->stride * source->row,
        .tap_step = (ptrdiff_t)stage->dilation * source->row,
        .n_taps = stage->n_taps,
        .n_channels = stage->n_in,
        .weights = block->weights,
        .bias = block->bias,
        .scale = block->scale,
        .offset = block->offset,
        .half = block->width <= BK_WIDTH / 2,
        .prefetch = prefetch,
    };
    switch (stage->kind) {
    case BK_CONVOLVE:
        if (source->item_size == 1)
            program->kernels->convolve_int8(&window, rows, tile);
        else
            program->kernels->convolve(&window, rows, tile);
        break;
    case BK_NARROW:
        program->kernels->convolve_narrow(&window, block->width, rows, tile);
        break;
    case BK_DEPTHWISE:
        program->kernels->convolve_depthwise(&window, block->width, rows, tile);
        break;
    case BK_PREDICTED:
        convolve_predicted(run, stage, block, group, rows, &window, tile);
        break;
    case BK_NORMALISE:
        program->kernels->load(normalised + block->channel, program->longest_row, block->width, rows, tile);
        break;
    case BK_PAIRED:
    case BK_FOURS:
    case BK_POINTWISE:
    case BK_PAD:
        break;
    }
}

/* Between an edge and a tile, where a row of the tile is several steps of the edge (bk_stage.joined): each by
 * itself, if it is a step of the output. */
static void move_steps(const piece *p, const bk_block *block, const bk_call *call, const bk_span *span, float *tile)
{
    const bk_stage *stage = p->stage;
    const bk_kernels *kernels = p->run->program->kernels;
    const bk_edge *edge = &p->run->program->edges[call->edge];
    for (int r = 0; r < span->n_rows; r++) {
        float *row = tile + (span->row + r) * BK_WIDTH;
        for (int done = 0, n; done < block->width; done += n, row += n) {
            const int place = block->channel + done, channel = place % stage->n_out;
            const int64_t step = (span->step + r) * stage->n_phases + place / stage->n_out - stage->crop;
            n = smaller_int(stage->n_out - channel, block->width - done);
            if (step < 0 || step >= p->n_total)
                continue;
            char *rows_there = row_of(p->run, call->edge, step) + (call->channel + channel) * edge->item_size;
            if (call->action == BK_LOAD && edge->item_size == 1)
                kernels->load_int8((uint8_t *)rows_there, 0, n, 1, row, edge->scale, edge->zero_point);
            else if (call->action == BK_LOAD)
                memcpy(row, rows_there, (size_t)n * sizeof(float));
            else if (edge->item_size == 1)
                kernels->store_int8(row, n, 1, (uint8_t *)rows_there, 0, edge->scale, edge->zero_point);
            else
                memcpy(rows_there, row, (size_t)n * sizeof(float));
        }
    }
}

/* Whether the steps of a span lie in an edge as they do in the tile, one behind the other, all of them due. */
static int lies_joined(const piece *p, const bk_call *call, const bk_span *span)
{
    const bk_stage *stage = p->stage;
    const bk_edge *edge = &p->run->program->edges[call->edge];
    const int64_t first = span->step * stage->n_phases - stage->crop;
    return edge->item_size > 1 && edge->row == stage->n_out && first >= 0
           && first + (int64_t)span->n_rows * stage->n_phases <= p->n_total;
}

/* Where an edge holds the first channel of a tile's first row, and how many elements to the next. */
static char *place_of(const piece *p, const bk_block *block, const bk_call *call, const bk_span *span,
                      ptrdiff_t *row_step)
{
    const bk_edge *edge = &p->run->program->edges[call->edge];
    const int64_t step = span->step * p->stage->n_phases + block->phase - p->stage->crop;
    *row_step = (ptrdiff_t)edge->row * p->stage->n_phases;
    return row_of(p->run, call->edge, step) + (ptrdiff_t)(call->channel + block->channel) * edge->item_size;
}

static void load(const piece *p, const bk_block *block, const bk_call *call, const bk_span *span, float *tile)
{
    const bk_run *run = p->run;
    const bk_stage *stage = p->stage;
    const int rows = span->n_rows;
    const bk_kernels *kernels = run->program->kernels;
    const bk_edge *edge = &run->program->edges[call->edge];
    ptrdiff_t step = edge->row;
    int64_t from;
    if (stage->joined && !edge->timeless && !lies_joined(p, call, span)) {
        move_steps(p, block, call, span, tile);
        return;
    }
    if (edge->timeless) {
        from = 0;
        step = 0;
    } else if (call->by_group)
        from = span->step;
    else {
        from = span->step * stage->n_phases + block->phase - stage->crop;
        step *= stage->n_phases;
    }
    tile += span->row * BK_WIDTH;
    const char *row = row_of(run, call->edge, from);
    if (call->broadcast) {
        for (int r = 0; r < rows; r++)
            fill(BK_SCALAR, 1, tile + r * BK_WIDTH, (const float *)row + r * step + call->channel);
        return;
    }
    if (call->order != NULL) {
        const int32_t *order = call->order + (block->phase * stage->n_channel_blocks + block->channel_block) * BK_WIDTH;
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < block->width; c++)
                if (order[c] >= 0)
                    tile[r * BK_WIDTH + c] = ((const float *)row)[r * step + order[c]];
        return;
    }
    const int channel = call->channel + block->channel;
    if (edge->item_size == 1)
        kernels->load_int8((const uint8_t *)row + channel, step, block->width, rows, tile, edge->scale,
                           edge->zero_point);
    else
        kernels->load((const float *)row + channel, step, block->width, rows, tile);
}

static void look_up(bk_run *run, const bk_stage *stage, const bk_block *block, const bk_call *call,
                    const bk_span *span, float *tile)
{
    const bk_edge *edge = &run->program->edges[call->edge];
    for (int r = 0; r < span->n_rows; r++) {
        const int64_t step = (span->step + r) * stage->n_phases + block->phase - stage->crop;
        const float symbol = ((const float *)row_of(run, call->edge, edge->timeless ? 0 : step))[call->channel];
        int index = 0;
        if (symbol >= 0 && symbol < (float)call->n_symbols)
            index = (int)symbol;
        else
            bk_raise_flag(&run->unknown_symbol);
        const float *row = call->vector + (ptrdiff_t)index * stage->n_out + block->channel;
        run->program->kernels->load(row, 0, block->width, 1, tile + (span->row + r) * BK_WIDTH);
    }
}

static void store(const piece *p, const bk_block *block, const bk_call *call, const bk_span *span, float *tile)
{
    const bk_kernels *kernels = p->run->program->kernels;
    const bk_edge *edge = &p->run->program->edges[call->edge];
    ptrdiff_t step;
    if (p->stage->joined && !lies_joined(p, call, span)) {
        move_steps(p, block, call, span, tile);
        return;
    }
    char *row = place_of(p, block, call, span, &step);
    tile += span->row * BK_WIDTH;
    if (edge->item_size == 1)
        kernels->store_int8(tile, block->width, span->n_rows, (uint8_t *)row, step, edge->scale, edge->zero_point);
    else
        kernels->store(tile, block->width, span->n_rows, (float *)row, step);
}

/* Whether one kernel can do what a chain ends in: where rows are full, and lie in the edges as in the tile. */
static int can_finish(const piece *p, const bk_block *block, const bk_span *spans, int n_spans)
{
    const bk_stage *stage = p->stage;
    if (stage->ending.first == stage->n_calls || (block->width != BK_WIDTH && block->width != BK_WIDTH / 2))
        return 0;
    for (int k = stage->ending.first; stage->joined && k < stage->n_calls; k++)
        for (int s = 0; s < n_spans; s++)
            if (stage->calls[k].action != BK_APPLY && !lies_joined(p, &stage->calls[k], &spans[s]))
                return 0;
    return 1;
}

static void finish(const piece *p, const bk_block *block, const bk_span *span, const float *scratch)
{
    const bk_stage *stage = p->stage;
    const bk_last_calls *last = &stage->ending;
    bk_ending ending = {.n_added = last->n_added, .scaling = BK_COPY, .half = block->width < BK_WIDTH};
    for (int k = 0; k < last->n_added; k++) {
        const bk_call *call = &stage->calls[last->added[k]];
        ending.added[k] = (const float *)place_of(p, block, call, span, &ending.added_step[k]);
    }
    if (last->scaling >= 0) {
        ending.scaling = stage->calls[last->scaling].function;
        ending.factor = stage->calls[last->scaling].scalar;
    }
    if (last->activation >= 0) {
        ending.activated = 1;
        ending.slope = stage->calls[last->activation].scalar;
    }
    for (int k = 0; k < 2; k++)
        if (last->out[k] >= 0) {
            const bk_call *call = &stage->calls[last->out[k]];
            ending.out[k].rows = place_of(p, block, call, span, &ending.out[k].step);
            ending.out[k].scale = p->run->program->edges[call->edge].scale;
            ending.out[k].zero_point = p->run->program->edges[call->edge].zero_point;
        }
    const float *tile = scratch + (last->tile * BK_ROWS + span->row) * BK_WIDTH;
    p->run->program->kernels->finish(&ending, span->n_rows, tile);
}

/* The chain of functions, on a tile of `rows` of which some are steps of the output. */
static void run_chain(const piece *p, const bk_block *block, const bk_span *spans, int n_spans, int rows,
                      float *scratch)
{
    const bk_run *run = p->run;
    const bk_stage *stage = p->stage;
    const bk_kernels *kernels = run->program->kernels;
    const int finishes = can_finish(p, block, spans, n_spans);
    const int n_calls = finishes ? stage->ending.first : stage->n_calls;
    for (int k = 0; k < n_calls; k++) {
        const bk_call *call = &stage->calls[k];
        float *out = scratch + call->out * BK_ROWS * BK_WIDTH;
        const float *a = scratch + call->a * BK_ROWS * BK_WIDTH;
        const float *b = call->operand == BK_TILE     ? scratch + call->b * BK_ROWS * BK_WIDTH
                         : call->operand == BK_SCALAR ? &call->scalar
                                                      : call->vector + block->channel_block * BK_WIDTH;
        switch (call->action) {
        case BK_LOAD:
            for (int s = 0; s < n_spans; s++)
                load(p, block, call, &spans[s], out);
            break;
        case BK_LOOKUP:
            for (int s = 0; s < n_spans; s++)
                look_up(p->run, stage, block, call, &spans[s], out);
            break;
        case BK_STORE:
            for (int s = 0; s < n_spans; s++)
                store(p, block, call, &spans[s], scratch + call->a * BK_ROWS * BK_WIDTH);
            break;
        case BK_FILL:
            fill(call->operand, rows, out, b);
            break;
        case BK_APPLY:
            kernels->apply(call->function, call->operand, rows, out, a, b);
            break;
        }
    }
    for (int s = 0; finishes && s < n_spans; s++)
        finish(p, block, &spans[s], scratch);
}

static void run_tile(const piece *p, const bk_block *block, int64_t group, int rows, float *scratch,
                     bk_prefetch *prefetch)
{
    const bk_stage *stage = p->stage;
    /* Rows that are steps of the output: a transposed convolution is cropped at both ends. A row of joined steps
     * may be cut within. */
    int first_row = 0, end = rows;
    while (!stage->joined && first_row < rows && (group + first_row) * stage->n_phases + block->phase - stage->crop < 0)
        first_row++;
    while (!stage->joined && end > first_row && (group + end - 1) * stage->n_phases + block->phase - stage->crop >= p->n_total)
        end--;
    if (first_row == end)
        return;
    make_tile(p->run, stage, block, group, rows, scratch + BK_REGISTERS * BK_ROWS * BK_WIDTH, scratch, prefetch);
    const bk_span span = {group + first_row, first_row, end - first_row};
    run_chain(p, block, &span, 1, rows, scratch);
}

/* Full tiles and what is left, which most often lie alike; where there are few, tiles of as many bundles each. */
static void lay_tile(const bk_bundle_range *range, int64_t index, int64_t n_tiles, bk_bundle_tile *tile)
{
    int64_t first = range->n_bundles * index / n_tiles, next = range->n_bundles * (index + 1) / n_tiles;
    if (n_tiles > FEW_TILES) {
        first = index * BK_BUNDLES;
        next = smaller(first + BK_BUNDLES, range->n_bundles);
    }
    bk_lay_bundles(range, first, (int)(next - first), tile);
}

/* What the bundles of a tile are made of. */
static void combine_tile(const piece *p, const bk_bundle_tile *tile, int n_outputs, const bk_bundling *bundling,
                         float *combined)
{
    const bk_stage *stage = p->stage;
    const ptrdiff_t row_size = p->run->program->edges[stage->source].row;
    bk_bundle bundles[BK_BUNDLES];
    for (int k = 0; k < tile->n_bundles; k++) {
        const float *row = (const float *)row_of(p->run, stage->source, tile->steps[k] - stage->pad_left);
        bundles[k] = bk_bundle_input(tile, k, n_outputs, row + stage->blocks[0].source_channel, stage->n_taps);
    }
    bundling->combine(bundles, tile->n_bundles, stage->dilation * row_size, stage->n_taps, stage->n_in, combined);
}

/* A chain works on BK_ROWS at once, from the last ones on: its other registers lie over rows that are done. The row
 * of what isn't due lies behind all of them. */
static void run_chains(const piece *p, const bk_block *block, const bk_bundle_tile *tile, float *scratch)
{
    int end = tile->n_spans, end_row = tile->n_rows;
    while (end > 0) {
        int first = end - 1;
        while (tile->spans[first].row > 0)
            first--;
        const int row = (end_row - 1) / BK_ROWS * BK_ROWS;
        run_chain(p, block, &tile->spans[first], end - first, end_row - row, scratch + row * BK_WIDTH);
        end = first;
        end_row = row;
    }
}

/* The weights that a thread most likely needs behind those of a block: of its next one, or of the next stage. */
static bk_prefetch weights_behind(const piece *p, int64_t block, int thread)
{
    const bk_program *program = p->run->program;
    const bk_stage *stage = p->stage, *end = program->stages + program->n_stages;
    const int from_behind = thread & 1; /* as bk_next_part has it */
    block += from_behind ? -1 : 1;
    if (block < 0 || block >= stage->n_blocks) {
        do
            stage++;
        while (stage < end && (stage->n_blocks == 0 || stage->blocks[0].weights == NULL));
        if (stage == end)
            return (bk_prefetch){0, 0};
        block = from_behind ? stage->n_blocks - 1 : 0;
    }
    const uintptr_t weights = (uintptr_t)stage->blocks[block].weights;
    return (bk_prefetch){weights, weights + (size_t)stage->n_taps * (size_t)stage->n_in * BK_WIDTH * sizeof(float)};
}

/* Tile by tile, of which each has its inputs combined once for all blocks; or, of a stage with many weights, block by
 * block, so that these are read once for all tiles. Blocks are divided among threads only where the tiles are too few,
 * or so that no two threads need the same weights, as each has to combine the inputs. */
static void run_parts_of_bundles(piece *p, int thread, float *scratch)
{
    const bk_stage *stage = p->stage;
    const bk_kernels *kernels = p->run->program->kernels;
    const int in_fours = stage->kind == BK_FOURS, n_outputs = in_fours ? BK_BUNDLE : 2;
    const int64_t n_threads = p->run->n_threads;
    const bk_bundling *bundling = in_fours ? &kernels->fours : &kernels->pairs;
    const bk_bundle_range range = bk_find_bundles(p->first, p->first + p->n_groups, stage->dilation, n_outputs);
    const int64_t n_tiles = (range.n_bundles + BK_BUNDLES - 1) / BK_BUNDLES;
    const int64_t n_sets = (n_tiles + stage->n_together - 1) / stage->n_together;
    int64_t n_shares = n_threads == 1 ? 1 : (n_threads * PARTS_OF_A_THREAD + n_sets - 1) / n_sets;
    if (n_threads > 1 && stage->n_together > 1)
        n_shares = stage->n_blocks;
    n_shares = smaller(n_shares, stage->n_blocks);
    const size_t size = bk_combined_size(n_outputs, stage->n_taps, stage->n_in);
    float *combined = scratch + p->run->scratch_size - p->run->program->combined_size;
    bk_bundle_tile tile = {0};
    int64_t set_there = -1, laid = -1;
    for (;;) {
        const int64_t item = bk_next_part(&p->taken, n_sets * n_shares, thread);
        if (item < 0)
            return;
        const int64_t set = item / n_shares, share = item % n_shares;
        const int64_t first_tile = n_tiles * set / n_sets, end_tile = n_tiles * (set + 1) / n_sets;
        const int64_t end_block = stage->n_blocks * (share + 1) / n_shares;
        for (int64_t k = first_tile; set != set_there && k < end_tile; k++) {
            lay_tile(&range, laid = k, n_tiles, &tile);
            combine_tile(p, &tile, n_outputs, bundling, combined + (size_t)(k - first_tile) * size);
        }
        set_there = set;
        for (int64_t b = stage->n_blocks * share / n_shares; b < end_block; b++) {
            bk_prefetch prefetch = weights_behind(p, b, thread);
            for (int64_t k = first_tile; k < end_tile; k++) {
                const bk_block *block = &stage->blocks[b];
                if (k != laid)
                    lay_tile(&range, laid = k, n_tiles, &tile);
                bundling->convolve(combined + (size_t)(k - first_tile) * size, stage->n_taps, stage->n_in,
                                   block->weights, block->bias, tile.n_bundles, (const int(*)[BK_BUNDLE])tile.rows,
                                   scratch, &prefetch);
                run_chains(p, block, &tile, scratch);
            }
        }
    }
}

/* Tiles of equal height, as far as that goes: twelve steps and one would take twice as long as six and seven. */
static void run_tiles(const piece *p, int64_t first_item, int64_t end_item, int64_t n_tiles, int thread, float *scratch)
{
    const bk_run *run = p->run;
    const bk_stage *stage = p->stage;
    bk_prefetch prefetch = {0, 0};
    for (int64_t item = first_item; item < end_item; item++) {
        /* Block by block, so that its weights stay in a cache while time passes by. */
        const int64_t tile = item % n_tiles;
        const int64_t first = p->n_groups * tile / n_tiles, next = p->n_groups * (tile + 1) / n_tiles;
        const int64_t group = p->first + first;
        const int rows = (int)(next - first);
        if (stage->kind != BK_NORMALISE) {
            if (tile == 0 || item == first_item)
                prefetch = weights_behind(p, item / n_tiles, thread);
            run_tile(p, &stage->blocks[item / n_tiles], group, rows, scratch, &prefetch);
            continue;
        }
        /* A norm looks at all channels, so its blocks belong together. */
        const bk_edge *source = &run->program->edges[stage->source];
        const float *rows_in = (const float *)row_of(run, stage->source, group) + stage->blocks[0].source_channel;
        run->program->kernels->normalise(rows_in, source->row, stage->n_in, rows,
                                         scratch + BK_REGISTERS * BK_ROWS * BK_WIDTH, run->program->longest_row,
                                         stage->epsilon, stage->centre);
        for (int k = 0; k < stage->n_blocks; k++)
            run_tile(p, &stage->blocks[k], group, rows, scratch, &prefetch);
    }
}

static void run_parts(void *context, int thread)
{
    piece *p = context;
    const bk_stage *stage = p->stage;
    const int64_t n_tiles = (p->n_groups + BK_ROWS - 1) / BK_ROWS;
    const int64_t n_blocks = stage->kind == BK_NORMALISE ? 1 : stage->n_blocks;
    const int64_t n_items = n_tiles * n_blocks, n_threads = p->run->n_threads;
    /* Whole blocks where there are enough of them, so that no two threads need the same weights. */
    int64_t n_together = n_blocks >= 2 * n_threads ? n_tiles : n_items / (n_threads * PARTS_OF_A_THREAD);
    if (n_threads == 1)
        n_together = n_items;
    if (n_together < 1)
        n_together = 1;
    float *scratch = p->run->scratch + (size_t)thread * p->run->scratch_size;
    if (stage->kind == BK_PAIRED || stage->kind == BK_FOURS) {
        run_parts_of_bundles(p, thread, scratch);
        return;
    }
    for (;;) {
        const int64_t part = bk_next_part(&p->taken, (n_items + n_together - 1) / n_together, thread);
        if (part < 0)
            return;
        const int64_t first = part * n_together;
        run_tiles(p, first, smaller(first + n_together, n_items), n_tiles, thread, scratch);
    }
}

/* ------------------------------------------------------------------------------------------ a stage */

/* Groups that a stage could have made by now, and whether these are all that it ever will. */
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
    return stage->kind == BK_FOURS ? BK_BUNDLE * stage->dilation : stage->kind == BK_PAIRED ? 2 * stage->dilation : 1;
}

/* Whether nothing that a stage reads becomes longer before this push, or whole run, is done with. */
static int reads_settled(const bk_run *run, const bk_stage *stage)
{
    int settled = stage->source < 0 || run->tracks[stage->source].settled;
    if (stage->kind == BK_PREDICTED)
        settled = settled && run->tracks[stage->kernels].settled
                  && (stage->biases < 0 || run->tracks[stage->biases].settled);
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

static int run_stage(bk_run *run, int index, bk_pool *pool, int *made)
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
    const int finishes = all && first + n_groups >= possible && !run->finished[index];
    if (finishes && run->begun && !is_long_enough(run, stage, possible))
        return -3;
    if (n_groups == 0 && !finishes)
        return 0;
    int64_t n_total = INT64_MAX;
    const int64_t end = first + n_groups;
    if (all && stage->transposed)
        n_total = run->tracks[stage->source].count * stage->n_phases + stage->n_extra;
    /* Steps that are known behind this piece. */
    int64_t n_known = smaller(end * stage->n_phases - stage->crop, n_total);
    if (n_known < 0)
        n_known = 0;
    for (int k = 0; k < stage->n_calls; k++) {
        const bk_call *call = &stage->calls[k];
        if (call->action != BK_STORE)
            continue;
        const track *t = &run->tracks[call->edge];
        if (n_known > t->count && make_room(run, call->edge, n_known - t->count) < 0)
            return -1;
    }
    if (n_groups > 0) {
        piece p = {run, stage, first, n_groups, n_total, 0};
        bk_share(pool, run_parts, &p);
        *made = 1;
    }
    run->done[index] = end;
    for (int k = 0; k < stage->n_calls; k++) {
        const bk_call *call = &stage->calls[k];
        if (call->action != BK_STORE)
            continue;
        track *t = &run->tracks[call->edge];
        if (n_known > t->count)
            set_count(run, call->edge, n_known);
        if (finishes)
            end_edge(run, call->edge);
    }
    if (finishes)
        run->finished[index] = 1;
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
            if (make_room(run, stage->calls[k].edge, 1) < 0)
                return -1;
        }
    piece p = {run, stage, 0, 1, INT64_MAX, 0};
    run_parts(&p, 0);
    for (int k = 0; k < stage->n_calls; k++)
        if (stage->calls[k].action == BK_STORE)
            run->tracks[stage->calls[k].edge].count = 1;
    return 0;
}

int bk_end(bk_run *run, int edge)
{
    if (make_room(run, edge, 0) < 0)
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
                for (int k = program->first_stages[segment]; k < program->first_stages[segment + 1]; k++)
                    if (!program->stages[k].timeless && (code = run_stage(run, k, pool, &again)) < 0)
                        return code;
                made |= again;
                if (segment == 0)
                    break;
            }
        }
    }
    return run->unknown_symbol ? -2 : 0;
}
