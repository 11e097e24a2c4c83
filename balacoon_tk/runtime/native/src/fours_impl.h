/* Convolutions of fewer products still: four outputs at once, minimal filtering within minimal filtering.
 *
 * Of two taps g0, g1 and the three steps d0, d1, d2 that two outputs read, three products are enough:
 *
 *      A = (d0 - d1) g0     earlier output = A + B
 *      B = d1 (g0 + g1)     later output   = B + C
 *      C = (d2 - d1) g1
 *
 * Up to six taps are one to three such filters of two, each two steps behind the one before. What these are to the
 * four outputs, two and two, is what taps are to two outputs: so they are put together as in pairs_impl.h, and what
 * stands there for a product is three of them here. Five taps are six whose first is a zero, and take 11 products
 * in place of 20; six take 12, three 8. More than six taps are sixes and a rest, summed up in the same 12 numbers.
 *
 * No output depends on a step behind the last that it reads, not even in its last bit, so that none has to wait. An
 * output of the later two depends on one step more in front where the first tap is such a zero (bundles.h).
 */
#ifndef BALACOON_TK_FOURS_IMPL_H
#define BALACOON_TK_FOURS_IMPL_H

/* What one filter of two taps needs of three steps; where its first tap is no tap, two products. */
BK_INLINE void put_products(float *const *planes, ptrdiff_t at, vec a, vec b, vec c, const int one)
{
    if (one) {
        store_vec(planes[0] + at, b);
        store_vec(planes[2] + at, c);
        return;
    }
    store_vec(planes[0] + at, a - b);
    store_vec(planes[1] + at, b);
    store_vec(planes[2] + at, c - b);
}

/* What the products of one four and `n_taps` taps, a constant wherever this is inlined, are made of. */
BK_INLINE void combine_four(const float *const *steps, const int n_taps, int n_channels, float *const *planes)
{
    const int n_filters = (n_taps + 1) / 2, odd = n_taps % 2;
    for (int k = 0; k < n_channels; k += BK_COLUMNS) {
        vec x[9];
        x[0] = splat(0);
#pragma GCC unroll 16
        for (int i = odd; i < 2 * n_filters + 3; i++)
            x[i] = pair_channels(steps[i - odd], k, n_channels);
        const ptrdiff_t at = k / BK_COLUMNS * BK_PLANE;
        if (n_filters == 1) {
            put_products(planes, at, x[0], x[1], x[2], odd);
            put_products(planes + 9, at, x[2], x[3], x[4], odd);
        } else if (n_filters == 2) {
            put_products(planes, at, x[0] - x[2], x[1] - x[3], x[2] - x[4], odd);
            put_products(planes + 3, at, x[2], x[3], x[4], 0);
            put_products(planes + 9, at, x[4] - x[2], x[5] - x[3], x[6] - x[4], 0);
        } else {
            put_products(planes, at, x[0] - x[4], x[1] - x[5], x[2] - x[6], odd);
            put_products(planes + 3, at, x[2] + x[4], x[3] + x[5], x[4] + x[6], 0);
            put_products(planes + 6, at, x[4] - x[2], x[5] - x[3], x[6] - x[4], 0);
            put_products(planes + 9, at, x[6] - x[2], x[7] - x[3], x[8] - x[4], 0);
        }
    }
}

static void BK_KERNEL(combine_fours)(const bk_bundle *fours, int n_fours, ptrdiff_t tap_step, int n_taps,
                                     int n_channels, void *made)
{
    float *combined = made;
    const ptrdiff_t plane = (ptrdiff_t)((n_channels + BK_COLUMNS - 1) / BK_COLUMNS) * BK_PLANE;
    float *next[BK_SUMS], *planes[BK_SUMS];
    for (int s = 0; s < BK_SUMS; s++) {
        next[s] = combined;
        combined += bk_n_products_of(s, n_taps) * plane;
    }
    for (int tap = 0; tap < n_taps; tap += 6) {
        const int left = n_taps - tap < 6 ? n_taps - tap : 6;
        for (int s = 0; s < BK_SUMS; s++) {
            planes[s] = next[s];
            next[s] += bk_has_product(s, left) * plane;
        }
        for (int k = 0; k < n_fours; k++) {
            const float *steps[9];
            for (int i = 0; i < left + 3; i++)
                steps[i] = bk_bundle_row(&fours[k], tap + i, tap_step);
#define BK_COMBINE(n)                                                                                          \
    case n:                                                                                                    \
        combine_four(steps, n, n_channels, planes);                                                            \
        break;
            switch (left) {
                BK_COMBINE(1)
                BK_COMBINE(2)
                BK_COMBINE(3)
                BK_COMBINE(4)
                BK_COMBINE(5)
                BK_COMBINE(6)
            }
#undef BK_COMBINE
            for (int s = 0; s < BK_SUMS; s++)
                planes[s] += BK_COLUMNS;
        }
    }
}

