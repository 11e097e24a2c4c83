/* Tiles of a stage: how they are made of its source, the chain of functions behind, and which thread makes which. */
#include "run.h"

#include <string.h>

#define PARTS_OF_A_THREAD 4 /* of a stage, as far as it has so many tiles: who is done early takes another */
#define KEPT_ENDINGS 8 /* of the blocks of a stage, while tiles pass by */
#define FEW_TILES 3 /* of fours, of which one that is nearly empty would cost */

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

/* What the tile that begins with a group reads. */
static bk_window window_of(const bk_run *run, const bk_stage *stage, const bk_block *block, int64_t group)
{
    const bk_edge *source = &run->program->edges[stage->source];
    const int64_t step = group * stage->stride - stage->pad_left;
    return (bk_window){
        .input = row_of(run, stage->source, step) + (ptrdiff_t)block->source_channel * source->item_size,
        .row_step = (ptrdiff_t)stage->stride * source->row,
        .tap_step = (ptrdiff_t)stage->dilation * source->row,
        .n_taps = stage->n_taps,
        .n_channels = stage->n_in,
        .weights = block->weights,
        .bias = block->bias,
        .scale = block->scale,
        .offset = block->offset,
        .half = block->width <= BK_WIDTH / 2,
    };
}

static void make_tile(const bk_run *run, const bk_stage *stage, const bk_block *block, int64_t group, int rows,
                      const float *normalised, float *tile, const void *next_weights)
{
    const bk_program *program = run->program;
    if (stage->kind == BK_POINTWISE)
        return;
    if (stage->kind == BK_PAD) {
        pad(run, stage, block, group, rows, tile);
        return;
    }
    bk_window window = window_of(run, stage, block, group);
    window.next_weights = next_weights;
    switch (stage->kind) {
    case BK_CONVOLVE:
        if (program->edges[stage->source].item_size == 1)
            program->kernels->convolve_int8(&window, rows, tile);
        else
            program->kernels->convolve(&window, rows, tile);
        break;
    case BK_NARROW:
        program->kernels->convolve_narrow(&window, block->width, rows, tile, stage->flat ? 1 : BK_WIDTH);
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
    case BK_SHARED_FOURS:
    case BK_POINTWISE:
    case BK_PAD:
    case BK_ATTEND:
    case BK_RECUR:
    case BK_SPLINE:
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
                kernels->store_int8(row, n, 1, (uint8_t *)rows_there, 0, edge->scale, edge->zero_point,
                                    edge->largest);
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

/* Between the edges and the tile of a flat stage. */
static void load_flat(const piece *p, const bk_call *call, const bk_span *span, float *tile)
{
    const int n_phases = p->stage->n_phases, n_steps = span->n_rows * n_phases;
    const int timeless = p->run->program->edges[call->edge].timeless;
    const int64_t first = timeless ? 0 : call->by_group ? span->step : span->step * n_phases;
    const float *from = (const float *)row_of(p->run, call->edge, first);
    if (!timeless && !call->by_group) {
        memcpy(tile, from, (size_t)n_steps * sizeof(float));
        return;
    }
    for (int r = 0; r < span->n_rows; r++, tile += n_phases)
        for (int phase = 0; phase < n_phases; phase++)
            tile[phase] = from[timeless ? 0 : r];
}

static void store_flat(const piece *p, const bk_call *call, const bk_span *span, const float *tile)
{
    const int n_phases = p->stage->n_phases;
    memcpy(row_of(p->run, call->edge, span->step * n_phases), tile, (size_t)span->n_rows * n_phases * sizeof(float));
}

static void load(const piece *p, const bk_block *block, const bk_call *call, const bk_span *span, float *tile)
{
    if (p->stage->flat) {
        load_flat(p, call, span, tile);
        return;
    }
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

/* The number of each step, from 0 at the stream's start. */
static void count_steps(const bk_stage *stage, const bk_block *block, const bk_span *span, float *tile)
{
    for (int r = 0; r < span->n_rows; r++) {
        const float step = (float)((span->step + r) * stage->n_phases + block->phase - stage->crop);
        fill(BK_SCALAR, 1, tile + (span->row + r) * BK_WIDTH, &step);
    }
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
    if (p->stage->flat) {
        store_flat(p, call, span, tile);
        return;
    }
    if (p->stage->joined && !lies_joined(p, call, span)) {
        move_steps(p, block, call, span, tile);
        return;
    }
    char *row = place_of(p, block, call, span, &step);
    tile += span->row * BK_WIDTH;
    if (edge->item_size == 1)
        kernels->store_int8(tile, block->width, span->n_rows, (uint8_t *)row, step, edge->scale, edge->zero_point,
                            edge->largest);
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

/* An ending of a block, whose tensors begin with the first group of a piece. */
typedef struct {
    const bk_block *of;
    bk_ending made;
} block_ending;

static block_ending find_ending(const piece *p, const bk_block *block)
{
    const bk_stage *stage = p->stage;
    const bk_last_calls *last = &stage->ending;
    const bk_span first = {p->first, 0, 1};
    bk_ending made = {.n_added = last->n_added, .scaling = BK_COPY, .half = block->width < BK_WIDTH};
    for (int k = 0; k < last->n_added; k++) {
        const bk_call *call = &stage->calls[last->added[k]];
        made.added[k] = (const float *)place_of(p, block, call, &first, &made.added_step[k]);
    }
    if (last->scaling >= 0) {
        made.scaling = stage->calls[last->scaling].function;
        made.factor = stage->calls[last->scaling].scalar;
    }
    if (last->activation >= 0) {
        made.activated = 1;
        made.slope = stage->calls[last->activation].scalar;
    }
    for (int k = 0; k < 2; k++)
        if (last->out[k] >= 0) {
            const bk_call *call = &stage->calls[last->out[k]];
            const bk_edge *edge = &p->run->program->edges[call->edge];
            made.out[k].rows = place_of(p, block, call, &first, &made.out[k].step);
            made.out[k].scale = edge->scale;
            made.out[k].zero_point = edge->zero_point;
            made.out[k].largest = edge->largest;
        }
    return (block_ending){block, made};
}

static void finish(const piece *p, const block_ending *ending, const bk_span *span, const float *scratch)
{
    const float *tile = scratch + (p->stage->ending.tile * BK_ROWS + span->row) * BK_WIDTH;
    p->run->program->kernels->finish(&ending->made, span->step - p->first, span->n_rows, tile);
}

/* Taps that read padding add what they would of it, were it not zeros. */
static void add_padding_biases(const piece *p, const bk_block *block, const bk_span *span, float *tile)
{
    const bk_stage *stage = p->stage;
    const int64_t n_steps = p->run->tracks[stage->source].count, reach = (stage->n_taps - 1) * (int64_t)stage->dilation;
    for (int r = 0; r < span->n_rows; r++) {
        const int64_t first = (span->step + r) * stage->stride - stage->pad_left;
        if (first >= 0 && first + reach < n_steps)
            continue;
        float *row = tile + (span->row + r) * BK_WIDTH;
        for (int tap = 0; tap < stage->n_taps; tap++) {
            const int64_t step = first + tap * (int64_t)stage->dilation;
            const float *biases = stage->padding_biases + (tap * stage->n_channel_blocks + block->channel_block) * BK_WIDTH;
            for (int c = 0; (step < 0 || step >= n_steps) && c < BK_WIDTH; c++)
                row[c] += biases[c];
        }
    }
}

/* The chain of functions, on a tile of `rows` of which some are steps of the output. */
void bk_run_chain(const piece *p, const bk_block *block, const bk_span *spans, int n_spans, int rows,
                      float *scratch)
{
    const bk_run *run = p->run;
    const bk_stage *stage = p->stage;
    const bk_kernels *kernels = run->program->kernels;
    const int finishes = can_finish(p, block, spans, n_spans);
    for (int s = 0; stage->padding_biases != NULL && s < n_spans; s++)
        add_padding_biases(p, block, &spans[s], scratch);
    if (stage->flat)
        rows = (rows * stage->n_phases + BK_WIDTH - 1) / BK_WIDTH;
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
        case BK_POSITION:
            for (int s = 0; s < n_spans; s++)
                count_steps(stage, block, &spans[s], out);
            break;
        case BK_APPLY:
            kernels->apply(call->function, call->operand, rows, out, a, b);
            break;
        }
    }
    if (!finishes)
        return;
    const block_ending ending = find_ending(p, block);
    for (int s = 0; s < n_spans; s++)
        finish(p, &ending, &spans[s], scratch);
}

/* Whether all that a block's chain does, in each tile, is an ending. */
static int only_finishes(const piece *p, const bk_block *block)
{
    const bk_stage *stage = p->stage;
    return stage->ending.first == 0 && stage->ending.tile == 0 && !stage->joined && stage->padding_biases == NULL
           && can_finish(p, block, NULL, 0);
}

/* Rows that are steps of the output: a transposed convolution is cropped at both ends. A row of joined steps may be cut
 * within. */
static bk_span due_rows(const piece *p, const bk_block *block, int64_t group, int rows)
{
    const bk_stage *stage = p->stage;
    int first = 0, end = rows;
    while (!stage->joined && first < rows && (group + first) * stage->n_phases + block->phase - stage->crop < 0)
        first++;
    while (!stage->joined && end > first && (group + end - 1) * stage->n_phases + block->phase - stage->crop >= p->n_total)
        end--;
    return (bk_span){group + first, first, end - first};
}

static void run_tile(const piece *p, const bk_block *block, int64_t group, int rows, float *scratch,
                     const void *next_weights)
{
    const bk_span span = due_rows(p, block, group, rows);
    if (span.n_rows == 0)
        return;
    make_tile(p->run, p->stage, block, group, rows, scratch + BK_REGISTERS * BK_ROWS * BK_WIDTH, scratch, next_weights);
    bk_run_chain(p, block, &span, 1, rows, scratch);
}

/* Full tiles and what is left, which most often lie alike; where there are few of fours, which are all summed up at once,
 * tiles of as many each. */
static void lay_tile(const bk_bundle_range *range, int64_t index, int64_t n_tiles, bk_bundle_tile *tile)
{
    int64_t first = range->n_bundles * index / n_tiles, next = range->n_bundles * (index + 1) / n_tiles;
    if (n_tiles > FEW_TILES || range->n_outputs == 2) {
        first = index * BK_BUNDLES;
        next = smaller(first + BK_BUNDLES, range->n_bundles);
    }
    bk_lay_bundles(range, first, (int)(next - first), tile);
}

/* The same bundles, of which those outputs are due that are steps of one phase: a transposed convolution is cropped at
 * both ends. */
static bk_bundle_range due_range(const piece *p, const bk_block *block, const bk_bundle_range *range)
{
    const int64_t n_phases = p->stage->n_phases, before = p->stage->crop - block->phase;
    bk_bundle_range due = *range;
    if (before > 0 && due.first < (before + n_phases - 1) / n_phases)
        due.first = (before + n_phases - 1) / n_phases;
    /* Of a whole output whose length nobody knows, all steps. */
    if (p->n_total < INT64_MAX && p->n_total + before < due.end * n_phases)
        due.end = (p->n_total + before + n_phases - 1) / n_phases;
    return due;
}

/* What the bundles of a tile are made of. */
static void combine_tile(const piece *p, const bk_bundle_tile *tile, const bk_bundling *bundling, void *combined)
{
    const bk_stage *stage = p->stage;
    const bk_method method = bk_method_of(stage);
    const bk_edge *source = &p->run->program->edges[stage->source];
    bk_bundle bundles[BK_BUNDLES];
    for (int k = 0; k < tile->n_bundles; k++) {
        const char *row = row_of(p->run, stage->source, tile->steps[k] - stage->pad_left);
        bundles[k] = bk_bundle_input(tile, k, method, row + stage->blocks[0].source_channel * source->item_size,
                                     stage->n_taps);
    }
    const ptrdiff_t tap_step = (ptrdiff_t)stage->dilation * source->row;
    bundling->combine(bundles, tile->n_bundles, tap_step, stage->n_taps, stage->n_in, combined);
}

/* A chain works on BK_ROWS at once, from the last ones on: its other registers lie over rows that are done. The row
 * of what isn't due lies behind all of them. */
static void run_chains(const piece *p, const bk_block *block, const block_ending *ending, const bk_bundle_tile *tile,
                       float *scratch)
{
    int end = tile->n_spans, end_row = tile->n_rows;
    for (int s = 0, row = 0; ending != NULL && s < end; row += tile->spans[s++].n_rows) {
        const bk_span span = {tile->spans[s].step, row, tile->spans[s].n_rows};
        finish(p, ending, &span, scratch);
    }
    if (ending != NULL)
        return;
    while (end > 0) {
        int first = end - 1;
        while (tile->spans[first].row > 0)
            first--;
        const int row = (end_row - 1) / BK_ROWS * BK_ROWS;
        bk_run_chain(p, block, &tile->spans[first], end - first, end_row - row, scratch + row * BK_WIDTH);
        end = first;
        end_row = row;
    }
}

/* The weights that a thread most likely needs behind a block of a piece that began with `first`: those of the same block
 * of its sibling, of the next block, or of the next stage. */
static const void *weights_behind(const piece *first, const piece *p, int64_t block, int thread)
{
    const bk_program *program = p->run->program;
    const bk_stage *stage = p->stage, *end = program->stages + program->n_stages;
    const int from_behind = thread & 1; /* as bk_next_part has it */
    if (p->sibling != NULL)
        return p->sibling->stage->blocks[block].weights;
    block += from_behind ? -1 : 1;
    if (block >= 0 && block < stage->n_blocks)
        return first->stage->blocks[block].weights;
    do
        stage++;
    while (stage < end && (stage->n_blocks == 0 || stage->blocks[0].weights == NULL));
    return stage == end ? NULL : stage->blocks[from_behind ? stage->n_blocks - 1 : 0].weights;
}

/* Tile by tile, of which each has its inputs combined once for all blocks; or, of a stage with many weights, block by
 * block, so that these are read once for all tiles. Blocks are divided among threads only where the tiles are too few,
 * or so that no two threads need the same weights, as each has to combine the inputs. */
static void run_parts_of_bundles(piece *p, int thread, float *scratch)
{
    const bk_stage *stage = p->stage;
    const bk_kernels *kernels = p->run->program->kernels;
    const bk_method method = bk_method_of(stage);
    const int64_t n_threads = p->run->n_threads;
    const int item_size = p->run->program->edges[stage->source].item_size;
    const bk_bundling *bundling = method == BK_IN_FOURS          ? &kernels->fours
                                  : method == BK_IN_SHARED_FOURS ? &kernels->shared_fours
                                  : item_size == 1               ? &kernels->pairs_int8
                                                                 : &kernels->pairs;
    const bk_bundle_range range = bk_find_bundles(p->first, p->first + p->n_groups, stage->dilation, bk_n_outputs(method));
    const int64_t n_tiles = (range.n_bundles + BK_BUNDLES - 1) / BK_BUNDLES;
    const int64_t n_sets = (n_tiles + stage->n_together - 1) / stage->n_together;
    int64_t n_shares = n_threads == 1 ? 1 : (n_threads * PARTS_OF_A_THREAD + n_sets - 1) / n_sets;
    if (n_threads > 1 && stage->n_together > 1)
        n_shares = stage->n_blocks;
    n_shares = smaller(n_shares, stage->n_blocks);
    const size_t size = bk_combined_size(method, stage->n_taps, stage->n_in) * (size_t)item_size;
    char *combined = (char *)(scratch + p->run->scratch_size - p->run->program->combined_size);
    bk_bundle_tile tile = {0};
    bk_bundle_range laid_range = range;
    block_ending endings[KEPT_ENDINGS] = {0};
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
            laid_range = range;
            combine_tile(p, &tile, bundling, combined + (size_t)(k - first_tile) * size);
        }
        set_there = set;
        const int64_t first_block = stage->n_blocks * share / n_shares;
        for (int64_t b = first_block; b < end_block; b++)
            for (const piece *each = p; each != NULL; each = each->sibling) {
                const bk_block *block = &each->stage->blocks[b];
                const bk_bundle_range due = due_range(each, block, &range);
                const int finishes = only_finishes(each, block);
                block_ending *ending = &endings[block->channel_block % KEPT_ENDINGS];
                if (finishes && ending->of != block)
                    *ending = find_ending(each, block);
                for (int64_t k = first_tile; k < end_tile && due.first < due.end; k++) {
                    const void *next_weights =
                        k + 1 < end_tile ? block->weights : weights_behind(p, each, b, thread);
                    if (k != laid || due.first != laid_range.first || due.end != laid_range.end) {
                        lay_tile(&due, laid = k, n_tiles, &tile);
                        laid_range = due;
                    }
                    const bk_bundled from = {
                        .combined = combined + (size_t)(k - first_tile) * size,
                        .n_taps = stage->n_taps,
                        .n_channels = stage->n_in,
                        .weights = block->weights,
                        .bias = block->bias,
                        .scale = block->scale,
                        .offset = block->offset,
                        .n_bundles = tile.n_bundles,
                        .rows = (const int(*)[BK_BUNDLE])tile.rows,
                        .next_weights = next_weights,
                    };
                    bundling->convolve(&from, scratch);
                    run_chains(each, block, finishes ? ending : NULL, &tile, scratch);
                }
            }
    }
}

