/* What is done with a tile once it is there: functions of its numbers, and the way in and out of tensors. */
#ifndef BALACOON_TK_TILE_IMPL_H
#define BALACOON_TK_TILE_IMPL_H

#include "vector_math.h"

/* A loop over all vectors of a tile; BK_WIDTH is a whole number of them, so there is no other loop behind. */
#define BK_FOR_ALL(...)                                                                                        \
    for (int i = 0; i < rows * BK_WIDTH; i += BK_LANES) {                                                      \
        const vec x = load_vec(a + i);                                                                         \
        store_vec(out + i, __VA_ARGS__);                                                                       \
    }                                                                                                          \
    break;
/* The same with a second number for each; a row of them is used again for each step. */
#define BK_FOR_BOTH(...)                                                                                       \
    for (int r = 0; r < rows; r++)                                                                             \
        for (int c = 0; c < BK_WIDTH; c += BK_LANES) {                                                         \
            const vec x = load_vec(a + r * BK_WIDTH + c), y = load_vec(b + r * b_step + c);                    \
            store_vec(out + r * BK_WIDTH + c, __VA_ARGS__);                                                    \
        }                                                                                                      \
    break;

static void BK_KERNEL(apply_pow)(int rows, float *out, const float *a, const float *b, int b_step)
{
    /* The exponents of graphs, in Snake and in GELU; powf takes 20 times as long. */
    int whole = b_step == 0 && (*b == 2 || *b == 3) ? (int)*b : 0;
    for (int c = 0; c < BK_WIDTH; c++)
        whole = b[c] == *b ? whole : 0;
    for (int i = 0; whole && i < rows * BK_WIDTH; i += BK_LANES) {
        const vec x = load_vec(a + i);
        store_vec(out + i, whole == 2 ? x * x : x * x * x);
    }
    for (int i = 0; !whole && i < rows * BK_WIDTH; i++)
        out[i] = powf(a[i], b[b_step ? i : i % BK_WIDTH]);
}

/* Sine or cosine; angles beyond the reach of the reduction go through the library's, one by one. */
static void BK_KERNEL(apply_sin)(const int quarter, int rows, float *out, const float *a)
{
    float kept[BK_ROWS * BK_WIDTH];
    ivec large = splat_int(0);
    for (int i = 0; i < rows * BK_WIDTH; i += BK_LANES)
        large = large | ~less(absolute(load_vec(a + i)), splat(BK_LARGEST_ANGLE));
    int any_large = 0;
    for (int k = 0; k < BK_LANES; k++)
        any_large |= BK_LANE_OF(large, k);
    if (any_large)
        memcpy(kept, a, (size_t)rows * BK_WIDTH * sizeof(float));
    for (int i = 0; i < rows * BK_WIDTH; i += BK_LANES)
        store_vec(out + i, vec_sin(load_vec(a + i), quarter));
    for (int i = 0; any_large && i < rows * BK_WIDTH; i++)
        if (!(fabsf(kept[i]) < BK_LARGEST_ANGLE))
            out[i] = quarter ? cosf(kept[i]) : sinf(kept[i]);
}

