/* One number at a time: what any compiler builds and any processor runs. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#define BK_SUFFIX plain
#define BK_NAME "plain"
#define BK_LANES 1
#define BK_VECTORS 8
#define BK_STEPS 1
#define BK_SQRT(x) sqrtf(x)
#define BK_DOT_PRODUCT 0
#define BK_INT8_VECTORS 8
#define BK_INT8_STEPS 1

#include "kernels_impl.h"