/* Tiles of a convolution that are stored as they are: what is alike in all of them is found once. */
static void convolve_block(const piece *p, const bk_block *block, int64_t first_tile, int64_t end_tile,
                           int64_t n_tiles, float *scratch, const void *next_weights)
{
    const bk_stage *stage = p->stage;
    const bk_kernels *kernels = p->run->program->kernels;
    const int item_size = p->run->program->edges[stage->source].item_size;
    const block_ending ending = find_ending(p, block);
    int64_t first = p->n_groups * first_tile / n_tiles, next;
    bk_window window = window_of(p->run, stage, block, p->first + first);
    window.next_weights = block->weights;
    for (int64_t tile = first_tile; tile < end_tile; tile++, first = next) {
        next = p->n_groups * (tile + 1) / n_tiles;
        const int rows = (int)(next - first);
        const bk_span span = due_rows(p, block, p->first + first, rows);
        if (tile + 1 == end_tile)
            window.next_weights = next_weights;
        if (span.n_rows > 0) {
            (item_size == 1 ? kernels->convolve_int8 : kernels->convolve)(&window, rows, scratch);
            finish(p, &ending, &span, scratch);
        }
        window.input = (const char *)window.input + (next - first) * window.row_step * item_size;
    }
}

/* Tiles of equal height, as far as that goes: twelve steps and one would take twice as long as six and seven. Each block
 * of a piece and its siblings by itself, so that its weights stay in a cache while time passes by. */
