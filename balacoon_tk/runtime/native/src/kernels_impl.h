/* The kernels, written once in vectors; a file for each instruction set includes this.
 *
 * It includes kernels.h and the system's headers first, then asks the compiler for its instructions, so that
 * nothing of the system is compiled with them, and defines:
 *   BK_SUFFIX, BK_NAME            of the set, as a word and as text
 *   BK_LANES                      floats in a vector
 *   BK_VECTORS, BK_STEPS          vectors of a row, and rows, that are summed up at once: so many that their
 *                                 products stay in registers, weights and an input beside them
 *   BK_SQRT(x)                    square roots of a vector
 *   BK_GREATER, BK_LESSER(a, b)   if it has them, as vectors.h says
 *   BK_DOT_PRODUCT, BK_INT8_VECTORS, BK_INT8_STEPS and what int8_impl.h names
 */
#ifndef BALACOON_TK_KERNELS_IMPL_H
#define BALACOON_TK_KERNELS_IMPL_H

#include "bundles.h"
#include "kernels.h"

#define BK_PASTE_(a, b) a##_##b
#define BK_PASTE(a, b) BK_PASTE_(a, b)
#define BK_KERNEL(name) BK_PASTE(name, BK_SUFFIX)

#include "vectors.h"

/* Calls what is inlined with a constant number of rows, so that its sums are registers and no array. */
#define BK_CASE(n, most, ...)                                                                                  \
    case n: {                                                                                                  \
        enum { N_ROWS = (n) <= (most) ? (n) : (most) };                                                        \
        __VA_ARGS__;                                                                                           \
        break;                                                                                                 \
    }
#define BK_SWITCH_ROWS(n_rows, most, ...)                                                                      \
    switch (n_rows) {                                                                                          \
        BK_CASE(1, most, __VA_ARGS__)                                                                          \
        BK_CASE(2, most, __VA_ARGS__)                                                                          \
        BK_CASE(3, most, __VA_ARGS__)                                                                          \
        BK_CASE(4, most, __VA_ARGS__)                                                                          \
        BK_CASE(5, most, __VA_ARGS__)                                                                          \
        BK_CASE(6, most, __VA_ARGS__)                                                                          \
        BK_CASE(7, most, __VA_ARGS__)                                                                          \
        BK_CASE(8, most, __VA_ARGS__)                                                                          \
        BK_CASE(9, most, __VA_ARGS__)                                                                          \
        BK_CASE(10, most, __VA_ARGS__)                                                                         \
        BK_CASE(11, most, __VA_ARGS__)                                                                         \
        BK_CASE(12, most, __VA_ARGS__)                                                                         \
    }

/* How many of `left` rows to sum up next: 8 of at most 6 as 4 and 4, since 2 are too few to keep a processor
 * from waiting for its own sums. */
BK_INLINE int next_rows(int left, int most)
{
    if (left <= most)
        return left;
    const int n_blocks = (left + most - 1) / most;
    return (left + n_blocks - 1) / n_blocks;
}

#include "int8_impl.h"
#include "tile_impl.h"

/* `n_vectors` of columns of `rows` steps; both are constants wherever this is inlined. */
BK_INLINE void sum_up(const bk_window *window, const float *input, int column, const int n_vectors, const int rows,
                      float *tile)
{
    const float *weights = (const float *)window->weights + column;
    const float *next_weights = window->next_weights ? (const float *)window->next_weights + column : weights;
    const float *bias = window->bias ? window->bias + column : NULL;
    vec sums[BK_STEPS][2 * BK_VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < n_vectors; v++)
            sums[r][v] = bias ? load_vec(bias + v * BK_LANES) : splat(0);
    const ptrdiff_t row_step = window->row_step;
    const int n_channels = window->n_channels;
    for (int tap = 0; tap < window->n_taps; tap++) {
        const float *x = input + tap * window->tap_step;
        const float *w = weights + (ptrdiff_t)tap * n_channels * BK_WIDTH;
        const float *next = tap + 1 < window->n_taps ? w + (ptrdiff_t)n_channels * BK_WIDTH : next_weights;
        for (int c = 0; c < n_channels; c++, next += BK_WIDTH) {
#pragma GCC unroll 4
            for (int k = 0; k < n_vectors * BK_LANES; k += BK_LINE)
                BK_PREFETCH(next + k);
            vec row[2 * BK_VECTORS];
#pragma GCC unroll 8
            for (int v = 0; v < n_vectors; v++) {
                row[v] = load_vec(w + v * BK_LANES);
                BK_IN_REGISTER(row[v]);
            }
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++) {
                const float number = x[r * row_step + c];
#pragma GCC unroll 8
                for (int v = 0; v < n_vectors; v++)
                    sums[r][v] += row[v] * number;
            }
            w += BK_WIDTH;
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < n_vectors; v++)
            store_vec(tile + r * BK_WIDTH + v * BK_LANES, sums[r][v]);
}

