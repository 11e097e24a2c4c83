/* Pairs of steps in int8: pairs_impl.h in whole numbers, and so exact, the same bits as convolve_int8 gives.
 *
 * Inputs have 7 bits, so that what is made of two of them is a byte; a difference has 128 added, which an offset takes
 * away from the sum. Weights of three taps have an even sum, and those of a rest of two, so that half of it is whole:
 *
 *      A = (d0 - d2 + 128) g0                      earlier output = A + B + C
 *      B = (d1 + d2) (g0 + g1 + g2) / 2
 *      C = (d2 - d1 + 128) (g0 - g1 + g2) / 2      later output   = D + B - C
 *      D = (d3 - d1 + 128) g2
 *
 * Two taps take three, A = (e0 - e1 + 128) g0, B = 2 e1 (g0 + g1) / 2, D = (e2 - e1 + 128) g1, and one takes two,
 * A = f0 g, D = f1 g. First B and C are summed up over all taps, then their sum goes on with A and their difference
 * with D: two sums a pair at a time, as many as there are outputs. What is combined lies in this order:
 *
 *      [threes][B, C]  [two][B]  [threes][A, D]  [two][A, D]  [one][A, D]          each [pair][channels]
 *
 * Weights are as many as there are taps, [threes, two, one][quad][A, B and D, A and B, or A][BK_WIDTH][BK_QUAD]; the
 * others are made of these where they are multiplied, byte by byte: C = A + D - B, and of two taps D = 2 B - A.
 */
#ifndef BALACOON_TK_PAIRS_INT8_IMPL_H
#define BALACOON_TK_PAIRS_INT8_IMPL_H

#define BK_INT8_PAIRS ((BK_INT8_STEPS + 1) / 2) /* that are summed up at once */

/* What a pair's products of `n_taps` taps, a constant wherever this is inlined, are made of: of each channel. */
#define BK_JOIN(type)                                                                                          \
    {                                                                                                          \
        const type d0 = *(const type *)(steps[0] + c), d1 = *(const type *)(steps[1] + c);                     \
        if (n_taps == 1) {                                                                                     \
            *(type *)(own + c) = d0;                                                                           \
            *(type *)(own + plane + c) = d1;                                                                   \
        } else {                                                                                               \
            const type d2 = *(const type *)(steps[2] + c), d3 = n_taps == 3 ? *(const type *)(steps[3] + c) : d2; \
            *(type *)(shared + c) = (type)(n_taps == 3 ? d1 + d2 : d1 + d1);                                   \
            if (n_taps == 3)                                                                                   \
                *(type *)(shared + plane + c) = (type)(d2 - d1 + 128);                                         \
            *(type *)(own + c) = (type)(n_taps == 3 ? d0 - d2 + 128 : d0 - d1 + 128);                          \
            *(type *)(own + plane + c) = (type)(d3 - d1 + 128);                                                \
        }                                                                                                      \
    }

#if BK_LANES > 1
typedef uint8_t quads_anywhere __attribute__((vector_size(BK_LANES * 4), aligned(1), may_alias));
typedef uint8_t sixteen_anywhere __attribute__((vector_size(16), aligned(1), may_alias));
#endif

BK_INLINE void join_steps(const uint8_t *const *steps, const int n_taps, int n_channels, ptrdiff_t plane,
                          uint8_t *shared, uint8_t *own)
{
    int c = 0;
#if BK_LANES > 1
    for (; n_channels - c >= BK_LANES * 4; c += BK_LANES * 4)
        BK_JOIN(quads_anywhere)
    for (; n_channels - c >= 16; c += 16)
        BK_JOIN(sixteen_anywhere)
#endif
    for (; c < n_channels; c++)
        BK_JOIN(uint8_t)
}

#undef BK_JOIN

