/* NEON, which each 64-bit Arm has. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#if defined(__GNUC__) && defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>

#define BK_SUFFIX neon
#define BK_NAME "neon"
#define BK_LANES 4
#define BK_VECTORS 4
#define BK_STEPS 6
#define BK_SQRT(x) (vec)vsqrtq_f32((float32x4_t)(x))
#define BK_DOT_PRODUCT 0
#define BK_INT8_VECTORS 2
#define BK_INT8_STEPS 3

#include "kernels_impl.h"
#endif