static void run_tiles(const piece *p, int64_t first_item, int64_t end_item, int64_t n_tiles, int thread, float *scratch)
{
    for (int64_t item = first_item, end; item < end_item; item = end) {
        const int64_t b = item / n_tiles;
        end = smaller((b + 1) * n_tiles, end_item);
        for (const piece *each = p; each != NULL; each = each->sibling) {
            const bk_block *block = &each->stage->blocks[b];
            if (each->stage->kind == BK_CONVOLVE && only_finishes(each, block)) {
                convolve_block(each, block, item - b * n_tiles, end - b * n_tiles, n_tiles, scratch,
                               weights_behind(p, each, b, thread));
                continue;
            }
            for (int64_t k = item; k < end; k++) {
                const int64_t tile = k % n_tiles;
                const int64_t first = p->n_groups * tile / n_tiles, next = p->n_groups * (tile + 1) / n_tiles;
                run_tile(each, block, p->first + first, (int)(next - first), scratch,
                         k + 1 < end ? block->weights : weights_behind(p, each, b, thread));
            }
        }
    }
}

/* A norm looks at all channels, so its blocks belong together. */
static void run_norms(const piece *p, int64_t first_tile, int64_t end_tile, int64_t n_tiles, float *scratch)
{
    const bk_run *run = p->run;
    const bk_stage *stage = p->stage;
    const bk_edge *source = &run->program->edges[stage->source];
    for (int64_t tile = first_tile; tile < end_tile; tile++) {
        const int64_t first = p->n_groups * tile / n_tiles, next = p->n_groups * (tile + 1) / n_tiles;
        const int64_t group = p->first + first;
        const int rows = (int)(next - first);
        const float *rows_in = (const float *)row_of(run, stage->source, group) + stage->blocks[0].source_channel;
        run->program->kernels->normalise(rows_in, source->row, stage->n_in, rows,
                                         scratch + BK_REGISTERS * BK_ROWS * BK_WIDTH, run->program->longest_row,
                                         stage->epsilon, stage->centre);
        for (int k = 0; k < stage->n_blocks; k++)
            run_tile(p, &stage->blocks[k], group, rows, scratch, NULL);
    }
}