static void BK_KERNEL(convolve)(const bk_window *window, int rows, float *tile)
{
    /* One or two rows are few sums: twice as many columns keep a processor from waiting for them. */
    enum { WIDER = 2 * BK_VECTORS * BK_LANES <= BK_WIDTH ? 2 * BK_VECTORS : BK_VECTORS };
    enum { HALF = BK_WIDTH / 2 / BK_LANES, NARROWER = BK_VECTORS < HALF ? BK_VECTORS : HALF };
    for (int row = 0, n_rows; row < rows; row += n_rows) {
        n_rows = next_rows(rows - row, BK_STEPS);
        const int n_vectors = 3 * n_rows <= BK_STEPS ? WIDER : BK_VECTORS;
        const float *input = (const float *)window->input + row * window->row_step;
        for (int column = 0; window->half && column < BK_WIDTH / 2; column += NARROWER * BK_LANES) {
            float *out = tile + row * BK_WIDTH + column;
            BK_SWITCH_ROWS(n_rows, BK_STEPS, sum_up(window, input, column, NARROWER, N_ROWS, out))
        }
        for (int column = 0; !window->half && column < BK_WIDTH; column += n_vectors * BK_LANES) {
            float *out = tile + row * BK_WIDTH + column;
            BK_SWITCH_ROWS(n_rows, BK_STEPS,
                           sum_up(window, input, column, 3 * N_ROWS <= BK_STEPS ? WIDER : BK_VECTORS, N_ROWS, out))
        }
    }
}

/* A vector of n numbers, zeros behind. */
BK_INLINE vec load_part(const float *x, int n)
{
    float padded[BK_LANES] = {0};
    memcpy(padded, x, (size_t)n * sizeof(float));
    return load_vec(padded);
}

#define BK_NARROW_STEPS 8 /* that are summed up at once: a processor waits for fewer sums */

