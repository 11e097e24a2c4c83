/* Attention over all steps: Vaswani et al., "Attention is all you need", 2017, section 3.2.1; with embeddings of
 * distances: Shaw, Uszkoreit and Vaswani, "Self-attention with relative position representations", 2018, equations 3
 * and 4. For each head, of steps i and j:
 *
 *      score[i][j]    = q[i] . k[j]              + q[i] . near_keys[j - i]                  where |j - i| <= window
 *      p[i]           = softmax of score[i]
 *      result[i]      = sum of p[i][j] v[j]      + sum of p[i][j] near_values[j - i]        where |j - i| <= window
 *
 * Each is a product with a matrix, of which `convolve_predicted` makes BK_WIDTH columns of BK_ROWS steps. Keys are
 * transposed for it, once for all threads:
 *
 *      keys      [head and channel][step, padded to `stride`]
 *      scores    [step of a tile][step, padded to `stride`]           of each thread
 *      near      [step of a tile][distance, padded to BK_WIDTH]       of each thread
 */
#include "run.h"

#include <stdlib.h>

static int64_t padded(int64_t n) { return (n + BK_WIDTH - 1) / BK_WIDTH * BK_WIDTH; }

static int64_t n_keys_of(const bk_run *run, const bk_stage *stage) { return run->tracks[stage->others[0]].count; }

static int64_t stride_of(const bk_run *run, const bk_stage *stage) { return padded(n_keys_of(run, stage)); }

static size_t keys_size(const bk_run *run, const bk_stage *stage)
{
    return (size_t)(stage->n_heads * stage->n_in) * (size_t)stride_of(run, stage);
}

/* Of one thread. */
static size_t scores_size(const bk_run *run, const bk_stage *stage)
{
    return BK_ROWS * (size_t)(stride_of(run, stage) + padded(stage->n_distances));
}

static float *keys_of(const bk_run *run) { return (float *)aligned(run->attention); }

/* Some channels of all keys: as many as a line of a cache has. */
static void transpose_keys(void *context, int thread)
{
    piece *p = context;
    const bk_stage *stage = p->stage;
    const int n_channels = stage->n_heads * stage->n_in;
    const int64_t n_steps = n_keys_of(p->run, stage), stride = stride_of(p->run, stage);
    const int64_t row = p->run->program->edges[stage->others[0]].row;
    for (;;) {
        const int64_t part = bk_next_part(&p->taken, (n_channels + BK_COLUMNS - 1) / BK_COLUMNS, thread);
        if (part < 0)
            return;
        const int first = (int)part * BK_COLUMNS, n = smaller_int(BK_COLUMNS, n_channels - first);
        float *keys = keys_of(p->run) + first * stride;
        const float *from = (const float *)row_of(p->run, stage->others[0], 0) + stage->other_channels[0] + first;
        for (int64_t step = 0; step < n_steps; step++)
            for (int c = 0; c < n; c++)
                keys[c * stride + step] = from[step * row + c];
        for (int c = 0; c < n; c++)
            for (int64_t step = n_steps; step < stride; step++)
                keys[c * stride + step] = 0;
    }
}

int bk_prepare_attention(bk_run *run, const bk_stage *stage, bk_pool *pool)
{
    const size_t n_threads = (size_t)run->n_threads;
    const size_t n_floats = keys_size(run, stage) + n_threads * scores_size(run, stage);
    const size_t size = n_floats * sizeof(float) + ALIGNMENT;
    if (size > run->attention_size) {
        free(run->attention);
        run->attention = malloc(size);
        run->attention_size = run->attention == NULL ? 0 : size;
        if (run->attention == NULL)
            return -1;
    }
    piece p = {run, stage, 0, 0, 0, 0, NULL};
    bk_share(pool, transpose_keys, &p);
    return 0;
}

