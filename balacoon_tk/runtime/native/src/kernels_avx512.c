/* AVX-512 as of Skylake-X. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#endif

#define BK_SUFFIX avx512
#define BK_NAME "avx512"
#define BK_LANES 16
#define BK_VECTORS 2
#define BK_STEPS 12
#define BK_SQRT(x) (vec)_mm512_sqrt_ps((__m512)(x))
#define BK_GREATER(a, b) (vec)_mm512_max_ps((__m512)(a), (__m512)(b))
#define BK_LESSER(a, b) (vec)_mm512_min_ps((__m512)(a), (__m512)(b))
#define BK_LOWEST_BYTES(x) (bytes_vec)_mm512_cvtepi32_epi8((__m512i)(x))
#define BK_DOT_PRODUCT 0
#define BK_MADD(x, w) (ivec)_mm512_madd_epi16((__m512i)(x), (__m512i)(w))
#define BK_INT8_VECTORS 2
#define BK_INT8_STEPS 12

#include "kernels_impl.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