/* One column of `rows` steps: a dot product over the channels of each tap. */
BK_INLINE void sum_narrow(const bk_window *window, const float *input, const float *weights, float bias,
                          const int rows, float *tile, ptrdiff_t tile_step)
{
    const ptrdiff_t row_step = window->row_step;
    const int n_channels = window->n_channels, n_whole = n_channels - n_channels % BK_LANES;
    vec sums[BK_NARROW_STEPS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        sums[r] = splat(0);
    for (int tap = 0; tap < window->n_taps; tap++, weights += n_channels) {
        const float *x = input + tap * window->tap_step;
        for (int c = 0; c < n_whole; c += BK_LANES) {
            const vec w = load_vec(weights + c);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                sums[r] += w * load_vec(x + r * row_step + c);
        }
        if (n_whole < n_channels) {
            const vec w = load_part(weights + n_whole, n_channels - n_whole);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                sums[r] += w * load_part(x + r * row_step + n_whole, n_channels - n_whole);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        tile[r * tile_step] = sum_of_lanes(sums[r]) + bias;
}

static void BK_KERNEL(convolve_narrow)(const bk_window *given, int n_columns, int rows, float *tile, ptrdiff_t tile_step)
{
    bk_window taps_in_one = *given;
    const bk_window *window = &taps_in_one;
    if (given->tap_step == given->n_channels) {
        /* Nothing lies between two taps: few channels fill no vector, those of all taps do. */
        taps_in_one.n_channels *= given->n_taps;
        taps_in_one.n_taps = 1;
    }
    const ptrdiff_t column_step = (ptrdiff_t)window->n_taps * window->n_channels;
    if (tile_step == BK_WIDTH)
        memset(tile, 0, (size_t)rows * BK_WIDTH * sizeof(float));
    for (int column = 0; column < n_columns; column++) {
        const float *weights = (const float *)window->weights + column * column_step;
        const float bias = window->bias ? window->bias[column] : 0;
        const float *input = (const float *)window->input;
        float *out = tile + column;
        int row = 0;
        for (; row + BK_NARROW_STEPS <= rows; row += BK_NARROW_STEPS, input += BK_NARROW_STEPS * window->row_step)
            sum_narrow(window, input, weights, bias, BK_NARROW_STEPS, out + row * tile_step, tile_step);
        for (; row < rows; row++, input += window->row_step)
            sum_narrow(window, input, weights, bias, 1, out + row * tile_step, tile_step);
    }
}

/* A vector of channels of `rows` steps, of which `left` are there. */
BK_INLINE void sum_depthwise(const bk_window *window, const float *input, const float *weights,
                             const float *bias, int left, const int rows, float *tile)
{
    vec sums[BK_STEPS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
        sums[r] = bias ? load_vec(bias) : splat(0);
    for (int tap = 0; left > 0 && tap < window->n_taps; tap++, weights += BK_WIDTH, input += window->tap_step) {
        const vec w = load_vec(weights);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            const float *x = input + r * window->row_step;
            sums[r] += w * (left < BK_LANES ? load_part(x, left) : load_vec(x));
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
        store_vec(tile + r * BK_WIDTH, sums[r]);
}

static void BK_KERNEL(convolve_depthwise)(const bk_window *window, int width, int rows, float *tile)
{
    for (int row = 0, n_rows; row < rows; row += n_rows) {
        n_rows = next_rows(rows - row, BK_STEPS);
        for (int c = 0; c < BK_WIDTH; c += BK_LANES) {
            const float *input = (const float *)window->input + row * window->row_step + c;
            const float *weights = (const float *)window->weights + c;
            const float *bias = window->bias ? window->bias + c : NULL;
            float *out = tile + row * BK_WIDTH + c;
            BK_SWITCH_ROWS(n_rows, BK_STEPS,
                           sum_depthwise(window, input, weights, bias, width - c, N_ROWS, out))
        }
    }
}

#include "predicted_impl.h"
#include "pairs_int8_impl.h"

#if BK_LANES == BK_COLUMNS
#include "pairs_impl.h"
#include "fours_impl.h"
#include "shared_fours_impl.h"
#define BK_OF_BUNDLES(name) {BK_KERNEL(combine_##name), BK_KERNEL(convolve_##name)}
#else
#define BK_OF_BUNDLES(name) {NULL, NULL}
#endif

static double BK_KERNEL(peak)(int n_loops)
{
    /* What the compiler can't know, so that it computes each product and leaves none out. */
    static volatile float factor = 0.5f, summand = 0.5f, sink;
    enum { N_SUMS = BK_VECTORS * BK_STEPS };
    const vec a = splat(factor), b = splat(summand);
    vec sums[N_SUMS];
#pragma GCC unroll 32
    for (int k = 0; k < N_SUMS; k++)
        sums[k] = splat((float)k);
    for (int loop = 0; loop < n_loops; loop++)
#pragma GCC unroll 32
        for (int k = 0; k < N_SUMS; k++)
            sums[k] = sums[k] * a + b;
    vec total = splat(0);
#pragma GCC unroll 32
    for (int k = 0; k < N_SUMS; k++)
        total += sums[k];
    sink = sum_of_lanes(total);
    (void)sink;
    return 2.0 * N_SUMS * BK_LANES * n_loops;
}

const bk_kernels BK_PASTE(bk_kernels, BK_SUFFIX) = {
    .name = BK_NAME,
    .dot_product = BK_DOT_PRODUCT,
    .convolve = BK_KERNEL(convolve),
    .pairs = BK_OF_BUNDLES(pairs),
    .fours = BK_OF_BUNDLES(fours),
    .shared_fours = BK_OF_BUNDLES(shared_fours),
    .pairs_int8 = {BK_KERNEL(combine_pairs_int8), BK_KERNEL(convolve_pairs_int8)},
    .convolve_int8 = BK_KERNEL(convolve_int8),
    .convolve_narrow = BK_KERNEL(convolve_narrow),
    .convolve_depthwise = BK_KERNEL(convolve_depthwise),
    .convolve_predicted = BK_KERNEL(convolve_predicted),
    .apply = BK_KERNEL(apply),
    .load = BK_KERNEL(load),
    .store = BK_KERNEL(store),
    .load_int8 = BK_KERNEL(load_int8),
    .store_int8 = BK_KERNEL(store_int8),
    .finish = BK_KERNEL(finish),
    .normalise = BK_KERNEL(normalise),
    .softmax = BK_KERNEL(softmax),
    .softmax_of_columns = BK_KERNEL(softmax_of_columns),
    .peak = BK_KERNEL(peak),
};

#endif
