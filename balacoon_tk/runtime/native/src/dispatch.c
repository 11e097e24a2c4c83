/* Which kernels this processor can run, asked at run time; compiled for the least of them. */
#include "kernels.h"

#include "bundles.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

extern const bk_kernels bk_kernels_plain;

#if defined(__GNUC__) && defined(__x86_64__)
#include <cpuid.h>

extern const bk_kernels bk_kernels_sse2, bk_kernels_avx2, bk_kernels_avx2_vnni, bk_kernels_avx512,
    bk_kernels_avx512_vnni;

static int always(void) { return 1; }

/* These ask the operating system as well, whether it keeps the wide registers of a process. */
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

static int has_avx2_vnni(void)
{
    /* Not every compiler knows this one by name. */
    unsigned a = 0, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

static int has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static int has_avx512_vnni(void) { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }

static const struct {
    const bk_kernels *kernels;
    int (*runs)(void);
} SETS[] = {
    {&bk_kernels_avx512_vnni, has_avx512_vnni},
    {&bk_kernels_avx2_vnni, has_avx2_vnni},
    {&bk_kernels_avx512, has_avx512},
    {&bk_kernels_avx2, has_avx2},
    {&bk_kernels_sse2, always},
    {&bk_kernels_plain, always},
};

#elif defined(__GNUC__) && defined(__aarch64__) && defined(__ARM_NEON)

#if defined(__linux__)
#include <sys/auxv.h>
/* HWCAP_ASIMDDP, which older headers don't have. */
static int has_dot(void) { return (int)(getauxval(AT_HWCAP) >> 20 & 1); }
#elif defined(__APPLE__)
/* Each Mac with such a processor has them. */
static int has_dot(void) { return 1; }
#else
static int has_dot(void) { return 0; }
#endif

extern const bk_kernels bk_kernels_neon, bk_kernels_neon_dot;

static int always(void) { return 1; }

static const struct {
    const bk_kernels *kernels;
    int (*runs)(void);
} SETS[] = {{&bk_kernels_neon_dot, has_dot}, {&bk_kernels_neon, always}, {&bk_kernels_plain, always}};

#else

static int always(void) { return 1; }

static const struct {
    const bk_kernels *kernels;
    int (*runs)(void);
} SETS[] = {{&bk_kernels_plain, always}};

#endif

enum { N_SETS = sizeof(SETS) / sizeof(SETS[0]) };

static const bk_kernels *find_by_index(int index)
{
    /* Asked once: under a hypervisor the question takes tens of microseconds. Threads that ask at the same
     * time write the same. */
    static volatile int runs[N_SETS]; /* 1 where it does, -1 where it doesn't */
    for (int k = 0; k < N_SETS; k++) {
        if (!runs[k])
            runs[k] = SETS[k].runs() ? 1 : -1;
        if (runs[k] == 1 && index-- == 0)
            return SETS[k].kernels;
    }
    return NULL;
}

const char *bk_kernel_name(int index)
{
    const bk_kernels *kernels = find_by_index(index);
    return kernels ? kernels->name : NULL;
}

const bk_kernels *bk_find_kernels(const char *name)
{
    if (!name || !*name)
        name = getenv("BALACOON_TK_KERNELS");
    if (!name || !*name)
        return find_by_index(0);
    const bk_kernels *kernels;
    for (int k = 0; (kernels = find_by_index(k)); k++)
        if (strcmp(kernels->name, name) == 0)
            return kernels;
    return NULL;
}

/* -------------------------------------------------------------------------------- what only a measurement can tell */

int bk_pairs_in_halves = 0;

static double seconds(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void bk_choose_pairs(const bk_kernels *kernels)
{
    enum { N_TAPS = 5, N_CHANNELS = 192, N_WEIGHTS = N_TAPS * N_CHANNELS * BK_WIDTH, N_ROUNDS = 12 };
    static int chosen = 0;
    if (chosen || kernels->pairs.convolve == NULL)
        return;
    /* Weights that the second cache holds and the first one doesn't, as most are. */
    float *weights = calloc(N_WEIGHTS + bk_combined_size(BK_IN_PAIRS, N_TAPS, N_CHANNELS), sizeof(float));
    if (weights == NULL)
        return;
    float tile[(BK_NOWHERE + 1) * BK_WIDTH];
    int rows[BK_BUNDLES][BK_BUNDLE] = {{0}};
    double least[2] = {1, 1};
    for (int k = 0; k < BK_BUNDLES; k++) {
        rows[k][0] = 2 * k;
        rows[k][1] = 2 * k + 1;
    }
    const bk_bundled from = {.combined = weights + N_WEIGHTS, .n_taps = N_TAPS, .n_channels = N_CHANNELS,
                             .weights = weights, .n_bundles = BK_BUNDLES, .rows = (const int(*)[BK_BUNDLE])rows};
    for (int round = 0; round < 2 * N_ROUNDS; round++) {
        bk_pairs_in_halves = round % 2;
        const double start = seconds();
        kernels->pairs.convolve(&from, tile);
        const double took = seconds() - start;
        least[round % 2] = took < least[round % 2] ? took : least[round % 2];
    }
    bk_pairs_in_halves = least[1] < least[0];
    chosen = 1;
    free(weights);
}
