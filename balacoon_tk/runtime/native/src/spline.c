/* The inverse of a monotonic rational-quadratic spline, with linear tails: Durkan et al., "Neural spline flows", 2019,
 * section 3.1, equations 6 to 8. A step's parameters are those of n bins: n widths and n heights before their softmax,
 * and the n - 1 derivatives between the bins before their softplus; at both bounds the derivative is 1.
 *
 * With a and b the distances of y from the lower and the upper end of its bin, of a width w and a height h, between
 * the derivatives d and e, in the bin's own units:
 *
 *      r = (d b - e a) / (2 h)
 *      x = left + a / (r + a / w + sqrt(r^2 + a b / w^2))
 */
#include "run.h"

#include <math.h>
#include <string.h>

#define LEAST 1e-3f /* of a bin's derivatives, and of its width and height over those of all bins */

typedef struct {
    float low, high, left, width;
} bin;

/* The bin of y, and its number. */
static int find_bin(const float *widths, const float *heights, int n_bins, float bound, float y, bin *found)
{
    const float span = 2 * bound, share = span * (1 - LEAST * (float)n_bins);
    float low = -bound, left = -bound, sum_of_heights = 0, sum_of_widths = 0;
    for (int k = 0;; k++) {
        sum_of_heights += heights[k];
        sum_of_widths += widths[k];
        const int is_last = k == n_bins - 1;
        const float least = span * LEAST * (float)(k + 1) - bound;
        const float high = is_last ? bound : share * sum_of_heights + least;
        const float right = is_last ? bound : share * sum_of_widths + least;
        if (y < high || is_last) {
            *found = (bin){low, high, left, right - left};
            return k;
        }
        low = high;
        left = right;
    }
}

static float invert_in_bin(const bin *own, float slope_low, float slope_high, float y)
{
    const float a = y - own->low, b = own->high - y, w = own->width;
    const float r = (slope_low * b - slope_high * a) / (2 * (own->high - own->low));
    const float below = a / w, above = b / w;
    return own->left + a / (r + below + sqrtf(r * r + below * above));
}

/* The steps of a tile, into its first column. */
static void invert(const piece *p, int64_t first, int rows, float *tile)
{
    const bk_run *run = p->run;
    const bk_stage *stage = p->stage;
    const bk_kernels *kernels = run->program->kernels;
    const int n_bins = stage->n_bins;
    float shares[2 * BK_ROWS * BK_WIDTH] = {0}, slopes[BK_ROWS * BK_WIDTH] = {0};
    bin bins[BK_ROWS];
    for (int r = 0; r < rows; r++) {
        const float *given = (const float *)row_of(run, stage->others[0], first + r) + stage->other_channels[0];
        memcpy(shares + 2 * r * BK_WIDTH, given, (size_t)n_bins * sizeof(float));
        memcpy(shares + (2 * r + 1) * BK_WIDTH, given + n_bins, (size_t)n_bins * sizeof(float));
    }
    kernels->softmax(shares, BK_WIDTH, n_bins, 2 * rows);
    int numbers[BK_ROWS];
    for (int r = 0; r < rows; r++) {
        const float *widths = shares + 2 * r * BK_WIDTH, *heights = widths + BK_WIDTH;
        const float *given = (const float *)row_of(run, stage->others[0], first + r) + stage->other_channels[0];
        const float y = ((const float *)row_of(run, stage->source, first + r))[stage->blocks[0].source_channel];
        const int k = numbers[r] = find_bin(widths, heights, n_bins, stage->value, y, &bins[r]);
        slopes[r * BK_WIDTH] = k > 0 ? given[2 * n_bins + k - 1] : 0;
        slopes[r * BK_WIDTH + 1] = k < n_bins - 1 ? given[2 * n_bins + k] : 0;
    }
    kernels->apply(BK_SOFTPLUS, BK_SCALAR, rows, slopes, slopes, slopes);
    memset(tile, 0, (size_t)rows * BK_WIDTH * sizeof(float));
    for (int r = 0; r < rows; r++) {
        const float y = ((const float *)row_of(run, stage->source, first + r))[stage->blocks[0].source_channel];
        const float low = numbers[r] > 0 ? slopes[r * BK_WIDTH] + LEAST : 1;
        const float high = numbers[r] < n_bins - 1 ? slopes[r * BK_WIDTH + 1] + LEAST : 1;
        /* Outside of the bounds, and of numbers, it is the identity. */
        tile[r * BK_WIDTH] = fabsf(y) <= stage->value ? invert_in_bin(&bins[r], low, high, y) : y;
    }
}

void bk_run_spline(void *context, int thread)
{
    piece *p = context;
    const int64_t n_tiles = (p->n_groups + BK_ROWS - 1) / BK_ROWS;
    float *tile = p->run->scratch + (size_t)thread * p->run->scratch_size;
    for (;;) {
        const int64_t part = bk_next_part(&p->taken, n_tiles, thread);
        if (part < 0)
            return;
        const int64_t first = p->n_groups * part / n_tiles, end = p->n_groups * (part + 1) / n_tiles;
        const bk_span span = {p->first + first, 0, (int)(end - first)};
        invert(p, span.step, span.n_rows, tile);
        bk_run_chain(p, &p->stage->blocks[0], &span, 1, span.n_rows, tile);
    }
}
