/* Convolutions of fewer products, by minimal filtering: Winograd, "Arithmetic complexity of computations", 1980;
 * Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.
 *
 * Of three taps g0, g1, g2 and the four steps d0 .. d3 that two outputs read, four products are enough:
 *
 *      A = (d0 - d2) g0               earlier output = A + (B + C) / 2
 *      B = (d1 + d2) (g0 + g1 + g2)
 *      C = (d2 - d1) (g0 - g1 + g2)   later output   = D + (B - C) / 2
 *      D = (d3 - d1) g2
 *
 * Two taps take three, A = (e0 - e1) g0, B = 2 e1 (g0 + g1), D = (e2 - e1) g1, and one takes two, A = f0 g, D = f1 g.
 * More than three taps are threes and a rest of them, summed up in the same four numbers. What only the earlier
 * output reads goes into A alone, what only the later one reads into D. Weights are
 * [taps in threes][channel][3, 2 or 1][BK_WIDTH].
 */
#ifndef BALACOON_TK_PAIRS_IMPL_H
#define BALACOON_TK_PAIRS_IMPL_H

/* Four sums of so many vectors stay in registers, weights and an input beside them. */
#define BK_MOST_SUMMED 6

/* A vector of a step from channel k on, zeros behind its n channels. */
BK_INLINE vec pair_channels(const float *step, int k, int n)
{
    return n - k >= BK_LANES ? load_vec(step + k) : load_part(step + k, n - k);
}

/* What a pair's products of `n_taps` taps, a constant wherever this is inlined, are made of. */
BK_INLINE void combine(const float *const *steps, const int n_taps, int n_channels, float *out)
{
    const float *const first = steps[0], *const second = steps[1];
    const float *const third = n_taps > 1 ? steps[2] : NULL, *const fourth = n_taps > 2 ? steps[3] : NULL;
    for (int k = 0; k < n_channels; k += BK_COLUMNS, out += (n_taps + 1) * BK_PLANE) {
        const vec a = pair_channels(first, k, n_channels), b = pair_channels(second, k, n_channels);
        if (n_taps == 1) {
            store_vec(out, a);
            store_vec(out + BK_PLANE, b);
            continue;
        }
        const vec c = pair_channels(third, k, n_channels);
        if (n_taps == 2) {
            store_vec(out, a - b);
            store_vec(out + BK_PLANE, b + b);
            store_vec(out + 2 * BK_PLANE, c - b);
            continue;
        }
        const vec d = pair_channels(fourth, k, n_channels);
        store_vec(out, a - c);
        store_vec(out + BK_PLANE, b + c);
        store_vec(out + 2 * BK_PLANE, c - b);
        store_vec(out + 3 * BK_PLANE, d - b);
    }
}

static void BK_KERNEL(combine_pairs)(const bk_bundle *pairs, int n_pairs, ptrdiff_t tap_step, int n_taps,
                                     int n_channels, float *combined)
{
    const ptrdiff_t n_planes = (n_channels + BK_COLUMNS - 1) / BK_COLUMNS;
    for (int tap = 0; tap < n_taps; tap += 3) {
        const int left = n_taps - tap < 3 ? n_taps - tap : 3;
        for (int p = 0; p < n_pairs; p++) {
            const float *steps[4];
            for (int k = 0; k <= left; k++)
                steps[k] = bk_bundle_row(&pairs[p], tap + k, tap_step);
            float *out = combined + p * BK_COLUMNS;
            if (left == 3)
                combine(steps, 3, n_channels, out);
            else if (left == 2)
                combine(steps, 2, n_channels, out);
            else
                combine(steps, 1, n_channels, out);
        }
        combined += n_planes * (left + 1) * BK_PLANE;
    }
}

/* `n_vectors` of columns of `n_pairs`; both are constants wherever this is inlined. What weights are combined to is made
 * here, of as few numbers as there are: all that a small push has to wait for. */