static void BK_KERNEL(combine_pairs_int8)(const bk_bundle *pairs, int n_pairs, ptrdiff_t tap_step, int n_taps,
                                          int n_channels, void *combined)
{
    const ptrdiff_t plane = (ptrdiff_t)n_channels * BK_BUNDLES;
    uint8_t *shared = combined, *own = shared + bk_n_shared(n_taps) * plane;
    for (int p = 0; p < n_pairs; p++) {
        uint8_t *b = shared + (ptrdiff_t)p * n_channels, *a = own + (ptrdiff_t)p * n_channels;
        const int all_there = pairs[p].low <= 0 && pairs[p].high >= n_taps;
        const uint8_t *row = pairs[p].row;
        for (int tap = 0; tap < n_taps; tap += 3, a += 2 * plane, b += 2 * plane, row += 3 * tap_step) {
            const int left = n_taps - tap < 3 ? n_taps - tap : 3;
            const uint8_t *steps[4] = {row, row + tap_step, row + 2 * tap_step, row + 3 * tap_step};
            for (int k = 0; !all_there && k <= left; k++)
                steps[k] = bk_bundle_bytes(&pairs[p], tap + k, tap_step);
            if (left == 3)
                join_steps(steps, 3, n_channels, plane, b, a);
            else if (left == 2)
                join_steps(steps, 2, n_channels, plane, b, a);
            else
                join_steps(steps, 1, n_channels, plane, b, a);
        }
    }
}

/* Sums of two products a pair, of `n_pairs`, and what has to be added to them where inputs are signed. */
typedef struct {
    ivec of[2][BK_INT8_PAIRS][BK_INT8_VECTORS];
    ivec corrections[2][BK_INT8_VECTORS];
} BK_KERNEL(pair_sums);

/* What `n_taps` weigh in both outputs, or in each of them; these are constants wherever this is inlined. */
BK_INLINE ivec weights_of(const int8_t *weights, const int n_taps, const int shared, const int second)
{
    const int step = BK_WIDTH * BK_QUAD;
    const ivec a = load_ints(weights);
    if (n_taps == 1 || (!shared && !second))
        return a;
    const ivec b = load_ints(weights + step);
    if (shared && !second)
        return b;
    if (n_taps == 2)
        return take_bytes(add_bytes(b, b), a);
    const ivec d = load_ints(weights + 2 * step);
    return shared ? take_bytes(add_bytes(a, d), b) : d;
}

/* Products of `n_taps` for each pair: those of both outputs, or of each. These and `n_pairs` are constants wherever this
 * is inlined. */
BK_INLINE const int8_t *sum_products_int8(const uint8_t *x, ptrdiff_t plane, ptrdiff_t n_channels,
                                          const int8_t *weights, const int8_t *next, const int n_taps,
                                          const int shared, const int n_pairs, BK_KERNEL(pair_sums) * sums)
{
    const int n_products = shared && n_taps == 2 ? 1 : 2, step = n_taps * BK_WIDTH * BK_QUAD;
    for (ptrdiff_t c = 0; c < n_channels; c += BK_QUAD, weights += step) {
        for (int tap = 0; next != NULL && tap < n_taps; tap++)
            for (int k = 0; k < BK_INT8_VECTORS * BK_LANES; k += BK_LINE)
                BK_PREFETCH(next + c * n_taps * BK_WIDTH + (tap * BK_WIDTH + k) * BK_QUAD);
#pragma GCC unroll 2
        for (int s = 0; s < n_products; s++) {
            bk_weights row[BK_INT8_VECTORS];
#pragma GCC unroll 8
            for (int v = 0; v < BK_INT8_VECTORS; v++) {
                ivec quads = weights_of(weights + v * BK_LANES * BK_QUAD, n_taps, shared, s);
                BK_IN_REGISTER(quads);
                row[v] = split_weights(quads);
                if (BK_INPUT_OFFSET)
                    sums->corrections[s][v] =
                        add_products(sums->corrections[s][v], split_input(0x01010101 ^ BK_INPUT_FLIP), row[v]);
            }
#pragma GCC unroll 8
            for (int p = 0; p < n_pairs; p++) {
                int32_t quad;
                memcpy(&quad, x + s * plane + p * n_channels + c, sizeof(quad));
                const bk_input numbers = split_input(quad);
#pragma GCC unroll 8
                for (int v = 0; v < BK_INT8_VECTORS; v++)
                    sums->of[s][p][v] = add_products(sums->of[s][p][v], numbers, row[v]);
            }
        }
    }
    return weights;
}