/* Of the steps of a tile: a number for each step of the keys, in `scores`, and for each distance, in `near`. */
static void find_probabilities(const piece *p, int head, int64_t first, int rows, float *tile, float *scores,
                               float *near)
{
    const bk_run *run = p->run;
    const bk_stage *stage = p->stage;
    const bk_kernels *kernels = run->program->kernels;
    const bk_edge *source = &run->program->edges[stage->source];
    const int64_t n_keys = n_keys_of(run, stage), stride = stride_of(run, stage);
    const int n_distances = stage->n_distances, window = n_distances / 2, near_stride = (int)padded(n_distances);
    const float *keys = keys_of(run) + head * stage->n_in * stride;
    const bk_block *block = &stage->blocks[head * (stage->n_blocks / stage->n_heads)];
    bk_window query = {
        .input = (const float *)row_of(run, stage->source, first) + block->source_channel,
        .row_step = source->row,
        .n_taps = 1,
        .n_channels = stage->n_in,
    };
    for (int64_t step = 0; step < stride; step += BK_WIDTH) {
        query.weights = keys + step;
        kernels->convolve_predicted(&query, stride, rows, tile);
        kernels->store(tile, BK_WIDTH, rows, scores + step, stride);
    }
    for (int k = 0; k < n_distances; k += BK_WIDTH) {
        query.weights = stage->near_keys + head * stage->n_in * near_stride + k;
        kernels->convolve_predicted(&query, near_stride, rows, tile);
        kernels->store(tile, BK_WIDTH, rows, near + k, near_stride);
    }
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < n_distances; k++) {
            const int64_t step = first + r + k - window;
            if (step >= 0 && step < n_keys)
                scores[r * stride + step] += near[r * near_stride + k];
        }
    kernels->softmax(scores, stride, (int)n_keys, rows);
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < n_distances; k++) {
            const int64_t step = first + r + k - window;
            near[r * near_stride + k] = step >= 0 && step < n_keys ? scores[r * stride + step] : 0;
        }
}

void bk_run_attention(void *context, int thread)
{
    piece *p = context;
    const bk_run *run = p->run;
    const bk_stage *stage = p->stage;
    const bk_kernels *kernels = run->program->kernels;
    const int64_t stride = stride_of(run, stage), near_stride = padded(stage->n_distances);
    const int64_t n_tiles = (p->n_groups + BK_ROWS - 1) / BK_ROWS;
    const int n_blocks = stage->n_blocks / stage->n_heads; /* of a head */
    float *scores = keys_of(run) + keys_size(run, stage) + (size_t)thread * scores_size(run, stage);
    float *near = scores + BK_ROWS * stride;
    float *tile = run->scratch + (size_t)thread * run->scratch_size, *near_tile = tile + BK_ROWS * BK_WIDTH;
    for (;;) {
        const int64_t part = bk_next_part(&p->taken, n_tiles * stage->n_heads, thread);
        if (part < 0)
            return;
        const int head = (int)(part / n_tiles);
        const int64_t start = p->n_groups * (part % n_tiles) / n_tiles;
        const int64_t end = p->n_groups * (part % n_tiles + 1) / n_tiles;
        const int rows = (int)(end - start);
        const bk_span span = {p->first + start, 0, rows};
        find_probabilities(p, head, span.step, rows, tile, scores, near);
        for (int k = 0; k < n_blocks; k++) {
            const bk_block *block = &stage->blocks[head * n_blocks + k];
            bk_window products = {
                .input = scores,
                .row_step = stride,
                .n_taps = 1,
                .n_channels = (int)n_keys_of(run, stage),
                .weights = (const float *)row_of(run, stage->others[1], 0) + stage->other_channels[1] + block->channel,
            };
            kernels->convolve_predicted(&products, run->program->edges[stage->others[1]].row, rows, tile);
            if (stage->n_distances) {
                products.input = near;
                products.row_step = near_stride;
                products.n_channels = stage->n_distances;
                products.weights = stage->near_values + (head * stage->n_distances * n_blocks + k) * BK_WIDTH;
                kernels->convolve_predicted(&products, n_blocks * BK_WIDTH, rows, near_tile);
                kernels->apply(BK_ADD, BK_TILE, rows, tile, tile, near_tile);
            }
            bk_run_chain(p, block, &span, 1, rows, tile);
        }
    }
}
