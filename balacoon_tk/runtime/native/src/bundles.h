/* Which outputs of a convolution are made together, two or four of them, and how a tile of them lies.
 *
 * A bundle are the steps t, t + dilation, t + 2 dilation, ... Which of them belong together follows from the step
 * alone, so that chunks of any size give the same samples; two a bundle, with a dilation of 3:
 *
 *      step     0 1 2 3 4 5 | 6 7 8 9 ...
 *      bundle   0 1 2 0 1 2 | 3 4 5 3 ...
 *
 * Where a piece begins or ends within such a period, only some outputs of some bundles are due. The others are made
 * of whatever numbers and stored by nobody.
 */
#ifndef BALACOON_TK_BUNDLES_H
#define BALACOON_TK_BUNDLES_H

#include "kernels.h"

#define BK_NOWHERE (BK_BUNDLES * BK_BUNDLE) /* the row of an output that isn't due */
#define BK_PLANE (BK_BUNDLES * BK_COLUMNS) /* numbers of one combined input, of all bundles and BK_COLUMNS channels */

/* How steps are made together. */
typedef enum {
    BK_IN_PAIRS,
    BK_IN_FOURS,
    BK_IN_SHARED_FOURS, /* of three taps, of what is run whole */
} bk_method;

static inline int bk_n_outputs(bk_method method) { return method == BK_IN_PAIRS ? 2 : BK_BUNDLE; }

/* Steps that follow each other, and the rows that hold them, of BK_ROWS that a chain of functions works on at once. */
typedef struct {
    int64_t step; /* of the first row */
    int row, n_rows;
} bk_span;

typedef struct {
    int n_bundles, n_rows, n_spans;
    int64_t place;                      /* within a period, of the first; -1 where some outputs aren't due */
    int64_t steps[BK_BUNDLES];          /* of the earliest output of each */
    int rows[BK_BUNDLES][BK_BUNDLE];    /* of its outputs */
    bk_span spans[BK_BUNDLES * BK_BUNDLE]; /* in the order of time */
} bk_bundle_tile;

/* The bundles of which the steps first <= step < end need one output at least, by index. */
typedef struct {
    int64_t first, end;
    int64_t dilation;
    int n_outputs; /* of a bundle */
    int64_t first_bundle, n_bundles;
    int64_t hole_at, hole; /* bundles left out, of a piece that is shorter than a dilation */
} bk_bundle_range;

static inline bk_bundle_range bk_find_bundles(int64_t first, int64_t end, int64_t dilation, int n_outputs)
{
    const int64_t period = n_outputs * dilation, behind_first = period - dilation;
    const int64_t first_period = first / period, last_period = (end - 1) / period;
    const int64_t from = first % period, to = (end - 1) % period + 1;
    int64_t low = 0, high = dilation, hole_at = 0, hole = 0;
    if (first_period != last_period) {
        low = from > behind_first ? from - behind_first : 0;
        high = to < dilation ? to : dilation;
    } else if (to - from < dilation) {
        low = from % dilation;
        high = low + to - from;
        if (high > dilation) {
            hole_at = high - dilation;
            hole = low - hole_at;
            low = 0;
            high = dilation;
        }
    }
    const int64_t first_bundle = first_period * dilation + low;
    const int64_t n_bundles = last_period * dilation + high - first_bundle - hole;
    return (bk_bundle_range){first, end, dilation, n_outputs, first_bundle, n_bundles, hole_at, hole};
}

static inline int bk_add_row(bk_bundle_tile *tile, int64_t step)
{
    const bk_span *last = &tile->spans[tile->n_spans - 1];
    const int row = tile->n_rows % BK_ROWS;
    if (row == 0 || last->step + last->n_rows != step)
        tile->spans[tile->n_spans++] = (bk_span){step, row, 0};
    tile->spans[tile->n_spans - 1].n_rows++;
    return tile->n_rows++;
}

/* A tile of n <= BK_BUNDLES bundles of a range. It is of zeros, or was laid before, and is only moved where it will lie
 * alike. */
