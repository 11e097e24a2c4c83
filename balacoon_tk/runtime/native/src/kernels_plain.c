/* One number at a time: what any compiler builds and any processor runs. */
#include "kernels.h"

#include <math.h>
#include <string.h>

/* A product and a sum are two roundings wherever they stand: where the processor has one instruction for both, some
 * loops would take that and others not, and a row's last bit would depend on its neighbours. */
#if defined(__clang__)
#pragma clang fp contract(off)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

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
