/* Attention over all steps, or over those near each: Vaswani et al., "Attention is all you need", 2017, section 3.2.1;
 * with embeddings of distances: Shaw, Uszkoreit and Vaswani, "Self-attention with relative position representations",
 * 2018, equations 3 and 4; with biases of distances: Press, Smith and Lewis, "Train short, test long", 2022, section 3.
 * For each head, of steps i and j with -left <= j - i <= right, or of all:
 *
 *      score[i][j]    = q[i] . k[j] + bias[j - i]    + q[i] . near_keys[j - i]                  where |j - i| <= window
 *      p[i]           = softmax of score[i]
 *      result[i]      = sum of p[i][j] v[j]          + sum of p[i][j] near_values[j - i]        where |j - i| <= window
 *
 * Both are products with a matrix, of which `convolve_predicted` makes BK_WIDTH columns of BK_ROWS rows. A tile is up to
 * BK_WIDTH queries of a head. Each thread works in
 *
 *      queries        [channel][query]
 *      scores         [key][query]
 *      near_scores    [distance][query]
 *      probabilities  [query][key, padded]
 *      near           [query][distance, padded]
 *
 * so that keys and values are read as they lie, and each query's sums go from its first key to its last, whatever
 * queries it has beside it: what a query doesn't see of a tile's keys adds 0.
 */
#include "run.h"

#include <math.h>

static int64_t padded(int64_t n) { return (n + BK_WIDTH - 1) / BK_WIDTH * BK_WIDTH; }

/* Most keys that the queries of a tile see. */
static int64_t most_keys(const bk_run *run, const bk_stage *stage)
{
    const int64_t n = run->tracks[stage->others[0]].count;
    return stage->left_context < 0 ? n : smaller(n, BK_WIDTH + stage->left_context + stage->right_context);
}

/* Floats of one thread. */
static size_t work_size(const bk_run *run, const bk_stage *stage)
{
    const int64_t n_keys = most_keys(run, stage), n_distances = stage->n_distances;
    return BK_WIDTH * (size_t)(stage->n_in + n_keys + n_distances + padded(n_keys) + padded(n_distances));
}

size_t bk_attention_size(const bk_run *run, const bk_stage *stage)
{
    return (size_t)run->n_threads * work_size(run, stage);
}

/* A tile of queries, and the keys that any of them sees. */
typedef struct {
    int head;
    int64_t first;
    int n;
    int64_t first_key;
    int n_keys;
    float *queries, *scores, *near_scores, *probabilities, *near;
    int stride, near_stride; /* of the last two, from a query to the next */
} queries_tile;

static queries_tile lay_queries(const piece *p, int head, int64_t first, int64_t end, int thread)
{
    const bk_run *run = p->run;
    const bk_stage *stage = p->stage;
    const int64_t n_keys = most_keys(run, stage), count = run->tracks[stage->others[0]].count;
    queries_tile tile = {.head = head, .first = first, .n = (int)(end - first), .n_keys = (int)count};
    if (stage->left_context >= 0) {
        tile.first_key = first > stage->left_context ? first - stage->left_context : 0;
        tile.n_keys = (int)(smaller(count, end + stage->right_context) - tile.first_key);
    }
    tile.stride = (int)padded(n_keys);
    tile.near_stride = (int)padded(stage->n_distances);
    tile.queries = (float *)aligned(run->work) + (size_t)thread * work_size(run, stage);
    tile.scores = tile.queries + BK_WIDTH * stage->n_in;
    tile.near_scores = tile.scores + BK_WIDTH * n_keys;
    tile.probabilities = tile.near_scores + BK_WIDTH * stage->n_distances;
    tile.near = tile.probabilities + BK_WIDTH * tile.stride;
    return tile;
}

/* Queries as the second factor of a product; columns that a tile has too few of are zeros. */
static void transpose_queries(const piece *p, const queries_tile *tile)
{
    const bk_stage *stage = p->stage;
    const bk_block *block = &stage->blocks[tile->head * (stage->n_blocks / stage->n_heads)];
    const ptrdiff_t row = p->run->program->edges[stage->source].row;
    const float *from = (const float *)row_of(p->run, stage->source, tile->first) + block->source_channel;
    for (int c = 0; c < stage->n_in; c++)
        for (int i = 0; i < BK_WIDTH; i++)
            tile->queries[c * BK_WIDTH + i] = i < tile->n ? from[i * row + c] : 0;
}

/* The products of some rows with the queries, a row of BK_WIDTH each. */
static void multiply(const piece *p, const queries_tile *tile, const float *rows, ptrdiff_t row_step, int64_t n_rows,
                     float *products)
{
    bk_window window = {
        .row_step = row_step,
        .n_taps = 1,
        .n_channels = p->stage->n_in,
        .weights = tile->queries,
    };
    for (int64_t row = 0; row < n_rows; row += BK_ROWS) {
        window.input = rows + row * row_step;
        p->run->program->kernels->convolve_predicted(&window, BK_WIDTH, (int)smaller(BK_ROWS, n_rows - row),
                                                     products + row * BK_WIDTH);
    }
}