static void BK_KERNEL(apply)(bk_function function, bk_operand operand, int rows, float *out, const float *a,
                             const float *b)
{
    float filled[BK_WIDTH];
    const int b_step = operand == BK_TILE ? BK_WIDTH : 0;
    if (operand == BK_SCALAR && b) {
        for (int c = 0; c < BK_WIDTH; c++)
            filled[c] = *b;
        b = filled;
    }
    switch (function) {
    case BK_COPY: BK_FOR_ALL(x)
    case BK_ADD: BK_FOR_BOTH(x + y)
    case BK_SUB: BK_FOR_BOTH(x - y)
    case BK_MUL: BK_FOR_BOTH(x * y)
    case BK_DIV: BK_FOR_BOTH(x / y)
    case BK_MAX: BK_FOR_BOTH(larger(x, y))
    case BK_MIN: BK_FOR_BOTH(smaller(x, y))
    case BK_POW: BK_KERNEL(apply_pow)(rows, out, a, b, b_step); break;
    case BK_NEG: BK_FOR_ALL(-x)
    case BK_ABS: BK_FOR_ALL(absolute(x))
    case BK_RELU: BK_FOR_ALL(select_vec(less(x, splat(0)), splat(0), x))
    case BK_LEAKY_RELU: BK_FOR_BOTH(select_vec(less(x, splat(0)), x * y, x))
    case BK_ELU: BK_FOR_BOTH(select_vec(less(x, splat(0)), vec_expm1_negative(x) * y, x))
    case BK_TANH: BK_FOR_ALL(vec_tanh(x))
    case BK_SIGMOID: BK_FOR_ALL(vec_sigmoid(x))
    case BK_EXP: BK_FOR_ALL(vec_exp(x))
    case BK_LOG: BK_FOR_ALL(vec_log(x))
    case BK_SQRT: BK_FOR_ALL(BK_SQRT(x))
    case BK_RECIPROCAL: BK_FOR_ALL(1.0f / x)
    case BK_SIN: BK_KERNEL(apply_sin)(0, rows, out, a); break;
    case BK_COS: BK_KERNEL(apply_sin)(1, rows, out, a); break;
    case BK_ERF: BK_FOR_ALL(vec_erf(x))
    case BK_SOFTPLUS: BK_FOR_ALL(vec_softplus(x))
    case BK_CEIL:
        for (int i = 0; i < rows * BK_WIDTH; i++)
            out[i] = ceilf(a[i]);
        break;
    case BK_N_FUNCTIONS: break;
    }
}

static void BK_KERNEL(load)(const float *rows_in, ptrdiff_t row_step, int width, int rows, float *tile)
{
    for (int r = 0; r < rows; r++, rows_in += row_step, tile += BK_WIDTH) {
        /* With a length that is known it is a move or two, not a call. */
        if (width == BK_WIDTH) {
            memcpy(tile, rows_in, BK_WIDTH * sizeof(float));
            continue;
        }
        memcpy(tile, rows_in, (size_t)width * sizeof(float));
        memset(tile + width, 0, (size_t)(BK_WIDTH - width) * sizeof(float));
    }
}

static void BK_KERNEL(store)(const float *tile, int width, int rows, float *rows_out, ptrdiff_t row_step)
{
    for (int r = 0; r < rows; r++, rows_out += row_step, tile += BK_WIDTH)
        if (width == BK_WIDTH)
            memcpy(rows_out, tile, BK_WIDTH * sizeof(float));
        else
            memcpy(rows_out, tile, (size_t)width * sizeof(float));
}

static void BK_KERNEL(load_int8)(const uint8_t *rows_in, ptrdiff_t row_step, int width, int rows, float *tile,
                                 float scale, int zero_point)
{
    uint8_t padded[BK_WIDTH];
    memset(padded, zero_point, sizeof(padded));
    for (int r = 0; r < rows; r++, rows_in += row_step, tile += BK_WIDTH) {
        const uint8_t *row = rows_in;
        if (width < BK_WIDTH)
            row = memcpy(padded, rows_in, (size_t)width);
        for (int c = 0; c < BK_WIDTH; c += BK_LANES)
            store_vec(tile + c, to_floats(load_bytes(row + c) - zero_point) * scale);
    }
}

/* How numbers become bytes, as vectors, made once for many of them. */
typedef struct {
    vec factor, zero, low, high;
} BK_KERNEL(rounding);

BK_INLINE BK_KERNEL(rounding) rounding_of(float scale, int zero_point, int largest)
{
    return (BK_KERNEL(rounding)){splat(1.0f / scale), splat(BK_ROUNDER + (float)zero_point), splat(BK_ROUNDER),
                                 splat(BK_ROUNDER + (float)largest)};
}

/* A sum with BK_ROUNDER has no bits left for fractions, and the byte in its last ones. The lower limit first and so that
 * NaN is less than it: no byte is left to chance. */
BK_INLINE void store_rounded(vec x, const BK_KERNEL(rounding) * to, uint8_t *out)
{
    x = BK_LESSER(BK_GREATER(x * to->factor + to->zero, to->low), to->high);
    store_bytes(out, bits_of(x));
}

