/* The kernels, written once in vector extensions; a file for each instruction set includes this.
 *
 * It defines before: BK_SUFFIX, BK_NAME, BK_LANES (floats in a vector), BK_VECTORS (vectors of a row that are
 * summed up at once), BK_STEPS (rows that are), so that BK_VECTORS * BK_STEPS sums stay in registers.
 */
#include "kernels.h"

#include <string.h>

#define BK_PASTE_(a, b) a##_##b
#define BK_PASTE(a, b) BK_PASTE_(a, b)
#define BK_KERNEL(name) BK_PASTE(name, BK_SUFFIX)
#define BK_INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(BK_LANES * 4)));
typedef float vec_anywhere __attribute__((vector_size(BK_LANES * 4), aligned(4)));

BK_INLINE vec load_vec(const float *x) { return (vec)*(const vec_anywhere *)x; }
BK_INLINE void store_vec(float *x, vec value) { *(vec_anywhere *)x = (vec_anywhere)value; }

/* BK_VECTORS * BK_LANES columns of `rows` steps; `rows` is a constant wherever this is inlined. */
BK_INLINE void sum_up(const bk_window *window, const float *input, const float *weights, const float *bias,
                      const int rows, float *tile)
{
    vec sums[BK_STEPS][BK_VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < BK_VECTORS; v++)
            sums[r][v] = bias ? load_vec(bias + v * BK_LANES) : (vec){0};
    const ptrdiff_t row_step = window->row_step;
    const int n_channels = window->n_channels;
    for (int tap = 0; tap < window->n_taps; tap++) {
        const float *x = input + tap * window->tap_step;
        const float *w = weights + (ptrdiff_t)tap * n_channels * BK_WIDTH;
        for (int c = 0; c < n_channels; c++) {
            vec row[BK_VECTORS];
#pragma GCC unroll 8
            for (int v = 0; v < BK_VECTORS; v++)
                row[v] = load_vec(w + v * BK_LANES);
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++) {
                const float number = x[r * row_step + c];
#pragma GCC unroll 8
                for (int v = 0; v < BK_VECTORS; v++)
                    sums[r][v] += row[v] * number;
            }
            w += BK_WIDTH;
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < BK_VECTORS; v++)
            store_vec(tile + r * BK_WIDTH + v * BK_LANES, sums[r][v]);
}

static void BK_KERNEL(convolve)(const bk_window *window, int rows, float *tile)
{
    for (int column = 0; column < BK_WIDTH; column += BK_VECTORS * BK_LANES) {
        const float *weights = (const float *)window->weights + column;
        const float *bias = window->bias ? window->bias + column : NULL;
        for (int row = 0; row < rows; row += BK_STEPS) {
            const float *input = (const float *)window->input + row * window->row_step;
            float *out = tile + row * BK_WIDTH + column;
            const int left = rows - row;
            switch (left < BK_STEPS ? left : BK_STEPS) {
#define BK_CASE(n)                                                                                             \
    case n:                                                                                                    \
        sum_up(window, input, weights, bias, n <= BK_STEPS ? n : BK_STEPS, out);                               \
        break;
                BK_CASE(1)
                BK_CASE(2)
                BK_CASE(3)
                BK_CASE(4)
                BK_CASE(5)
                BK_CASE(6)
                BK_CASE(7)
                BK_CASE(8)
                BK_CASE(9)
                BK_CASE(10)
                BK_CASE(11)
                BK_CASE(12)
#undef BK_CASE
            }
        }
    }
}
