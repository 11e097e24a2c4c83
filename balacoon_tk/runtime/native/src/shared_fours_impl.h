/* Convolutions of three taps in fours by one filter of six products, F(4, 3) of minimal filtering: half of the products
 * that are written, where pairs take two thirds. Lavin and Gray, "Fast algorithms for convolutional neural networks",
 * 2016; its points 0, 1, -1, 2, -2 and infinity are drawn together by BK_SCALE here, which takes a third of the noise:
 * Barabasz et al., "Error analysis and improving the accuracy of Winograd convolution for deep neural networks", 2020.
 *
 * With s = BK_SCALE, of the taps h0 = g0, h1 = s g1, h2 = s^2 g2, as they are packed, and of the six steps
 * e0 .. e5 = s^5 d0 .. d5 that four outputs read, these are the products:
 *
 *      A = (4 e0 - 5 e2 + e4) h0                     output 0 = (A / 4 - (B + C) / 6 +     (E + F) / 24) / s^5
 *      B = (e4 + e3 - 4 e2 - 4 e1) (h0 + h1 + h2)    output 1 = (      - (B - C) / 6 + 2 (E - F) / 24) / s^4
 *      C = (e4 - e3 - 4 e2 + 4 e1) (h0 - h1 + h2)    output 2 = (      - (B + C) / 6 + 4 (E + F) / 24) / s^3
 *      D = (e5 - 5 e3 + 4 e1) h2                     output 3 = (D     - (B - C) / 6 + 8 (E - F) / 24) / s^2
 *      E = (e4 + 2 e3 - e2 - 2 e1) (h0 + 2 h1 + 4 h2)
 *      F = (e4 - 2 e3 - e2 + 2 e1) (h0 - 2 h1 + 4 h2)
 *
 * The first four are what pairs multiply weights by, and are summed up as those. All outputs share what is made of all
 * steps, in their last bits: this is for what is run whole. Weights are [channel][3][BK_WIDTH].
 */
#ifndef BALACOON_TK_SHARED_FOURS_IMPL_H
#define BALACOON_TK_SHARED_FOURS_IMPL_H

#define BK_SHARED 6 /* products of four outputs */

static void BK_KERNEL(combine_shared_fours)(const bk_bundle *fours, int n_fours, ptrdiff_t tap_step, int n_taps,
                                            int n_channels, void *made)
{
    const float s = BK_SCALE, scales[BK_SHARED] = {s * s * s * s * s, s * s * s * s, s * s * s, s * s, s, 1};
    (void)n_taps;
    for (int k = 0; k < n_fours; k++) {
        const float *steps[BK_SHARED];
        for (int i = 0; i < BK_SHARED; i++)
            steps[i] = bk_bundle_row(&fours[k], i, tap_step);
        float *out = (float *)made + k * BK_COLUMNS;
        for (int c = 0; c < n_channels; c += BK_COLUMNS, out += BK_SHARED * BK_PLANE) {
            vec e[BK_SHARED];
#pragma GCC unroll 8
            for (int i = 0; i < BK_SHARED; i++)
                e[i] = pair_channels(steps[i], c, n_channels) * scales[i];
            const vec inner = e[4] - e[2] * 4, inner_odd = e[3] - e[1] * 4;
            const vec outer = e[4] - e[2], outer_odd = (e[3] - e[1]) * 2;
            store_vec(out, e[0] * 4 + (e[4] - e[2] * 5));
            store_vec(out + BK_PLANE, inner + inner_odd);
            store_vec(out + 2 * BK_PLANE, inner - inner_odd);
            store_vec(out + 3 * BK_PLANE, e[1] * 4 + (e[5] - e[3] * 5));
            store_vec(out + 4 * BK_PLANE, outer + outer_odd);
            store_vec(out + 5 * BK_PLANE, outer - outer_odd);
        }
    }
}

