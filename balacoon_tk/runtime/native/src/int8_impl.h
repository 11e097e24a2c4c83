/* Sums of products of bytes: inputs u8, weights s8, sums int32 and exact, whatever the instructions are.
 *
 * Four channels, a quad, are multiplied at once. A set with BK_DOT_PRODUCT brings BK_DOT(sums, x, w) for that;
 * where it only knows signed bytes, BK_INPUT_OFFSET is what has to be taken from each byte of an input.
 * Others bring BK_MADD(x, w), sums of two products of 16 bits, if they have it: the instruction of theirs for
 * bytes clips such sums, so it is of no use.
 */
#ifndef BALACOON_TK_INT8_IMPL_H
#define BALACOON_TK_INT8_IMPL_H

#ifndef BK_INPUT_OFFSET
#define BK_INPUT_OFFSET 0
#endif
/* Flipped, the highest bit of u8 is the sign of s8, 128 less. */
#define BK_INPUT_FLIP (BK_INPUT_OFFSET ? (int32_t)0x80808080u : 0)

#if BK_DOT_PRODUCT

typedef ivec bk_weights;
typedef ivec bk_input;
BK_INLINE bk_weights split_weights(ivec quads) { return quads; }
BK_INLINE bk_input split_input(int32_t quad) { return splat_int(quad ^ BK_INPUT_FLIP); }
BK_INLINE ivec add_products(ivec sums, bk_input x, bk_weights w) { return BK_DOT(sums, x, w); }

#elif defined(BK_MADD)

typedef int16_t halves __attribute__((vector_size(BK_LANES * 4)));
typedef struct {
    ivec even, odd;
} bk_weights;
typedef bk_weights bk_input;
BK_INLINE bk_weights split_weights(ivec quads)
{
    const halves x = (halves)quads;
    return (bk_weights){(ivec)(x << 8 >> 8), (ivec)(x >> 8)};
}
BK_INLINE bk_input split_input(int32_t quad)
{
    const ivec quads = splat_int(quad);
    return (bk_input){quads & 0x00ff00ff, shift_right(quads, 8) & 0x00ff00ff};
}
BK_INLINE ivec add_products(ivec sums, bk_input x, bk_weights w)
{
    return sums + BK_MADD(x.even, w.even) + BK_MADD(x.odd, w.odd);
}

#else

typedef struct {
    ivec channel[4];
} bk_weights;
typedef bk_weights bk_input;
BK_INLINE bk_weights split_weights(ivec quads)
{
    return (bk_weights){{shift_left(quads, 24) >> 24, shift_left(quads, 16) >> 24, shift_left(quads, 8) >> 24,
                         quads >> 24}};
}
BK_INLINE bk_input split_input(int32_t quad)
{
    return (bk_input){{splat_int(quad & 255), splat_int(quad >> 8 & 255), splat_int(quad >> 16 & 255),
                       splat_int(quad >> 24 & 255)}};
}
BK_INLINE ivec add_products(ivec sums, bk_input x, bk_weights w)
{
    return sums + x.channel[0] * w.channel[0] + x.channel[1] * w.channel[1] + x.channel[2] * w.channel[2] +
           x.channel[3] * w.channel[3];
}

#endif

/* BK_INT8_VECTORS * BK_LANES columns of `rows` steps; `rows` is a constant wherever this is inlined. */
BK_INLINE void sum_up_int8(const bk_window *window, const uint8_t *input, const int8_t *weights,
                           const int column, const int rows, float *tile)
{
    ivec sums[BK_INT8_STEPS][BK_INT8_VECTORS], corrections[BK_INT8_VECTORS];
#pragma GCC unroll 8
    for (int v = 0; v < BK_INT8_VECTORS; v++) {
        corrections[v] = splat_int(0);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
            sums[r][v] = splat_int(0);
    }
    const ptrdiff_t row_step = window->row_step;
    const int n_channels = window->n_channels;
    const int8_t *behind = window->next_weights ? (const int8_t *)window->next_weights + column * BK_QUAD : weights;
    for (int tap = 0; tap < window->n_taps; tap++) {
        const uint8_t *x = input + tap * window->tap_step;
        const int8_t *next = tap + 1 < window->n_taps ? weights + (ptrdiff_t)n_channels * BK_WIDTH : behind;
        for (int c = 0; c < n_channels; c += BK_QUAD, next += BK_WIDTH * BK_QUAD) {
#pragma GCC unroll 4
            for (int k = 0; k < BK_INT8_VECTORS * BK_LANES; k += BK_LINE)
                BK_PREFETCH(next + k * BK_QUAD);
            bk_weights row[BK_INT8_VECTORS];
#pragma GCC unroll 8
            for (int v = 0; v < BK_INT8_VECTORS; v++) {
                ivec quads = load_ints(weights + v * BK_LANES * BK_QUAD);
                BK_IN_REGISTER(quads);
                row[v] = split_weights(quads);
                if (BK_INPUT_OFFSET)
                    corrections[v] =
                        add_products(corrections[v], split_input(0x01010101 ^ BK_INPUT_FLIP), row[v]);
            }
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++) {
                int32_t quad;
                memcpy(&quad, x + r * row_step + c, sizeof(quad));
                const bk_input numbers = split_input(quad);
#pragma GCC unroll 8
                for (int v = 0; v < BK_INT8_VECTORS; v++)
                    sums[r][v] = add_products(sums[r][v], numbers, row[v]);
            }
            weights += BK_WIDTH * BK_QUAD;
        }
    }
#pragma GCC unroll 8
    for (int v = 0; v < BK_INT8_VECTORS; v++) {
        const int k = column + v * BK_LANES;
        ivec offset = window->offset ? load_ints(window->offset + k) : splat_int(0);
        offset = offset + corrections[v] * BK_INPUT_OFFSET;
        const vec scale = load_vec(window->scale + k);
        const vec bias = window->bias ? load_vec(window->bias + k) : splat(0);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
            store_vec(tile + r * BK_WIDTH + k, to_floats(sums[r][v] + offset) * scale + bias);
    }
}

static void BK_KERNEL(convolve_int8)(const bk_window *window, int rows, float *tile)
{
    for (int column = 0; column < BK_WIDTH; column += BK_INT8_VECTORS * BK_LANES) {
        const int8_t *weights = (const int8_t *)window->weights + column * BK_QUAD;
        for (int row = 0, n_rows; row < rows; row += n_rows) {
            const uint8_t *input = (const uint8_t *)window->input + row * window->row_step;
            float *out = tile + row * BK_WIDTH;
            n_rows = next_rows(rows - row, BK_INT8_STEPS);
            BK_SWITCH_ROWS(n_rows, BK_INT8_STEPS, sum_up_int8(window, input, weights, column, N_ROWS, out))
        }
    }
}

#endif
