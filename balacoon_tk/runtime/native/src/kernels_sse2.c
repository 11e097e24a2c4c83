/* What each x86-64 has. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>

#define BK_SUFFIX sse2
#define BK_NAME "sse2"
#define BK_LANES 4
#define BK_VECTORS 2
#define BK_STEPS 6
#define BK_SQRT(x) (vec)_mm_sqrt_ps((__m128)(x))
#define BK_GREATER(a, b) (vec)_mm_max_ps((__m128)(a), (__m128)(b))
#define BK_LESSER(a, b) (vec)_mm_min_ps((__m128)(a), (__m128)(b))
#define BK_DOT_PRODUCT 0
#define BK_MADD(x, w) (ivec)_mm_madd_epi16((__m128i)(x), (__m128i)(w))
#define BK_INT8_VECTORS 2
#define BK_INT8_STEPS 4

#include "kernels_impl.h"
#endif
