/* Convolutions whose kernel is a tensor itself: predicted for each frame, used by the steps of that frame alone.
 *
 * Nobody lays it out in blocks. A step of the tensor is the kernel as [tap][channel][all channels of the output],
 * and a tile takes its columns from there: for wide outputs each row of weights lies apart from the next.
 */
#ifndef BALACOON_TK_PREDICTED_IMPL_H
#define BALACOON_TK_PREDICTED_IMPL_H

/* `rows` steps of BK_VECTORS vectors of columns; both are constants wherever this is inlined. */
BK_INLINE void sum_predicted(const bk_window *window, const float *input, const float *weights, ptrdiff_t weight_step,
                             const float *bias, const int rows, float *tile)
{
    vec sums[BK_STEPS][BK_VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < BK_VECTORS; v++)
            sums[r][v] = bias ? load_vec(bias + v * BK_LANES) : splat(0);
    const ptrdiff_t row_step = window->row_step;
    for (int tap = 0; tap < window->n_taps; tap++, input += window->tap_step)
        for (int c = 0; c < window->n_channels; c++, weights += weight_step) {
            vec row[BK_VECTORS];
#pragma GCC unroll 8
            for (int v = 0; v < BK_VECTORS; v++) {
                row[v] = load_vec(weights + v * BK_LANES);
                BK_IN_REGISTER(row[v]);
            }
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
                for (int v = 0; v < BK_VECTORS; v++)
                    sums[r][v] += row[v] * input[r * row_step + c];
        }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < BK_VECTORS; v++)
            store_vec(tile + r * BK_WIDTH + v * BK_LANES, sums[r][v]);
}

static void BK_KERNEL(convolve_predicted)(const bk_window *window, ptrdiff_t weight_step, int rows, float *tile)
{
    for (int row = 0, n_rows; row < rows; row += n_rows) {
        n_rows = next_rows(rows - row, BK_STEPS);
        const float *input = (const float *)window->input + row * window->row_step;
        for (int column = 0; column < BK_WIDTH; column += BK_VECTORS * BK_LANES) {
            const float *weights = (const float *)window->weights + column;
            const float *bias = window->bias ? window->bias + column : NULL;
            float *out = tile + row * BK_WIDTH + column;
            BK_SWITCH_ROWS(n_rows, BK_STEPS, sum_predicted(window, input, weights, weight_step, bias, N_ROWS, out))
        }
    }
}

#endif
