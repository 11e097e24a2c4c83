/* Kernels of the native engine: what one instruction set has to bring, and how tiles and weights lie.
 *
 * Tensors are channels last: a step of time is a row of floats, one for each channel. A kernel makes a tile,
 * at most BK_ROWS steps of BK_WIDTH channels, which stays in the first cache while a chain of functions
 * works on it. Each number of a tile is summed up in the same order wherever in a tile it falls, so that
 * chunks of any size give the same samples.
 *
 *      input            weights [block][tap][channel][BK_WIDTH]          tile
 *      step  0 | c c c c |   x   | w w w w ... w |  channel 0, tap 0     | y y y ... y |  step 0
 *      step  1 | c c c c |       | w w w w ... w |  channel 1, tap 0     | y y y ... y |  step 1
 */
#ifndef BALACOON_TK_KERNELS_H
#define BALACOON_TK_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define BK_WIDTH 32 /* channels in a tile */
#define BK_ROWS 12  /* most steps in a tile */
#define BK_BUNDLE 4 /* most steps that are made together (bundles.h) */
#define BK_BUNDLES 12 /* most bundles in a tile of these */
#define BK_COLUMNS 16 /* channels of the input that are combined at once */
#define BK_SUMS 12  /* sums that four outputs are made of */
#define BK_SCALE 0.75f /* of shared fours: what a tap is packed with, to the power of its place */
#define BK_ADDED 2  /* most tensors that an ending adds */
#define BK_QUAD 4   /* bytes that int8 kernels multiply at once: channels of u8 rows are padded to these */

/* While it sums up products of one part of its weights, a tap or some channels, a kernel prefetches the next part into
 * the first cache, evenly, and with the last part the first one of what will be read then. The processor would begin only
 * with the first number that is missed, and stop where there is enough to compute. */

/* The window that the first row of a tile reads, and how to get from there to the others. */
typedef struct {
    const void *input;   /* first channel of the first tap: float, or uint8_t */
    ptrdiff_t row_step;  /* elements from one row's window to the next: stride * row length */
    ptrdiff_t tap_step;  /* elements from one tap to the next: dilation * row length */
    int n_taps;
    int n_channels;      /* of the input; in int8 a multiple of BK_QUAD */
    const void *weights; /* float [tap][channel][BK_WIDTH], or int8_t [tap][channel / 4][BK_WIDTH][4] */
    const float *bias;   /* [BK_WIDTH], or NULL */
    const float *scale;  /* int8: [BK_WIDTH], what a sum is multiplied by */
    const int32_t *offset; /* int8: [BK_WIDTH], added to a sum: - zero point * sum of the weights; or NULL */
    int half;            /* whether convolve makes the first half of the columns alone */
    const void *next_weights; /* that are read behind these, or NULL; convolve and convolve_int8 prefetch them */
} bk_window;

/* What the outputs of a bundle read: with n taps and m outputs n + m - 1 steps a dilation apart, each a row of
 * channels. Of these only those from `low` to `high` are there. */
typedef struct {
    const void *row; /* of place 0, whether it is there or not: float, or uint8_t */
    int low, high;
} bk_bundle;

/* What a block's outputs in bundles are made of. */
typedef struct {
    const void *combined; /* what is multiplied, made of the input once for all blocks */
    int n_taps, n_channels;
    const void *weights;
    const float *bias;     /* [BK_WIDTH], or NULL */
    const float *scale;    /* int8: as in bk_window */
    const int32_t *offset; /* int8: [2][BK_WIDTH], for the earlier output and for the later one */
    int n_bundles;
    const int (*rows)[BK_BUNDLE]; /* of the tile, for each output; there is one for those that aren't due */
    const void *next_weights;     /* that are read behind these, or NULL */
} bk_bundled;

/* Steps in bundles, with fewer products. */
typedef struct {
    /* combined are bk_combined_size numbers, which lie as `convolve` reads them */
    void (*combine)(const bk_bundle *bundles, int n_bundles, ptrdiff_t tap_step, int n_taps, int n_channels,
                    void *combined);
    void (*convolve)(const bk_bundled *from, float *tile);
} bk_bundling;

/* Functions of a number, or of two. */
typedef enum {
    BK_COPY,
    BK_ADD,
    BK_SUB,
    BK_MUL,
    BK_DIV,
    BK_MAX,
    BK_MIN,
    BK_POW,
    BK_NEG,
    BK_ABS,
    BK_RELU,
    BK_LEAKY_RELU, /* b is the slope */
    BK_ELU,        /* b is alpha */
    BK_TANH,
    BK_SIGMOID,
    BK_EXP,
    BK_LOG,
    BK_SQRT,
    BK_RECIPROCAL,
    BK_SIN,
    BK_COS,
    BK_ERF,
    BK_SOFTPLUS,
    BK_CEIL,
    BK_N_FUNCTIONS
} bk_function;

/* What the second operand of a function is. */
typedef enum {
    BK_TILE,   /* a number for each of the tile */
    BK_ROW,    /* [BK_WIDTH], the same for each step */
    BK_SCALAR, /* one number */
} bk_operand;

/* A tensor that a tile is stored to. */
typedef struct {
    void *rows;     /* NULL where nothing is stored */
    ptrdiff_t step; /* elements */
    float scale;    /* of bytes as in store_int8; 0 of floats */
    int zero_point, largest;
} bk_output;