static void BK_KERNEL(store_int8)(const float *tile, int width, int rows, uint8_t *rows_out, ptrdiff_t row_step,
                                  float scale, int zero_point, int largest)
{
    uint8_t padded[BK_WIDTH];
    const BK_KERNEL(rounding) to = rounding_of(scale, zero_point, largest);
    for (int r = 0; r < rows; r++, rows_out += row_step, tile += BK_WIDTH) {
        uint8_t *row = width < BK_WIDTH ? padded : rows_out;
        for (int c = 0; c < BK_WIDTH; c += BK_LANES)
            store_rounded(load_vec(tile + c), &to, row + c);
        if (width < BK_WIDTH)
            memcpy(rows_out, padded, (size_t)width);
    }
}

#define BK_FOR_ROWS(...)                                                                                       \
    _Pragma("GCC unroll 4") for (int k = 0; k < n_rows; k++)                                                   \
        _Pragma("GCC unroll 8") for (int v = 0; v < n_vectors; v++)                                            \
    {                                                                                                          \
        __VA_ARGS__;                                                                                           \
    }

/* What an ending says, as vectors. */
typedef struct {
    vec factor, slope;
    int is_part; /* of a number and a part of it the greater one is what leaky ReLU gives, whatever its sign */
    BK_KERNEL(rounding) to_bytes[2];
} BK_KERNEL(ending);

/* `n_vectors` of `n_rows`, which are rows r and behind of tensors: both are constants wherever this is inlined, so that what an ending consists of
 * is asked once for some of them. No store of a byte changes `ending`; MSVC without options knows that word with
 * underscores alone. */
BK_INLINE void finish_rows(const bk_ending *__restrict ending, const BK_KERNEL(ending) * __restrict vectors,
                           ptrdiff_t r, const float *tile, const int n_rows, const int n_vectors)
{
    vec x[4][BK_WIDTH / BK_LANES];
    BK_FOR_ROWS(x[k][v] = load_vec(tile + k * BK_WIDTH + v * BK_LANES))
    for (int a = 0; a < ending->n_added; a++) {
        const ptrdiff_t step = ending->added_step[a];
        const float *added = ending->added[a] + r * step;
        BK_FOR_ROWS(x[k][v] = x[k][v] + load_vec(added + k * step + v * BK_LANES))
    }
    if (ending->scaling == BK_MUL)
        BK_FOR_ROWS(x[k][v] = x[k][v] * vectors->factor)
    else if (ending->scaling == BK_DIV)
        BK_FOR_ROWS(x[k][v] = x[k][v] / vectors->factor)
    for (int out = 0; out < 2; out++) {
        if (out == 1 && ending->activated && vectors->is_part)
            BK_FOR_ROWS(x[k][v] = BK_GREATER(x[k][v], x[k][v] * vectors->slope))
        else if (out == 1 && ending->activated)
            BK_FOR_ROWS(x[k][v] = select_vec(less(x[k][v], splat(0)), x[k][v] * vectors->slope, x[k][v]))
        if (ending->out[out].rows == NULL)
            continue;
        const ptrdiff_t step = ending->out[out].step;
        if (ending->out[out].scale) {
            uint8_t *rows = (uint8_t *)ending->out[out].rows + r * step;
            BK_FOR_ROWS(store_rounded(x[k][v], &vectors->to_bytes[out], rows + k * step + v * BK_LANES))
        } else {
            float *rows = (float *)ending->out[out].rows + r * step;
            BK_FOR_ROWS(store_vec(rows + k * step + v * BK_LANES, x[k][v]))
        }
    }
}

#undef BK_FOR_ROWS

static void BK_KERNEL(finish)(const bk_ending *ending, ptrdiff_t first, int rows, const float *tile)
{
    enum { ALL = BK_WIDTH / BK_LANES, HALF = BK_WIDTH / 2 / BK_LANES };
    BK_KERNEL(ending) vectors;
    vectors.factor = splat(ending->factor);
    vectors.slope = splat(ending->slope);
    vectors.is_part = ending->slope > 0 && ending->slope <= 1;
    for (int k = 0; k < 2; k++) {
        const bk_output *out = &ending->out[k];
        vectors.to_bytes[k] = rounding_of(out->scale ? out->scale : 1, out->zero_point, out->largest);
    }
    for (; rows >= 4; rows -= 4, first += 4, tile += 4 * BK_WIDTH)
        if (ending->half)
            finish_rows(ending, &vectors, first, tile, 4, HALF);
        else
            finish_rows(ending, &vectors, first, tile, 4, ALL);
    for (; rows > 0; rows--, first++, tile += BK_WIDTH)
        if (ending->half)
            finish_rows(ending, &vectors, first, tile, 1, HALF);
        else
            finish_rows(ending, &vectors, first, tile, 1, ALL);
}

