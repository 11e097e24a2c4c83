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
/* Channels of which all pairs are summed up before the next ones: with as many that are prefetched, the weights of three
 * taps stay in a first cache. */
#define BK_PART 48

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
                                     int n_channels, void *made)
{
    float *combined = made;
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

/* Part of the channels of taps that lie together, of which the sums are kept between two parts. */
typedef struct {
    const float *x, *weights;
    int n_planes; /* of BK_COLUMNS channels */
    int n_channels;
    const float *next; /* weights that are prefetched, line by line */
    int n_lines;       /* for each channel */
} BK_KERNEL(pairs_part);

/* `n_vectors` of columns of `n_pairs`, and their products of `n_weights` taps: all three are constants wherever this is
 * inlined. What weights are combined to is made here, of as few numbers as there are: all that a small push has to wait
 * for. */
BK_INLINE void sum_pairs(BK_KERNEL(pairs_part) *part, int first_pair, int column, const int n_weights,
                         const int n_vectors, const int n_pairs, float (*kept)[4][BK_WIDTH])
{
    const float *x = part->x + first_pair * BK_COLUMNS, *w = part->weights + column, *next = part->next;
    const int n_lines = part->n_lines;
    vec sums[4][BK_MOST_SUMMED][BK_WIDTH / BK_LANES];
#define BK_FOR_SUMS(...)                                                                                       \
    _Pragma("GCC unroll 8") for (int p = 0; p < n_pairs; p++)                                                  \
        _Pragma("GCC unroll 4") for (int s = 0; s < 4; s++)                                                    \
            _Pragma("GCC unroll 4") for (int v = 0; v < n_vectors; v++)                                        \
        {                                                                                                      \
            float *const place = kept[first_pair + p][s] + column + v * BK_LANES;                              \
            __VA_ARGS__;                                                                                       \
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
    BK_FOR_SUMS(sums[s][p][v] = load_vec(place))
    for (int left = part->n_channels; left > 0; left -= BK_COLUMNS, x += part->n_planes * BK_PLANE) {
        const int n = left < BK_COLUMNS ? left : BK_COLUMNS;
        for (int c = 0; c < n; c++, w += n_weights * BK_WIDTH) {
            for (int k = 0; k < n_lines; k++, next += BK_LINE)
                BK_PREFETCH(next);
            /* Each is read once: of few pairs there are more reads than products. */
            vec first[BK_WIDTH / BK_LANES], middle[BK_WIDTH / BK_LANES], last[BK_WIDTH / BK_LANES];
            BK_FOR_VECTORS(first[v] = load_vec(w + v * BK_LANES); BK_IN_REGISTER(first[v]))
            BK_FOR_VECTORS(last[v] = load_vec(w + (n_weights - 1) * BK_WIDTH + v * BK_LANES); BK_IN_REGISTER(last[v]))
            BK_ADD_PRODUCTS(0, 0, first)
            BK_ADD_PRODUCTS(3, n_weights, last)
            if (n_weights == 3) {
                vec plus[BK_WIDTH / BK_LANES], minus[BK_WIDTH / BK_LANES];
                BK_FOR_VECTORS(middle[v] = load_vec(w + BK_WIDTH + v * BK_LANES); BK_IN_REGISTER(middle[v]))
                BK_FOR_VECTORS(const vec outer = first[v] + last[v]; plus[v] = outer + middle[v]; minus[v] = outer - middle[v])
                BK_ADD_PRODUCTS(1, 1, plus)
                BK_ADD_PRODUCTS(2, 2, minus)
            }
            if (n_weights == 2) {
                vec both[BK_WIDTH / BK_LANES];
                BK_FOR_VECTORS(both[v] = first[v] + last[v])
                BK_ADD_PRODUCTS(1, 1, both)
            }
        }
    }
    BK_FOR_SUMS(store_vec(place, sums[s][p][v]))
    part->next = next;
#undef BK_FOR_SUMS
#undef BK_ADD_PRODUCTS
#undef BK_FOR_VECTORS
}

/* Few pairs are few sums, which a processor would have to wait for. */
BK_INLINE int sums_in_halves(int n_pairs) { return bk_pairs_in_halves && n_pairs > BK_MOST_SUMMED * BK_LANES / BK_WIDTH; }

/* How often `sum_part` goes through the weights. */
BK_INLINE int n_passes_of(int n_pairs)
{
    const int n_columns = sums_in_halves(n_pairs) ? BK_WIDTH / BK_LANES : 1;
    const int most = n_columns > 1 ? BK_MOST_SUMMED : BK_MOST_SUMMED * BK_LANES / BK_WIDTH;
    return (n_pairs + most - 1) / most * n_columns;
}

/* A part for all pairs: as many at once as there are registers for, of all columns or of half of them. */
BK_INLINE void sum_part(BK_KERNEL(pairs_part) *part, const int n_weights, int n_pairs, float (*kept)[4][BK_WIDTH])
{
    enum { ALL = BK_WIDTH / BK_LANES, OF_ALL = BK_MOST_SUMMED / ALL };
    const int in_halves = sums_in_halves(n_pairs);
    for (int pair = 0, n; pair < n_pairs; pair += n) {
        n = next_rows(n_pairs - pair, in_halves ? BK_MOST_SUMMED : OF_ALL);
        for (int column = 0; in_halves && column < BK_WIDTH; column += BK_LANES)
            BK_SWITCH_ROWS(n, BK_MOST_SUMMED, sum_pairs(part, pair, column, n_weights, 1, N_ROWS, kept))
        if (!in_halves)
            BK_SWITCH_ROWS(n, OF_ALL, sum_pairs(part, pair, 0, n_weights, ALL, N_ROWS, kept))
    }
}

static void BK_KERNEL(convolve_pairs)(const bk_bundled *from, float *tile)
{
    const int n_taps = from->n_taps, n_channels = from->n_channels, n_pairs = from->n_bundles;
    const float *const weights = from->weights, *const bias = from->bias;
    float kept[BK_BUNDLES][4][BK_WIDTH] __attribute__((aligned(64)));
    const int n_passes = n_passes_of(n_pairs);
    for (int p = 0; p < n_pairs; p++)
        for (int column = 0; column < BK_WIDTH; column += BK_LANES) {
            const vec start = bias ? load_vec(bias + column) : splat(0);
            for (int s = 0; s < 4; s++)
                store_vec(&kept[p][s][column], s == 1 ? start + start : splat(0));
        }
    BK_KERNEL(pairs_part) part = {.x = from->combined, .weights = weights};
    for (int left = n_taps, n_weights; left > 0; left -= n_weights) {
        n_weights = left < 3 ? left : 3;
        part.n_planes = n_weights + 1;
        const int lines = n_weights * BK_WIDTH / BK_LINE;
        part.n_lines = (lines + n_passes - 1) / n_passes;
        for (int c = 0; c < n_channels; c += BK_PART) {
            part.n_channels = n_channels - c < BK_PART ? n_channels - c : BK_PART;
            const float *const behind = part.weights + part.n_channels * n_weights * BK_WIDTH;
            const int is_last = left == n_weights && c + BK_PART >= n_channels;
            part.next = !is_last ? behind : from->next_weights ? from->next_weights : weights;
            if (n_weights == 3)
                sum_part(&part, 3, n_pairs, kept);
            else if (n_weights == 2)
                sum_part(&part, 2, n_pairs, kept);
            else
                sum_part(&part, 1, n_pairs, kept);
            part.weights = behind;
            part.x += (part.n_channels + BK_COLUMNS - 1) / BK_COLUMNS * part.n_planes * BK_PLANE;
        }
    }
    for (int p = 0; p < n_pairs; p++)
        for (int column = 0; column < BK_WIDTH; column += BK_LANES) {
            const vec a = load_vec(&kept[p][0][column]), d = load_vec(&kept[p][3][column]);
            const vec b = load_vec(&kept[p][1][column]), c = load_vec(&kept[p][2][column]);
            store_vec(tile + from->rows[p][0] * BK_WIDTH + column, a + (b + c) * 0.5f);
            store_vec(tile + from->rows[p][1] * BK_WIDTH + column, d + (b - c) * 0.5f);
        }
}

#endif
