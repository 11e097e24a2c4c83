/* Which outputs of a convolution are made in pairs, and how a tile of them lies.
 *
 * A pair are the steps t and t + dilation. Which of them belong together follows from the step alone, so that
 * chunks of any size give the same samples; with a dilation of 3:
 *
 *      step   0 1 2 3 4 5 | 6 7 8 9 ...
 *      pair   0 1 2 0 1 2 | 3 4 5 3 ...
 *
 * Where a piece begins or ends within such a period, only one output of some pairs is due. The other is made of
 * whatever numbers and stored by nobody.
 */
#ifndef BALACOON_TK_PAIRS_H
#define BALACOON_TK_PAIRS_H

#include "kernels.h"

/* Steps that follow each other, and the rows of a tile that hold them. */
typedef struct {
    int64_t step; /* of the first row */
    int row, n_rows;
} bk_span;

typedef struct {
    int n_pairs, n_rows, n_spans;
    int64_t steps[BK_PAIRS]; /* of the earlier output of each pair */
    int rows[BK_PAIRS][2];   /* of the earlier and the later output; BK_ROWS where it isn't due */
    bk_span spans[BK_ROWS];  /* in the order of time */
} bk_pair_tile;

/* The pairs of which the steps first <= step < end need one output at least, by index. */
typedef struct {
    int64_t first, end;
    int64_t dilation;
    int64_t first_pair, n_pairs;
    int64_t hole_at, hole; /* pairs left out, of a piece that is shorter than a period */
} bk_pair_range;

static inline bk_pair_range bk_find_pairs(int64_t first, int64_t end, int64_t dilation)
{
    const int64_t period = first / (2 * dilation), last_period = (end - 1) / (2 * dilation);
    const int64_t from = first % (2 * dilation), to = (end - 1) % (2 * dilation) + 1;
    int64_t low = 0, high = dilation, hole_at = 0, hole = 0;
    if (from >= dilation)
        low = from - dilation;
    if (to <= dilation)
        high = to;
    if (period == last_period && from < dilation && to <= dilation)
        low = from;
    else if (period == last_period && from >= dilation)
        high = to - dilation;
    else if (period == last_period && to - dilation < from) {
        hole_at = to - dilation;
        hole = from - hole_at;
    }
    const int64_t first_pair = period * dilation + low;
    return (bk_pair_range){first, end, dilation, first_pair, last_period * dilation + high - first_pair - hole,
                           hole_at, hole};
}

static inline void bk_add_row(bk_pair_tile *tile, int64_t step, int *row)
{
    const bk_span *last = tile->n_spans ? &tile->spans[tile->n_spans - 1] : NULL;
    if (last == NULL || last->step + last->n_rows != step)
        tile->spans[tile->n_spans++] = (bk_span){step, tile->n_rows, 0};
    tile->spans[tile->n_spans - 1].n_rows++;
    *row = tile->n_rows++;
}

/* A tile of n <= BK_PAIRS pairs of a range. */
static inline void bk_lay_pairs(const bk_pair_range *range, int64_t index, int n, bk_pair_tile *tile)
{
    const int64_t d = range->dilation;
    tile->n_pairs = n;
    tile->n_rows = tile->n_spans = 0;
    int64_t pair = range->first_pair + index + (index >= range->hole_at ? range->hole : 0);
    int64_t period = pair / d * 2 * d, place = pair % d;
    for (int p = 0; p < n; p++, index++) {
        if (p > 0 && index == range->hole_at)
            place += range->hole;
        tile->steps[p] = period + place;
        tile->rows[p][0] = tile->rows[p][1] = BK_ROWS;
        if (++place == d) {
            place = 0;
            period += 2 * d;
        }
    }
    /* Earlier and later outputs are in the order of time, each by themselves. */
    for (int a = 0, b = 0; b < n;) {
        const int earlier = a < n && tile->steps[a] < tile->steps[b] + d;
        const int p = earlier ? a++ : b++;
        const int64_t step = tile->steps[p] + (earlier ? 0 : d);
        if (step >= range->first && step < range->end)
            bk_add_row(tile, step, &tile->rows[p][!earlier]);
    }
}

/* What a pair reads: `row` is of the first tap of the earlier output. Where an output isn't due, the row that it
 * alone reads may not be there, and another stands for it. */
static inline bk_pair bk_pair_input(const bk_pair_tile *tile, int p, const float *row, ptrdiff_t tap_step,
                                    int n_taps)
{
    return (bk_pair){
        .first = row + (tile->rows[p][0] == BK_ROWS ? tap_step : 0),
        .inner = row + tap_step,
        .last = row + (n_taps - (tile->rows[p][1] == BK_ROWS)) * tap_step,
    };
}

/* Floats that the combined inputs of a tile take. */
static inline size_t bk_combined_size(int n_taps, int n_channels)
{
    const int n_products = n_taps + (n_taps + 2) / 3;
    return (size_t)n_products * (size_t)((n_channels + BK_COLUMNS - 1) / BK_COLUMNS * BK_COLUMNS) * BK_PAIRS;
}

#endif
