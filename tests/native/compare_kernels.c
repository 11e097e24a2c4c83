/* Hold every instruction set's kernels against the plain ones, for processors that Python isn't at hand for:
 * compiled for aarch64 it runs under emulation. Says the largest difference of each kernel; 1 if one is wrong. */
#include "bundles.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N 40000

static float input[N], weights[N], tile[BK_ROWS * BK_WIDTH], wanted[BK_ROWS * BK_WIDTH];
static uint8_t bytes[N];
static int8_t byte_weights[N];
static int n_wrong;

static float draw(void) { return (float)rand() / (float)RAND_MAX * 2 - 1; }

static void compare(const char *set, const char *what, const float *a, const float *b, int n, double limit)
{
    double worst = 0, largest = 1;
    for (int k = 0; k < n; k++) {
        const double difference = fabs((double)a[k] - (double)b[k]);
        if (!(difference <= worst))
            worst = difference;
        if (fabs((double)b[k]) > largest)
            largest = fabs((double)b[k]);
    }
    const int wrong = !(worst <= limit * largest);
    n_wrong += wrong;
    printf("%-12s %-14s %.2g%s\n", set, what, worst / largest, wrong ? "  WRONG" : "");
}

/* Pairs of bytes, of the same weights in both. */
static void compare_pairs_int8(const bk_kernels *kernels, const bk_kernels *plain, int n_channels, int n_taps,
                               const float *scale, const int32_t *offset)
{
    static uint8_t steps[N], combined[2][N * 4];
    static float tiles[2][(BK_NOWHERE + 1) * BK_WIDTH];
    int rows[BK_BUNDLES][BK_BUNDLE] = {{0}};
    int32_t offsets[2 * BK_WIDTH];
    bk_bundle bundles[BK_BUNDLES];
    memcpy(offsets, offset, BK_WIDTH * sizeof(int32_t));
    memcpy(offsets + BK_WIDTH, offset, BK_WIDTH * sizeof(int32_t));
    for (int k = 0; k < N; k++)
        steps[k] = bytes[k] & 127;
    for (int k = 0; k < BK_BUNDLES; k++) {
        rows[k][0] = 2 * k;
        rows[k][1] = 2 * k + 1;
        bundles[k] = (bk_bundle){steps + 2 * k * n_channels, 0, n_taps};
    }
    const bk_kernels *both[2] = {kernels, plain};
    for (int k = 0; k < 2; k++) {
        const bk_bundled from = {.combined = combined[k], .n_taps = n_taps, .n_channels = n_channels,
                                 .weights = byte_weights, .scale = scale, .offset = offsets,
                                 .n_bundles = BK_BUNDLES, .rows = (const int(*)[BK_BUNDLE])rows};
        both[k]->pairs_int8.combine(bundles, BK_BUNDLES, n_channels, n_taps, n_channels, combined[k]);
        both[k]->pairs_int8.convolve(&from, tiles[k]);
    }
    compare(kernels->name, "pairs int8", tiles[0], tiles[1], 2 * BK_BUNDLES * BK_WIDTH, 1e-6);
}

static void compare_windows(const bk_kernels *kernels, const bk_kernels *plain, int n_channels, int n_taps, int rows)
{
    float bias[BK_WIDTH], scale[BK_WIDTH];
    int32_t offset[BK_WIDTH];
    for (int k = 0; k < BK_WIDTH; k++) {
        bias[k] = draw();
        scale[k] = 0.01f + 0.001f * (float)k;
        offset[k] = 7 * k - 50;
    }
    bk_window window = {.input = input, .row_step = n_channels, .tap_step = 2 * n_channels, .n_taps = n_taps,
                        .n_channels = n_channels, .weights = weights, .bias = bias};
    kernels->convolve(&window, rows, tile);
    plain->convolve(&window, rows, wanted);
    compare(kernels->name, "convolve", tile, wanted, rows * BK_WIDTH, 1e-5);
    kernels->convolve_narrow(&window, 3, rows, tile, BK_WIDTH);
    plain->convolve_narrow(&window, 3, rows, wanted, BK_WIDTH);
    compare(kernels->name, "narrow", tile, wanted, rows * BK_WIDTH, 1e-5);
    kernels->convolve_depthwise(&window, n_channels < BK_WIDTH ? n_channels : BK_WIDTH, rows, tile);
    plain->convolve_depthwise(&window, n_channels < BK_WIDTH ? n_channels : BK_WIDTH, rows, wanted);
    compare(kernels->name, "depthwise", tile, wanted, rows * BK_WIDTH, 1e-5);
    kernels->convolve_predicted(&window, 37, rows, tile);
    plain->convolve_predicted(&window, 37, rows, wanted);
    compare(kernels->name, "predicted", tile, wanted, rows * BK_WIDTH, 1e-5);
    window.input = bytes;
    window.weights = byte_weights;
    window.n_channels = (n_channels + BK_QUAD - 1) / BK_QUAD * BK_QUAD;
    window.scale = scale;
    window.offset = offset;
    kernels->convolve_int8(&window, rows, tile);
    plain->convolve_int8(&window, rows, wanted);
    compare(kernels->name, "int8", tile, wanted, rows * BK_WIDTH, 1e-6);
    compare_pairs_int8(kernels, plain, window.n_channels, n_taps < 3 ? 3 : n_taps, scale, offset);
}

