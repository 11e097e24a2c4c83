/* NEON with products of four bytes at once: Arm since 2018, Apple since the A12. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#if defined(__GNUC__) && defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#define BK_SUFFIX neon_dot
#define BK_NAME "neon_dot"
#define BK_LANES 4
#define BK_VECTORS 4
#define BK_STEPS 6
#define BK_SQRT(x) (vec)vsqrtq_f32((float32x4_t)(x))
#define BK_DOT_PRODUCT 1
#define BK_DOT(sums, x, w) (ivec)vdotq_s32((int32x4_t)(sums), (int8x16_t)(w), (int8x16_t)(x))
#define BK_INPUT_OFFSET 128
#define BK_INT8_VECTORS 2
#define BK_INT8_STEPS 10

#include "kernels_impl.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