/* The outputs of `n_pairs` from `first` on, a constant, of BK_INT8_VECTORS * BK_LANES columns. */
BK_INLINE void sum_pairs_int8(const bk_bundled *from, int first, int column, const int n_pairs, float *tile)
{
    BK_KERNEL(pair_sums) sums;
#define BK_FOR_SUMS(...)                                                                                       \
    _Pragma("GCC unroll 8") for (int v = 0; v < BK_INT8_VECTORS; v++)                                          \
    {                                                                                                          \
        _Pragma("GCC unroll 8") for (int p = 0; p < n_pairs; p++) { __VA_ARGS__; }                             \
    }
    BK_FOR_SUMS(sums.of[0][p][v] = sums.of[1][p][v] = splat_int(0))
#pragma GCC unroll 8
    for (int v = 0; v < BK_INT8_VECTORS; v++)
        sums.corrections[0][v] = sums.corrections[1][v] = splat_int(0);
    const ptrdiff_t n_channels = from->n_channels, plane = n_channels * BK_BUNDLES;
    const ptrdiff_t size = n_channels * BK_WIDTH; /* of the weights of a tap */
    const uint8_t *x = (const uint8_t *)from->combined + first * n_channels;
    const int8_t *const all = (const int8_t *)from->weights + column * BK_QUAD, *weights = all;
    int left = from->n_taps;
    for (; left >= 3; left -= 3, x += 2 * plane)
        weights = sum_products_int8(x, plane, n_channels, weights, weights + 3 * size, 3, 1, n_pairs, &sums);
    if (left == 2) {
        sum_products_int8(x, plane, n_channels, weights, NULL, 2, 1, n_pairs, &sums);
        x += plane;
    }
    BK_FOR_SUMS(const ivec b = sums.of[0][p][v], c = sums.of[1][p][v]; sums.of[0][p][v] = b + c;
                sums.of[1][p][v] = b - c)
#pragma GCC unroll 8
    for (int v = 0; v < BK_INT8_VECTORS; v++) {
        const ivec b = sums.corrections[0][v], c = sums.corrections[1][v];
        sums.corrections[0][v] = b + c;
        sums.corrections[1][v] = b - c;
    }
    const int8_t *behind = from->next_weights ? (const int8_t *)from->next_weights + column * BK_QUAD : NULL;
    weights = all;
    for (left = from->n_taps; left >= 3; left -= 3, x += 2 * plane, behind = NULL)
        weights = sum_products_int8(x, plane, n_channels, weights, behind, 3, 0, n_pairs, &sums);
    if (left == 2)
        sum_products_int8(x, plane, n_channels, weights, NULL, 2, 0, n_pairs, &sums);
    else if (left == 1)
        sum_products_int8(x, plane, n_channels, weights, NULL, 1, 0, n_pairs, &sums);
#pragma GCC unroll 8
    for (int v = 0; v < BK_INT8_VECTORS; v++) {
        const int k = column + v * BK_LANES;
        const vec scale = load_vec(from->scale + k), bias = from->bias ? load_vec(from->bias + k) : splat(0);
#pragma GCC unroll 2
        for (int output = 0; output < 2; output++) {
            const ivec offset =
                load_ints(from->offset + output * BK_WIDTH + k) + sums.corrections[output][v] * BK_INPUT_OFFSET;
#pragma GCC unroll 8
            for (int p = 0; p < n_pairs; p++)
                store_vec(tile + from->rows[first + p][output] * BK_WIDTH + k,
                          to_floats(sums.of[output][p][v] + offset) * scale + bias);
        }
    }
#undef BK_FOR_SUMS
}

static void BK_KERNEL(convolve_pairs_int8)(const bk_bundled *from, float *tile)
{
    for (int column = 0; column < BK_WIDTH; column += BK_INT8_VECTORS * BK_LANES)
        for (int first = 0, n; first < from->n_bundles; first += n) {
            n = next_rows(from->n_bundles - first, BK_INT8_PAIRS);
            BK_SWITCH_ROWS(n, BK_INT8_PAIRS, sum_pairs_int8(from, first, column, N_ROWS, tile))
        }
}

#endif