/* A matrix product: n_blocks times BK_COLUMNS channels of n_fours, a constant wherever this is inlined. */
BK_INLINE void sum_products(const float *x, const float *w, const float *next, ptrdiff_t n_blocks, const int n_fours,
                            float *out)
{
    enum { N_VECTORS = BK_WIDTH / BK_LANES };
    vec sums[BK_BUNDLES][N_VECTORS];
#pragma GCC unroll 16
    for (int k = 0; k < n_fours; k++)
#pragma GCC unroll 4
        for (int v = 0; v < N_VECTORS; v++)
            sums[k][v] = splat(0);
    for (; n_blocks > 0; n_blocks--, x += BK_PLANE)
        for (int c = 0; c < BK_COLUMNS; c++, w += BK_WIDTH, next += BK_WIDTH) {
            for (int k = 0; k < BK_WIDTH; k += BK_LINE)
                BK_PREFETCH(next + k);
            vec row[N_VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < N_VECTORS; v++) {
                row[v] = load_vec(w + v * BK_LANES);
                BK_IN_REGISTER(row[v]);
            }
#pragma GCC unroll 16
            for (int k = 0; k < n_fours; k++) {
                vec number = splat(x[k * BK_COLUMNS + c]);
                BK_IN_REGISTER(number);
#pragma GCC unroll 4
                for (int v = 0; v < N_VECTORS; v++)
                    sums[k][v] += row[v] * number;
            }
        }
#pragma GCC unroll 16
    for (int k = 0; k < n_fours; k++)
#pragma GCC unroll 4
        for (int v = 0; v < N_VECTORS; v++)
            store_vec(out + k * BK_WIDTH + v * BK_LANES, sums[k][v]);
}

static void BK_KERNEL(convolve_fours)(const bk_bundled *from, float *tile)
{
    const int n_taps = from->n_taps, n_fours = from->n_bundles;
    const float *combined = from->combined, *weights = from->weights, *const bias = from->bias;
    float sums[BK_SUMS][BK_BUNDLES * BK_WIDTH] __attribute__((aligned(64)));
    const ptrdiff_t n_blocks = (from->n_channels + BK_COLUMNS - 1) / BK_COLUMNS;
    for (int s = 0; s < BK_SUMS; s++) {
        const ptrdiff_t n = bk_n_products_of(s, n_taps) * n_blocks;
        const float *const behind = weights + n * BK_COLUMNS * BK_WIDTH;
        const float *const next = s == BK_SUMS - 1 && from->next_weights ? from->next_weights : behind;
        BK_SWITCH_ROWS(n_fours, BK_BUNDLES, sum_products(combined, weights, next, n, N_ROWS, sums[s]))
        combined += n * BK_PLANE;
        weights = behind;
    }
    for (int column = 0; column < BK_WIDTH; column += BK_LANES) {
        const vec start = bias ? load_vec(bias + column) : splat(0);
        for (int k = 0; k < n_fours; k++) {
            vec earlier[3], later[3];
#pragma GCC unroll 4
            for (int i = 0; i < 3; i++) {
                const float *of = sums[i] + k * BK_WIDTH + column;
                const ptrdiff_t next = 3 * BK_BUNDLES * BK_WIDTH;
                const vec b = load_vec(of + next), c = load_vec(of + 2 * next);
                earlier[i] = load_vec(of) + (b + c);
                later[i] = load_vec(of + 3 * next) + (b - c);
            }
            store_vec(tile + from->rows[k][0] * BK_WIDTH + column, earlier[0] + (earlier[1] + start));
            store_vec(tile + from->rows[k][1] * BK_WIDTH + column, earlier[2] + (earlier[1] + start));
            store_vec(tile + from->rows[k][2] * BK_WIDTH + column, later[0] + (later[1] + start));
            store_vec(tile + from->rows[k][3] * BK_WIDTH + column, later[2] + (later[1] + start));
        }
    }
}

#endif
