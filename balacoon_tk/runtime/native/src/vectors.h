/* A vector of floats and what is done with it, for as many lanes as BK_LANES says.
 *
 * One lane is a plain float: that is how compilers without vector extensions (MSVC) build the kernels.
 * A mask is an integer of the same width with all bits set or none.
 */
#ifndef BALACOON_TK_VECTORS_H
#define BALACOON_TK_VECTORS_H

#if defined(__GNUC__)
#define BK_INLINE static inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define BK_INLINE static __forceinline
#else
#define BK_INLINE static inline
#endif

#define BK_LINE 16 /* floats that a cache fetches at once */
/* Fetch a line into the first cache; an address that isn't there does no harm. */
#if defined(__GNUC__)
#define BK_PREFETCH(address) __builtin_prefetch((const void *)(address), 0, 3)
#else
#define BK_PREFETCH(address) (void)(address)
#endif

#if BK_LANES > 1

typedef float vec __attribute__((vector_size(BK_LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(BK_LANES * 4)));
typedef uint32_t uvec __attribute__((vector_size(BK_LANES * 4)));
typedef uint8_t bytes_vec __attribute__((vector_size(BK_LANES)));
typedef float vec_anywhere __attribute__((vector_size(BK_LANES * 4), aligned(1), may_alias));
typedef int32_t ivec_anywhere __attribute__((vector_size(BK_LANES * 4), aligned(1), may_alias));
typedef uint8_t bytes_anywhere __attribute__((vector_size(BK_LANES), aligned(1), may_alias));

BK_INLINE vec load_vec(const float *x) { return (vec) * (const vec_anywhere *)x; }
BK_INLINE void store_vec(float *x, vec value) { *(vec_anywhere *)x = (vec_anywhere)value; }
BK_INLINE ivec load_ints(const void *x) { return (ivec) * (const ivec_anywhere *)x; }
BK_INLINE ivec load_bytes(const uint8_t *x)
{
    return __builtin_convertvector((bytes_vec) * (const bytes_anywhere *)x, ivec);
}
/* The lowest byte of each number; compilers take the conversion apart into single numbers where a set names no
 * instructions for it. */
#ifndef BK_LOWEST_BYTES
#define BK_LOWEST_BYTES(x) __builtin_convertvector(x, bytes_vec)
#endif
BK_INLINE void store_bytes(uint8_t *x, ivec value) { *(bytes_anywhere *)x = (bytes_anywhere)BK_LOWEST_BYTES(value); }

/* Sums and differences of bytes, four of them in each number, as far as a byte goes. */
typedef uint8_t quads_vec __attribute__((vector_size(BK_LANES * 4)));
BK_INLINE ivec add_bytes(ivec a, ivec b) { return (ivec)((quads_vec)a + (quads_vec)b); }
BK_INLINE ivec take_bytes(ivec a, ivec b) { return (ivec)((quads_vec)a - (quads_vec)b); }

/* The difference keeps the sign of -0, which a sum with 0 would lose. */
BK_INLINE vec splat(float x) { return x - (vec){0}; }
BK_INLINE ivec splat_int(int32_t x) { return x - (ivec){0}; }
BK_INLINE ivec less(vec a, vec b) { return (ivec)(a < b); }
BK_INLINE ivec equal(vec a, vec b) { return (ivec)(a == b); }
BK_INLINE ivec bits_of(vec x) { return (ivec)x; }
BK_INLINE vec from_bits(ivec x) { return (vec)x; }
BK_INLINE vec to_floats(ivec x) { return __builtin_convertvector(x, vec); }
/* Logical, where >> of signed numbers keeps the sign. */
BK_INLINE ivec shift_right(ivec x, int n) { return (ivec)((uvec)x >> n); }
BK_INLINE ivec shift_left(ivec x, int n) { return (ivec)((uvec)x << n); }
#define BK_LANE_OF(x, k) (x)[k]

/* Says that x may have become another number, so that it isn't read from memory again for each use. */
#if defined(__x86_64__)
#define BK_IN_REGISTER(x) __asm__("" : "+v"(x))
#elif defined(__aarch64__)
#define BK_IN_REGISTER(x) __asm__("" : "+w"(x))
#endif

/* Four by four, since a sum of halves of halves is taken apart into single numbers by compilers. */
BK_INLINE float sum_of_lanes(vec x)
{
    typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
    float lanes[BK_LANES];
    store_vec(lanes, x);
    four sums = *(const four *)lanes;
    for (int k = 4; k < BK_LANES; k += 4)
        sums += *(const four *)(lanes + k);
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

#else

typedef float vec;
typedef int32_t ivec;

BK_INLINE vec load_vec(const float *x) { return *x; }
BK_INLINE void store_vec(float *x, vec value) { *x = value; }
BK_INLINE ivec load_ints(const void *x)
{
    ivec value;
    memcpy(&value, x, sizeof(value));
    return value;
}
BK_INLINE ivec load_bytes(const uint8_t *x) { return *x; }
BK_INLINE void store_bytes(uint8_t *x, ivec value) { *x = (uint8_t)value; }

BK_INLINE ivec add_bytes(ivec a, ivec b)
{
    return (ivec)((((uint32_t)a & 0x7f7f7f7f) + ((uint32_t)b & 0x7f7f7f7f)) ^ (((uint32_t)a ^ (uint32_t)b) & 0x80808080));
}
BK_INLINE ivec take_bytes(ivec a, ivec b)
{
    /* The highest bit of each is set in a, so that none is borrowed from the next byte. */
    const uint32_t difference = ((uint32_t)a | 0x80808080) - ((uint32_t)b & 0x7f7f7f7f);
    return (ivec)(difference ^ (((uint32_t)a ^ ~(uint32_t)b) & 0x80808080));
}

BK_INLINE vec splat(float x) { return x; }
BK_INLINE ivec splat_int(int32_t x) { return x; }
BK_INLINE ivec less(vec a, vec b) { return -(ivec)(a < b); }
BK_INLINE ivec equal(vec a, vec b) { return -(ivec)(a == b); }
BK_INLINE ivec bits_of(vec x) { return load_ints(&x); }
BK_INLINE vec from_bits(ivec x)
{
    vec value;
    memcpy(&value, &x, sizeof(value));
    return value;
}
BK_INLINE vec to_floats(ivec x) { return (vec)x; }
BK_INLINE ivec shift_right(ivec x, int n) { return (ivec)((uint32_t)x >> n); }
BK_INLINE ivec shift_left(ivec x, int n) { return (ivec)((uint32_t)x << n); }
#define BK_LANE_OF(x, k) (x)
#define BK_IN_REGISTER(x) (void)(x)
BK_INLINE float sum_of_lanes(vec x) { return x; }

#endif

BK_INLINE vec select_vec(ivec mask, vec yes, vec no)
{
    return from_bits((mask & bits_of(yes)) | (~mask & bits_of(no)));
}

BK_INLINE vec absolute(vec x) { return from_bits(bits_of(x) & 0x7fffffff); }
BK_INLINE vec with_sign_of(vec x, vec sign)
{
    return from_bits((bits_of(x) & 0x7fffffff) | (bits_of(sign) & ~0x7fffffff));
}

/* NaN of either operand stays NaN: a comparison with it is false, so it is asked for. */
BK_INLINE vec larger(vec a, vec b) { return select_vec(less(b, a) | ~equal(a, a), a, b); }
BK_INLINE vec smaller(vec a, vec b) { return select_vec(less(a, b) | ~equal(a, a), a, b); }
/* a > b ? a : b and a < b ? a : b: b where one of them is NaN. Most sets have an instruction that does just this. */
#ifndef BK_GREATER
#define BK_GREATER(a, b) greater_or_second(a, b)
#define BK_LESSER(a, b) lesser_or_second(a, b)
BK_INLINE vec greater_or_second(vec a, vec b) { return select_vec(less(b, a), a, b); }
BK_INLINE vec lesser_or_second(vec a, vec b) { return select_vec(less(a, b), a, b); }
#endif

/* NaN of x stays NaN; the limits are numbers. */
BK_INLINE vec clip(vec x, float low, float high)
{
    return BK_LESSER(splat(high), BK_GREATER(splat(low), x));
}

#endif