void bk_run_parts(void *context, int thread)
{
    piece *p = context;
    const bk_stage *stage = p->stage;
    const int64_t most = stage->flat ? BK_ROWS * BK_WIDTH / stage->n_phases : BK_ROWS;
    const int64_t n_tiles = (p->n_groups + most - 1) / most;
    const int64_t n_blocks = stage->kind == BK_NORMALISE ? 1 : stage->n_blocks;
    const int64_t n_items = n_tiles * n_blocks, n_threads = p->run->n_threads;
    /* Whole blocks where there are enough of them, so that no two threads need the same weights. */
    int64_t n_together = n_blocks >= 2 * n_threads ? n_tiles : n_items / (n_threads * PARTS_OF_A_THREAD);
    if (n_threads == 1)
        n_together = n_items;
    if (n_together < 1)
        n_together = 1;
    float *scratch = p->run->scratch + (size_t)thread * p->run->scratch_size;
    if (bk_in_bundles(stage)) {
        run_parts_of_bundles(p, thread, scratch);
        return;
    }
    for (;;) {
        const int64_t part = bk_next_part(&p->taken, (n_items + n_together - 1) / n_together, thread);
        if (part < 0)
            return;
        const int64_t first = part * n_together, end = smaller(first + n_together, n_items);
        if (stage->kind == BK_NORMALISE)
            run_norms(p, first, end, n_tiles, scratch);
        else
            run_tiles(p, first, end, n_tiles, thread, scratch);
    }
}