/* Take what lies outside of a query's window away from it, and add the others' biases. */
static void look_near(const bk_stage *stage, const queries_tile *tile)
{
    const int64_t n = stage->left_context + 1 + stage->right_context;
    const float *biases[BK_WIDTH];
    for (int i = 0; stage->distance_biases != NULL && i < tile->n; i++)
        biases[i] = stage->distance_biases
                    + (tile->head * (int64_t)stage->bias_period + (tile->first + i) % stage->bias_period) * n;
    for (int j = 0; j < tile->n_keys; j++) {
        /* To the first query; to all others it is less. */
        const int64_t distance = tile->first_key + j - tile->first;
        const int all_see_it = distance <= stage->right_context && distance - tile->n + 1 >= -stage->left_context;
        if (all_see_it && stage->distance_biases == NULL)
            continue;
        float *scores = tile->scores + j * BK_WIDTH;
        for (int i = 0; i < tile->n; i++) {
            const int64_t d = distance - i;
            if (d > stage->right_context || d < -stage->left_context)
                scores[i] = -INFINITY;
            else if (stage->distance_biases != NULL)
                scores[i] += biases[i][d + stage->left_context];
        }
    }
}

/* The place among a tile's keys that lies so far from a query; -1 where there is none. */
static int64_t key_of(const queries_tile *tile, int query, int distance, int n_distances)
{
    const int64_t key = tile->first + query + distance - n_distances / 2 - tile->first_key;
    return key < tile->n_keys ? key : -1;
}

static void find_probabilities(const piece *p, const queries_tile *tile)
{
    const bk_run *run = p->run;
    const bk_stage *stage = p->stage;
    const int n_distances = stage->n_distances;
    const bk_edge *keys = &run->program->edges[stage->others[0]];
    const float *first_key = (const float *)row_of(run, stage->others[0], tile->first_key) + stage->other_channels[0]
                             + tile->head * stage->n_in;
    transpose_queries(p, tile);
    multiply(p, tile, first_key, keys->row, tile->n_keys, tile->scores);
    if (stage->left_context >= 0)
        look_near(stage, tile);
    if (n_distances) {
        const float *near_keys = stage->near_keys + (ptrdiff_t)tile->head * n_distances * stage->n_in;
        multiply(p, tile, near_keys, stage->n_in, n_distances, tile->near_scores);
    }
    for (int i = 0; i < tile->n; i++)
        for (int k = 0; k < n_distances; k++) {
            const int64_t key = key_of(tile, i, k, n_distances);
            if (key >= 0)
                tile->scores[key * BK_WIDTH + i] += tile->near_scores[k * BK_WIDTH + i];
        }
    run->program->kernels->softmax_of_columns(tile->scores, tile->n_keys);
    for (int i = 0; i < tile->n; i++) {
        for (int j = 0; j < tile->n_keys; j++)
            tile->probabilities[i * tile->stride + j] = tile->scores[j * BK_WIDTH + i];
        for (int k = 0; k < n_distances; k++) {
            const int64_t key = key_of(tile, i, k, n_distances);
            tile->near[i * tile->near_stride + k] = key >= 0 ? tile->scores[key * BK_WIDTH + i] : 0;
        }
    }
}

/* Some channels of the results of some queries: values, weighted by probabilities. */
static void sum_values(const piece *p, const queries_tile *tile, int k, int query, int rows, float *sums)
{
    const bk_run *run = p->run;
    const bk_stage *stage = p->stage;
    const bk_kernels *kernels = run->program->kernels;
    const int n_blocks = stage->n_blocks / stage->n_heads, n_distances = stage->n_distances;
    const bk_block *block = &stage->blocks[tile->head * n_blocks + k];
    bk_window window = {
        .input = tile->probabilities + query * tile->stride,
        .row_step = tile->stride,
        .n_taps = 1,
        .n_channels = tile->n_keys,
        .weights = (const float *)row_of(run, stage->others[1], tile->first_key) + stage->other_channels[1]
                   + block->channel,
    };
    kernels->convolve_predicted(&window, run->program->edges[stage->others[1]].row, rows, sums);
    if (n_distances) {
        float *near_sums = sums + BK_ROWS * BK_WIDTH;
        window.input = tile->near + query * tile->near_stride;
        window.row_step = tile->near_stride;
        window.n_channels = n_distances;
        window.weights = stage->near_values + (tile->head * n_distances * n_blocks + k) * BK_WIDTH;
        kernels->convolve_predicted(&window, n_blocks * BK_WIDTH, rows, near_sums);
        kernels->apply(BK_ADD, BK_TILE, rows, sums, sums, near_sums);
    }
}

void bk_run_attention(void *context, int thread)
{
    piece *p = context;
    const bk_stage *stage = p->stage;
    const int64_t n_tiles = (p->n_groups + BK_WIDTH - 1) / BK_WIDTH;
    const int n_blocks = stage->n_blocks / stage->n_heads; /* of a head */
    float *scratch = p->run->scratch + (size_t)thread * p->run->scratch_size;
    for (;;) {
        const int64_t part = bk_next_part(&p->taken, n_tiles * stage->n_heads, thread);
        if (part < 0)
            return;
        const int64_t k = part % n_tiles;
        const queries_tile tile = lay_queries(p, (int)(part / n_tiles), p->first + p->n_groups * k / n_tiles,
                                              p->first + p->n_groups * (k + 1) / n_tiles, thread);
        find_probabilities(p, &tile);
        for (int b = 0; b < n_blocks; b++)
            for (int query = 0; query < tile.n; query += BK_ROWS) {
                const int rows = smaller_int(BK_ROWS, tile.n - query);
                const bk_span span = {tile.first + query, 0, rows};
                sum_values(p, &tile, b, query, rows, scratch);
                bk_run_chain(p, &stage->blocks[tile.head * n_blocks + b], &span, 1, rows, scratch);
            }
    }
}