BK_INLINE void sum_pairs(const float *x, const float *w, const float *bias, int n_taps, int n_channels,
                         const int n_vectors, const int n_pairs, const int (*rows)[BK_BUNDLE], float *tile,
                         bk_prefetch *prefetch)
{
    uintptr_t fetched = prefetch->next;
    const int fetch_step = fetched < prefetch->end ? 2 * BK_LINE : 0;
    vec sums[4][BK_MOST_SUMMED][BK_WIDTH / BK_LANES];
#pragma GCC unroll 8
    for (int p = 0; p < n_pairs; p++)
#pragma GCC unroll 4
        for (int v = 0; v < n_vectors; v++) {
            const vec start = bias ? load_vec(bias + v * BK_LANES) : splat(0);
            sums[0][p][v] = sums[2][p][v] = sums[3][p][v] = splat(0);
            sums[1][p][v] = start + start;
        }
/* One product for each pair: combined input k, added to sum s. A number is read once for all vectors. */
#define BK_ADD_PRODUCTS(s, k, weights)                                                                         \
    _Pragma("GCC unroll 8") for (int p = 0; p < n_pairs; p++)                                                  \
    {                                                                                                          \
        vec number = splat(x[(k) * BK_PLANE + p * BK_COLUMNS + c]);                                            \
        BK_IN_REGISTER(number);                                                                                \
        _Pragma("GCC unroll 4") for (int v = 0; v < n_vectors; v++) sums[s][p][v] += weights[v] * number;      \
    }
#define BK_FOR_VECTORS(...)                                                                                    \
    _Pragma("GCC unroll 4") for (int v = 0; v < n_vectors; v++) { __VA_ARGS__; }
/* All channels of a group of taps, whose combined inputs are one more than its weights. */
#define BK_FOR_CHANNELS(n_weights, ...)                                                                        \
    for (int left = n_channels; left > 0; left -= BK_COLUMNS, x += ((n_weights) + 1) * BK_PLANE) {             \
        const int n = left < BK_COLUMNS ? left : BK_COLUMNS;                                                   \
        for (int c = 0; c < n; c++, w += (n_weights) * BK_WIDTH) {                                             \
            BK_PREFETCH(fetched);                                                                              \
            BK_PREFETCH(fetched + BK_LINE);                                                                    \
            fetched += fetch_step;                                                                             \
            vec first[BK_WIDTH / BK_LANES], last[BK_WIDTH / BK_LANES];                                         \
            BK_FOR_VECTORS(first[v] = load_vec(w + v * BK_LANES))                                              \
            BK_FOR_VECTORS(last[v] = load_vec(w + ((n_weights) - 1) * BK_WIDTH + v * BK_LANES))                \
            BK_ADD_PRODUCTS(0, 0, first)                                                                       \
            BK_ADD_PRODUCTS(3, n_weights, last)                                                                \
            __VA_ARGS__                                                                                        \
        }                                                                                                      \
    }
    for (; n_taps >= 3; n_taps -= 3)
        BK_FOR_CHANNELS(3, {
            vec plus[BK_WIDTH / BK_LANES], minus[BK_WIDTH / BK_LANES];
            BK_FOR_VECTORS(const vec outer = first[v] + last[v], middle = load_vec(w + BK_WIDTH + v * BK_LANES);
                           plus[v] = outer + middle; minus[v] = outer - middle)
            BK_ADD_PRODUCTS(1, 1, plus)
            BK_ADD_PRODUCTS(2, 2, minus)
        })
    if (n_taps == 2)
        BK_FOR_CHANNELS(2, {
            vec both[BK_WIDTH / BK_LANES];
            BK_FOR_VECTORS(both[v] = first[v] + last[v])
            BK_ADD_PRODUCTS(1, 1, both)
        })
    if (n_taps == 1)
        BK_FOR_CHANNELS(1, )
    prefetch->next = fetched;
#undef BK_ADD_PRODUCTS
#undef BK_FOR_VECTORS
#undef BK_FOR_CHANNELS
#pragma GCC unroll 8
    for (int p = 0; p < n_pairs; p++)
#pragma GCC unroll 4
        for (int v = 0; v < n_vectors; v++) {
            const vec b = sums[1][p][v], c = sums[2][p][v];
            store_vec(tile + rows[p][0] * BK_WIDTH + v * BK_LANES, sums[0][p][v] + (b + c) * 0.5f);
            store_vec(tile + rows[p][1] * BK_WIDTH + v * BK_LANES, sums[3][p][v] + (b - c) * 0.5f);
        }
}

static void BK_KERNEL(convolve_pairs)(const float *combined, int n_taps, int n_channels, const float *weights,
                                      const float *bias, int n_pairs, const int (*rows)[BK_BUNDLE], float *tile,
                                      bk_prefetch *prefetch)
{
    enum { ALL = BK_WIDTH / BK_LANES, OF_ALL = BK_MOST_SUMMED / ALL };
    for (int pair = 0, n; pair < n_pairs; pair += n) {
        /* Few pairs are few sums, which a processor would have to wait for. */
        const int in_halves = bk_pairs_in_halves && n_pairs - pair > OF_ALL;
        const float *x = combined + pair * BK_COLUMNS;
        n = next_rows(n_pairs - pair, in_halves ? BK_MOST_SUMMED : OF_ALL);
        for (int column = 0; in_halves && column < BK_WIDTH; column += BK_LANES)
            BK_SWITCH_ROWS(n, BK_MOST_SUMMED,
                           sum_pairs(x, weights + column, bias ? bias + column : NULL, n_taps, n_channels, 1, N_ROWS,
                                     rows + pair, tile + column, prefetch))
        if (!in_halves)
            BK_SWITCH_ROWS(n, OF_ALL,
                           sum_pairs(x, weights, bias, n_taps, n_channels, ALL, N_ROWS, rows + pair, tile, prefetch))
    }
}

#undef BK_MOST_SUMMED

#endif
