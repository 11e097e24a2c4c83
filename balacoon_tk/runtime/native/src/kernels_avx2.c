/* AVX2 and FMA: x86 since 2013. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

#define BK_SUFFIX avx2
#define BK_NAME "avx2"
#define BK_LANES 8
#define BK_VECTORS 2
#define BK_STEPS 6
#define BK_SQRT(x) (vec)_mm256_sqrt_ps((__m256)(x))
#define BK_GREATER(a, b) (vec)_mm256_max_ps((__m256)(a), (__m256)(b))
#define BK_LESSER(a, b) (vec)_mm256_min_ps((__m256)(a), (__m256)(b))
#define BK_WORDS(x) _mm_packus_epi32(_mm256_castsi256_si128((__m256i)(x)), _mm256_extracti128_si256((__m256i)(x), 1))
#define BK_LOWEST_BYTES(x) (bytes_vec)_mm_cvtsi128_si64(_mm_packus_epi16(BK_WORDS((x) & 255), BK_WORDS((x) & 255)))
#define BK_DOT_PRODUCT 0
#define BK_MADD(x, w) (ivec)_mm256_madd_epi16((__m256i)(x), (__m256i)(w))
#define BK_INT8_VECTORS 2
#define BK_INT8_STEPS 4

#include "kernels_impl.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