/* E and F of `n_fours`, a constant wherever this is inlined. */
BK_INLINE void sum_outer(BK_KERNEL(pairs_part) *part, int first_four, const int n_fours, float (*kept)[2][BK_WIDTH])
{
    enum { N_VECTORS = BK_WIDTH / BK_LANES };
    const float *x = part->x + 4 * BK_PLANE + first_four * BK_COLUMNS, *w = part->weights, *next = part->next;
    const int n_lines = part->n_lines;
    vec sums[BK_MOST_SUMMED][2][N_VECTORS];
#define BK_FOR_SUMS(...)                                                                                       \
    _Pragma("GCC unroll 8") for (int k = 0; k < n_fours; k++)                                                  \
        _Pragma("GCC unroll 2") for (int s = 0; s < 2; s++)                                                    \
            _Pragma("GCC unroll 4") for (int v = 0; v < N_VECTORS; v++)                                        \
        {                                                                                                      \
            float *const place = &kept[first_four + k][s][v * BK_LANES];                                       \
            __VA_ARGS__;                                                                                       \
        }
    BK_FOR_SUMS(sums[k][s][v] = load_vec(place))
    for (int left = part->n_channels; left > 0; left -= BK_COLUMNS, x += BK_SHARED * BK_PLANE) {
        const int n = left < BK_COLUMNS ? left : BK_COLUMNS;
        for (int c = 0; c < n; c++, w += 3 * BK_WIDTH) {
            for (int k = 0; k < n_lines; k++, next += BK_LINE)
                BK_PREFETCH(next);
            vec plus[N_VECTORS], minus[N_VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < N_VECTORS; v++) {
                /* By sums alone, which most processors make beside products. */
                vec middle = load_vec(w + BK_WIDTH + v * BK_LANES), last = load_vec(w + 2 * BK_WIDTH + v * BK_LANES);
                BK_IN_REGISTER(middle);
                BK_IN_REGISTER(last);
                vec twice = last + last, odd = middle + middle;
                BK_IN_REGISTER(twice);
                BK_IN_REGISTER(odd);
                vec four_times = twice + twice;
                BK_IN_REGISTER(four_times);
                const vec even = four_times + load_vec(w + v * BK_LANES);
                plus[v] = even + odd;
                minus[v] = even - odd;
            }
#pragma GCC unroll 8
            for (int k = 0; k < n_fours; k++) {
                vec e = splat(x[k * BK_COLUMNS + c]), f = splat(x[BK_PLANE + k * BK_COLUMNS + c]);
                BK_IN_REGISTER(e);
#pragma GCC unroll 4
                for (int v = 0; v < N_VECTORS; v++)
                    sums[k][0][v] += plus[v] * e;
                BK_IN_REGISTER(f);
#pragma GCC unroll 4
                for (int v = 0; v < N_VECTORS; v++)
                    sums[k][1][v] += minus[v] * f;
            }
        }
    }
    BK_FOR_SUMS(store_vec(place, sums[k][s][v]))
    part->next = next;
#undef BK_FOR_SUMS
}

static void BK_KERNEL(convolve_shared_fours)(const bk_bundled *from, float *tile)
{
    const int n_channels = from->n_channels, n_fours = from->n_bundles;
    const float *const weights = from->weights, *const bias = from->bias;
    float inner[BK_BUNDLES][4][BK_WIDTH] __attribute__((aligned(64)));
    float outer[BK_BUNDLES][2][BK_WIDTH] __attribute__((aligned(64)));
    memset(inner, 0, sizeof(inner[0]) * (size_t)n_fours);
    memset(outer, 0, sizeof(outer[0]) * (size_t)n_fours);
    const int n_passes = n_passes_of(n_fours) + (n_fours + BK_MOST_SUMMED - 1) / BK_MOST_SUMMED;
    BK_KERNEL(pairs_part) part = {.x = from->combined, .weights = weights, .n_planes = BK_SHARED};
    part.n_lines = (3 * BK_WIDTH / BK_LINE + n_passes - 1) / n_passes;
    for (int c = 0; c < n_channels; c += BK_PART) {
        part.n_channels = n_channels - c < BK_PART ? n_channels - c : BK_PART;
        const float *const behind = part.weights + part.n_channels * 3 * BK_WIDTH;
        part.next = c + BK_PART < n_channels ? behind : from->next_weights ? from->next_weights : weights;
        sum_part(&part, 3, n_fours, inner);
        for (int four = 0, n; four < n_fours; four += n) {
            n = next_rows(n_fours - four, BK_MOST_SUMMED);
            BK_SWITCH_ROWS(n, BK_MOST_SUMMED, sum_outer(&part, four, N_ROWS, outer))
        }
        part.weights = behind;
        part.x += (part.n_channels + BK_COLUMNS - 1) / BK_COLUMNS * BK_SHARED * BK_PLANE;
    }
    const float s = BK_SCALE, first = 1 / (s * s * s * s * s), second = 1 / (s * s * s * s), third = 1 / (s * s * s),
                fourth = 1 / (s * s);
    for (int k = 0; k < n_fours; k++)
        for (int column = 0; column < BK_WIDTH; column += BK_LANES) {
            const vec start = bias ? load_vec(bias + column) : splat(0);
            const vec b = load_vec(&inner[k][1][column]), c = load_vec(&inner[k][2][column]);
            const vec e = load_vec(&outer[k][0][column]), f = load_vec(&outer[k][1][column]);
            const vec inner_even = (b + c) * (-1 / 6.0f), inner_odd = (b - c) * (-1 / 6.0f);
            const vec outer_even = (e + f) * (1 / 24.0f), outer_odd = (e - f) * (1 / 24.0f);
            const vec alone = load_vec(&inner[k][0][column]) * 0.25f, last = load_vec(&inner[k][3][column]);
            const int *const rows = from->rows[k];
            store_vec(tile + rows[0] * BK_WIDTH + column, (alone + (inner_even + outer_even)) * first + start);
            store_vec(tile + rows[1] * BK_WIDTH + column, (inner_odd + outer_odd * 2) * second + start);
            store_vec(tile + rows[2] * BK_WIDTH + column, (inner_even + outer_even * 4) * third + start);
            store_vec(tile + rows[3] * BK_WIDTH + column, (last + (inner_odd + outer_odd * 8)) * fourth + start);
        }
}

#undef BK_SHARED

#endif