static inline void bk_lay_bundles(const bk_bundle_range *range, int64_t index, int n, bk_bundle_tile *tile)
{
    const int64_t d = range->dilation, period = range->n_outputs * d;
    const int64_t bundle = range->first_bundle + index + (index >= range->hole_at ? range->hole : 0);
    int64_t start = bundle / d * period, place = bundle % d;
    const int64_t end = (place + n + d - 1) / d * period + start; /* of the last period */
    const int all_due = start + place >= range->first && end <= range->end && range->hole == 0;
    if (all_due && tile->n_bundles == n && tile->place == place) {
        const int64_t shift = start + place - tile->steps[0];
        for (int k = 0; k < n; k++)
            tile->steps[k] += shift;
        for (int k = 0; k < tile->n_spans; k++)
            tile->spans[k].step += shift;
        return;
    }
    tile->n_bundles = n;
    tile->place = all_due ? place : -1;
    tile->n_rows = tile->n_spans = 0;
    for (int first = 0, k = 0; first < n; first = k, start += period, place = 0) {
        for (; k < n && place < d; k++, index++, place++) {
            if (k > 0 && index == range->hole_at)
                place += range->hole;
            tile->steps[k] = start + place;
        }
        /* One output of all bundles of a period, then the next: that is the order of time. */
        for (int output = 0; output < range->n_outputs; output++)
            for (int b = first; b < k; b++) {
                const int64_t step = tile->steps[b] + output * d;
                const int due = step >= range->first && step < range->end;
                tile->rows[b][output] = due ? bk_add_row(tile, step) : BK_NOWHERE;
            }
    }
}

/* Whether the later outputs of a bundle of four depend on one step in front of what they read (fours_impl.h). */
static inline int bk_reads_older(bk_method method, int n_taps)
{
    return method == BK_IN_FOURS && (n_taps % 6 == 3 || n_taps % 6 == 5);
}

/* What a bundle reads: `row` is of the first tap of its earliest output. Where an output isn't due, a row that it
 * alone reads may not be there, and another stands for it. */
static inline bk_bundle bk_bundle_input(const bk_bundle_tile *tile, int b, bk_method method, const void *row,
                                        int n_taps)
{
    int first = 0, last = bk_n_outputs(method) - 1;
    while (tile->rows[b][first] == BK_NOWHERE)
        first++;
    while (tile->rows[b][last] == BK_NOWHERE)
        last--;
    return (bk_bundle){row, first - (first > 1 && bk_reads_older(method, n_taps)), last + n_taps - 1};
}

/* The place itself, or the next one to it that is there. */
static inline int bk_place_there(const bk_bundle *bundle, int place)
{
    return place < bundle->low ? bundle->low : place > bundle->high ? bundle->high : place;
}

/* A row that a bundle reads, by its place. */
static inline const float *bk_bundle_row(const bk_bundle *bundle, int place, ptrdiff_t tap_step)
{
    return (const float *)bundle->row + bk_place_there(bundle, place) * tap_step;
}

/* The same of a row of bytes. */
static inline const uint8_t *bk_bundle_bytes(const bk_bundle *bundle, int place, ptrdiff_t tap_step)
{
    return (const uint8_t *)bundle->row + bk_place_there(bundle, place) * tap_step;
}

/* ------------------------------------------------------------------------- what is multiplied, of each */

/* Twelve sums are made of fours, three for each of four: those that a product of so many taps, up to six, is added
 * to. Three are of two taps in a row; where the first of them is none, there are two. */
static inline int bk_has_product(int sum, int n_taps)
{
    const int outer = sum / 3, n_filters = (n_taps + 1) / 2;
    if ((outer == 1 && n_filters < 2) || (outer == 2 && n_filters < 3))
        return 0;
    return sum % 3 != 1 || n_taps % 2 == 0 || (outer != 0 && n_filters > 1);
}

static inline int bk_n_products_of(int sum, int n_taps)
{
    return n_taps / 6 + (n_taps % 6 && bk_has_product(sum, n_taps % 6));
}

/* Products of a bundle. */
static inline int bk_n_products(bk_method method, int n_taps)
{
    if (method == BK_IN_PAIRS)
        return n_taps + (n_taps + 2) / 3;
    if (method == BK_IN_SHARED_FOURS)
        return 6;
    int n = 0;
    for (int sum = 0; sum < BK_SUMS; sum++)
        n += bk_n_products_of(sum, n_taps);
    return n;
}

/* Products of a pair in int8 that go into both outputs (pairs_int8_impl.h). */
static inline int bk_n_shared(int n_taps) { return n_taps / 3 * 2 + (n_taps % 3 == 2); }

/* Numbers that the combined inputs of a tile take, floats or bytes. */
static inline size_t bk_combined_size(bk_method method, int n_taps, int n_channels)
{
    const size_t width = (size_t)((n_channels + BK_COLUMNS - 1) / BK_COLUMNS * BK_COLUMNS);
    return (size_t)bk_n_products(method, n_taps) * width * BK_BUNDLES;
}

#endif