static void BK_KERNEL(normalise)(const float *rows_in, ptrdiff_t in_step, int n, int rows, float *rows_out,
                                 ptrdiff_t out_step, float epsilon, int centre)
{
    const int n_whole = n - n % BK_LANES;
    for (int r = 0; r < rows; r++, rows_in += in_step, rows_out += out_step) {
        float mean = 0;
        vec sums = splat(0);
        if (centre) {
            for (int c = 0; c < n_whole; c += BK_LANES)
                sums = sums + load_vec(rows_in + c);
            mean = sum_of_lanes(sums);
            for (int c = n_whole; c < n; c++)
                mean += rows_in[c];
            mean /= (float)n;
        }
        sums = splat(0);
        for (int c = 0; c < n_whole; c += BK_LANES) {
            const vec x = load_vec(rows_in + c) - mean;
            sums = sums + x * x;
        }
        float squares = sum_of_lanes(sums);
        for (int c = n_whole; c < n; c++)
            squares += (rows_in[c] - mean) * (rows_in[c] - mean);
        const float factor = 1.0f / sqrtf(squares / (float)n + epsilon);
        for (int c = 0; c < n_whole; c += BK_LANES)
            store_vec(rows_out + c, (load_vec(rows_in + c) - mean) * factor);
        for (int c = n_whole; c < n; c++)
            rows_out[c] = (rows_in[c] - mean) * factor;
    }
}

static void BK_KERNEL(softmax)(float *row, ptrdiff_t row_step, int n, int n_rows)
{
    const int n_padded = (n + BK_LANES - 1) / BK_LANES * BK_LANES;
    for (int r = 0; r < n_rows; r++, row += row_step) {
        for (int c = n; c < n_padded; c++)
            row[c] = row[0];
        vec largest = load_vec(row);
        for (int c = BK_LANES; c < n_padded; c += BK_LANES)
            largest = BK_GREATER(largest, load_vec(row + c));
        float most = BK_LANE_OF(largest, 0);
        for (int k = 1; k < BK_LANES; k++)
            most = BK_LANE_OF(largest, k) > most ? BK_LANE_OF(largest, k) : most;
        for (int c = 0; c < n_padded; c += BK_LANES)
            store_vec(row + c, vec_exp(load_vec(row + c) - most));
        for (int c = n; c < n_padded; c++)
            row[c] = 0;
        vec sums = splat(0);
        for (int c = 0; c < n_padded; c += BK_LANES)
            sums = sums + load_vec(row + c);
        const float factor = 1.0f / sum_of_lanes(sums);
        for (int c = 0; c < n_padded; c += BK_LANES)
            store_vec(row + c, load_vec(row + c) * factor);
    }
}

static void BK_KERNEL(softmax_of_columns)(float *rows, int64_t n)
{
    for (int c = 0; c < BK_WIDTH; c += BK_LANES, rows += BK_LANES) {
        vec largest = load_vec(rows), sums = splat(0);
        for (int64_t r = 1; r < n; r++)
            largest = BK_GREATER(largest, load_vec(rows + r * BK_WIDTH));
        for (int64_t r = 0; r < n; r++) {
            const vec x = load_vec(rows + r * BK_WIDTH) - largest;
            const vec power = select_vec(less(x, splat(-103)), splat(0), vec_exp(x));
            store_vec(rows + r * BK_WIDTH, power);
            sums = sums + power;
        }
        const vec factor = 1.0f / sums;
        for (int64_t r = 0; r < n; r++)
            store_vec(rows + r * BK_WIDTH, load_vec(rows + r * BK_WIDTH) * factor);
    }
}

#endif