/* What most chains end in, in one pass: residuals, a factor, and what is stored in front of and behind leaky ReLU. */
typedef struct {
    int n_added; /* at most BK_ADDED */
    const float *added[BK_ADDED];
    ptrdiff_t added_step[BK_ADDED];
    bk_function scaling; /* BK_MUL, BK_DIV; BK_COPY where there is no factor */
    float factor;
    int activated;
    float slope;
    bk_output out[2];
    int half; /* whether tensors have the first half of the tile's columns alone */
} bk_ending;

/* Nothing has to be aligned, but weights and tiles that begin at a multiple of 64 bytes are read faster: a
 * tile of one row by two or three times. */
typedef struct {
    const char *name;
    int dot_product; /* whether bytes are multiplied by an instruction made for that */
    /* tile[rows][BK_WIDTH] = bias + sum over taps and channels, for 1 <= rows <= BK_ROWS */
    void (*convolve)(const bk_window *window, int rows, float *tile);
    /* the same for steps in bundles of two and of four (pairs_impl.h, fours_impl.h, shared_fours_impl.h), which say how
     * their weights lie; NULL where the registers are too few */
    bk_bundling pairs, fours, shared_fours;
    /* the same for pairs of u8 inputs of 7 bits and s8 weights (pairs_int8_impl.h), with the sums of convolve_int8 */
    bk_bundling pairs_int8;
    /* the same as convolve of u8 inputs and s8 weights, exact in int32: ((sum + offset) * scale) + bias */
    void (*convolve_int8)(const bk_window *window, int rows, float *tile);
    /* for at most 4 output channels, the tile's others are zeros: weights are float [column][tap][channel],
     * bias is [n_columns]; a row begins `tile_step` behind the one before it, BK_WIDTH or, of a flat tile, 1 */
    void (*convolve_narrow)(const bk_window *window, int n_columns, int rows, float *tile, ptrdiff_t tile_step);
    /* each channel by itself: input points to the tile's first channel, weights are [tap][BK_WIDTH]; of
     * channels from `width` on nothing is read but bias, which the tile has there; n_channels means nothing */
    void (*convolve_depthwise)(const bk_window *window, int width, int rows, float *tile);
    /* as convolve, but weights are [tap][channel][weight_step]; BK_WIDTH of each row, and of bias, are read, so
     * that of the last columns what lies behind must be there, whatever it is */
    void (*convolve_predicted)(const bk_window *window, ptrdiff_t weight_step, int rows, float *tile);
    /* out may be a; tiles are [rows][BK_WIDTH] */
    void (*apply)(bk_function function, bk_operand operand, int rows, float *out, const float *a, const float *b);
    /* rows of float between a tensor and a tile; width <= BK_WIDTH, the rest of a loaded row is 0 */
    void (*load)(const float *rows_in, ptrdiff_t row_step, int width, int rows, float *tile);
    void (*store)(const float *tile, int width, int rows, float *rows_out, ptrdiff_t row_step);
    /* the same of bytes: x * (1 / scale) + zero_point, rounded to nearest even and clipped to 0 .. largest; NaN is 0 */
    void (*load_int8)(const uint8_t *rows_in, ptrdiff_t row_step, int width, int rows, float *tile, float scale,
                      int zero_point);
    void (*store_int8)(const float *tile, int width, int rows, uint8_t *rows_out, ptrdiff_t row_step,
                       float scale, int zero_point, int largest);
    /* from a tile that is BK_WIDTH wide to tensors, from their row `first` on */
    void (*finish)(const bk_ending *ending, ptrdiff_t first, int rows, const float *tile);
    /* (x - mean) / sqrt(variance + epsilon) over n channels of each row, in place of nothing: out may be in;
     * without centre: x / sqrt(mean of squares + epsilon) */
    void (*normalise)(const float *rows_in, ptrdiff_t in_step, int n, int rows, float *rows_out, ptrdiff_t out_step,
                      float epsilon, int centre);
    /* in place, of the first n of each row; there is room for a multiple of BK_WIDTH, of whatever numbers */
    void (*softmax)(float *rows, ptrdiff_t row_step, int n, int n_rows);
    /* the same of each of BK_WIDTH columns of n rows; what is more than 103 below the largest of a column is 0, as minus
     * infinity is */
    void (*softmax_of_columns)(float *rows, int64_t n);
    /* floating point operations per call of a loop that multiplies and adds in registers alone */
    double (*peak)(int n_loops);
} bk_kernels;

/* The kernels of a name; if it is NULL those that the environment variable BALACOON_TK_KERNELS names, or else
 * those that suit this processor best. NULL where it can't run them, or there are none of that name. */
const bk_kernels *bk_find_kernels(const char *name);
/* The names of those that this processor can run, best first, by index; NULL behind the last. */
const char *bk_kernel_name(int index);

/* How pairs are summed up: three of all columns of a tile at once, or six of half of them, which reads more numbers and
 * fewer weights. What is faster depends on the processor; the numbers are the same. */
extern int bk_pairs_in_halves;
/* Measure which one is faster, once a process, in a fraction of a millisecond. */
void bk_choose_pairs(const bk_kernels *kernels);

#endif