static void compare_functions(const bk_kernels *kernels, const bk_kernels *plain)
{
    float a[BK_ROWS * BK_WIDTH], b[BK_ROWS * BK_WIDTH];
    for (int k = 0; k < BK_ROWS * BK_WIDTH; k++) {
        a[k] = draw() * 4 + 4.5f; /* logarithms and roots need it above 0 */
        b[k] = draw() + 1.5f;
    }
    for (int function = 0; function < BK_N_FUNCTIONS; function++) {
        char name[16];
        snprintf(name, sizeof name, "function %d", function);
        kernels->apply((bk_function)function, BK_TILE, BK_ROWS, tile, a, b);
        plain->apply((bk_function)function, BK_TILE, BK_ROWS, wanted, a, b);
        compare(kernels->name, name, tile, wanted, BK_ROWS * BK_WIDTH, 2e-6);
    }
    uint8_t stored[BK_ROWS * BK_WIDTH], stored_wanted[BK_ROWS * BK_WIDTH];
    kernels->store_int8(a, BK_WIDTH, BK_ROWS, stored, BK_WIDTH, 0.03f, 3, 127);
    plain->store_int8(a, BK_WIDTH, BK_ROWS, stored_wanted, BK_WIDTH, 0.03f, 3, 127);
    n_wrong += memcmp(stored, stored_wanted, sizeof stored) != 0;
    printf("%-12s %-14s %s\n", kernels->name, "store_int8",
           memcmp(stored, stored_wanted, sizeof stored) ? "WRONG" : "same");
    const bk_ending ending = {1, {input}, {BK_WIDTH}, BK_DIV, 3, 1, 0.1f, {{tile, BK_WIDTH}, {stored, BK_WIDTH, 0.03f, 3, 255}}};
    bk_ending ending_wanted = ending;
    ending_wanted.out[0].rows = wanted;
    ending_wanted.out[1].rows = stored_wanted;
    kernels->finish(&ending, 0, BK_ROWS, a);
    plain->finish(&ending_wanted, 0, BK_ROWS, a);
    compare(kernels->name, "finish", tile, wanted, BK_ROWS * BK_WIDTH, 1e-6);
    n_wrong += memcmp(stored, stored_wanted, sizeof stored) != 0;
    kernels->normalise(input, 96, 32, BK_ROWS, tile, BK_WIDTH, 1e-5f, 1);
    plain->normalise(input, 96, 32, BK_ROWS, wanted, BK_WIDTH, 1e-5f, 1);
    compare(kernels->name, "normalise", tile, wanted, BK_ROWS * BK_WIDTH, 1e-5);
    memcpy(tile, a, sizeof a);
    memcpy(wanted, a, sizeof a);
    kernels->softmax(tile, BK_WIDTH, BK_WIDTH, BK_ROWS);
    plain->softmax(wanted, BK_WIDTH, BK_WIDTH, BK_ROWS);
    compare(kernels->name, "softmax", tile, wanted, BK_ROWS * BK_WIDTH, 1e-5);
    memcpy(tile, a, sizeof a);
    memcpy(wanted, a, sizeof a);
    kernels->softmax_of_columns(tile, BK_ROWS);
    plain->softmax_of_columns(wanted, BK_ROWS);
    compare(kernels->name, "softmax columns", tile, wanted, BK_ROWS * BK_WIDTH, 1e-5);
}

int main(void)
{
    for (int k = 0; k < N; k++) {
        input[k] = draw();
        weights[k] = draw();
        bytes[k] = (uint8_t)(rand() & 255);
        byte_weights[k] = (int8_t)(rand() % 255 - 127);
    }
    const bk_kernels *plain = bk_find_kernels("plain");
    for (int index = 0; bk_kernel_name(index) != NULL; index++) {
        const bk_kernels *kernels = bk_find_kernels(bk_kernel_name(index));
        for (int rows = 1; rows <= BK_ROWS; rows += 5)
            for (int n_channels = 3; n_channels < 120; n_channels += 29)
                compare_windows(kernels, plain, n_channels, 1 + rows % 4, rows);
        compare_functions(kernels, plain);
    }
    printf("%d wrong\n", n_wrong);
    return n_wrong != 0;
}
