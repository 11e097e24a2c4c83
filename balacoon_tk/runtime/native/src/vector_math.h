/* Functions of a vector, from published approximations, each number to a few units in the last place.
 *
 * Polynomials of exp, log, sin and cos: S. L. Moshier, Cephes Mathematical Library, single precision
 * (1989). erf: N. Juffa, "Accurate and efficient erff" (2017). Reduction of angles in parts that a product
 * with a whole number leaves exact: W. J. Cody and W. Waite, Software Manual for the Elementary Functions
 * (1980). Nothing here branches on a number, so a lane costs and gives the same in whatever company.
 */
#ifndef BALACOON_TK_VECTOR_MATH_H
#define BALACOON_TK_VECTOR_MATH_H

#include "vectors.h"

/* Added to a number below 2^22 it leaves the nearest whole one, ties to even, in the lowest bits. */
#define BK_ROUNDER 12582912.0f

/* x = n * ln 2 + rest, |rest| <= ln 2 / 2; returns e^rest - 1 and n. */
BK_INLINE vec reduced_exp(vec x, ivec *n)
{
    const vec shifted = x * 1.44269504088896341f + BK_ROUNDER;
    const vec whole = shifted - BK_ROUNDER;
    *n = bits_of(shifted) - 0x4b400000;
    const vec rest = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
    vec y = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * rest + 8.3334519073e-3f;
    y = y * rest + 4.1665795894e-2f;
    y = y * rest + 1.6666665459e-1f;
    y = y * rest + 5.0000001201e-1f;
    return y * (rest * rest) + rest;
}

BK_INLINE vec power_of_two(ivec n) { return from_bits(shift_left(n + 127, 23)); }

BK_INLINE vec vec_exp(vec x)
{
    ivec n;
    const vec y = reduced_exp(clip(x, -104.0f, 89.0f), &n) + 1.0f;
    /* In two steps, since the power itself may lie beyond what a float holds. */
    const ivec half = n >> 1;
    return y * power_of_two(half) * power_of_two(n - half);
}

/* e^x - 1 for x <= 0, without cancellation near 0. */
BK_INLINE vec vec_expm1_negative(vec x)
{
    ivec n;
    const vec y = reduced_exp(clip(x, -60.0f, 0.0f), &n);
    const vec power = power_of_two(n);
    return y * power + (power - 1.0f);
}

BK_INLINE vec vec_tanh(vec x)
{
    const vec y = vec_expm1_negative(absolute(x) * -2.0f);
    return with_sign_of(y / (y + 2.0f), x);
}

BK_INLINE vec vec_sigmoid(vec x) { return 1.0f / (vec_exp(-x) + 1.0f); }

BK_INLINE vec vec_log(vec x)
{
    /* Numbers too small to have all their bits are made larger first; negative ones end as NaN. */
    const ivec tiny = less(x, splat(1.17549435e-38f));
    const ivec bits = bits_of(select_vec(tiny, absolute(x) * 8388608.0f, x));
    /* The mantissa in [sqrt(1/2), sqrt(2)): its bits less those of sqrt(1/2) tell the exponent. */
    const ivec above = bits - 0x3f3504f3;
    const ivec exponent = above >> 23;
    const vec mantissa = from_bits(bits - shift_left(exponent, 23));
    const vec e = to_floats(exponent - (tiny & 23));
    const vec r = mantissa - 1.0f, square = r * r;
    vec y = r * 7.0376836292e-2f - 1.1514610310e-1f;
    y = y * r + 1.1676998740e-1f;
    y = y * r - 1.2420140846e-1f;
    y = y * r + 1.4249322787e-1f;
    y = y * r - 1.6668057665e-1f;
    y = y * r + 2.0000714765e-1f;
    y = y * r - 2.4999993993e-1f;
    y = y * r + 3.3333331174e-1f;
    y = y * r * square + e * -2.12194440e-4f;
    y = r + (y - square * 0.5f);
    y = y + e * 0.693359375f;
    const vec infinity = splat(INFINITY);
    y = select_vec(less(x, infinity), y, x); /* infinity and NaN */
    y = select_vec(equal(x, splat(0)), -infinity, y);
    return select_vec(less(x, splat(0)), splat(NAN), y);
}

/* log(1 + e^x), right where e^x alone is lost beside 1. */
BK_INLINE vec vec_softplus(vec x)
{
    const vec e = vec_exp(-absolute(x)), u = e + 1.0f;
    const vec y = vec_log(u) + (e - (u - 1.0f)) / u;
    return select_vec(less(splat(0), x), x, splat(0)) + y;
}

#define BK_LARGEST_ANGLE 1e5f

/* sin(x), or cos(x) with `quarter` 1; |x| <= BK_LARGEST_ANGLE. */
BK_INLINE vec vec_sin(vec x, const int quarter)
{
    const vec shifted = x * 0.636619772367581343f + BK_ROUNDER;
    const vec whole = shifted - BK_ROUNDER;
    const ivec quadrant = bits_of(shifted) + quarter;
    /* Three parts of pi / 2 of 8 bits each, whose products with 16 bits are exact without an FMA too. */
    vec r = x - whole * 1.5703125f;
    r = r - whole * 4.825592041015625e-4f;
    r = r - whole * 1.26659870147705078125e-6f;
    r = r - whole * 9.92093579680540442e-10f;
    const vec z = r * r;
    vec sine = z * -1.9515295891e-4f + 8.3321608736e-3f;
    sine = sine * z - 1.6666654611e-1f;
    sine = sine * z * r + r;
    vec cosine = z * 2.443315711809948e-5f - 1.388731625493765e-3f;
    cosine = cosine * z + 4.166664568298827e-2f;
    cosine = cosine * z * z + (1.0f - z * 0.5f);
    const ivec odd = -(quadrant & 1);
    const ivec negative = shift_left(quadrant & 2, 30);
    return from_bits(bits_of(select_vec(odd, cosine, sine)) ^ negative);
}

BK_INLINE vec vec_erf(vec x)
{
    const vec t = clip(absolute(x), 0.0f, 4.0f), s = t * t;
    vec tail = t * -1.72853470e-5f + 3.83197126e-4f;
    const vec low = t * -3.88396438e-3f + 2.42546219e-2f;
    tail = tail * s + low;
    tail = tail * t - 1.06777877e-1f;
    tail = tail * t - 6.34846687e-1f;
    tail = tail * t - 1.28717512e-1f;
    tail = tail * t - t;
    vec inner = s * -5.96761703e-4f + 4.99119423e-3f;
    inner = inner * s - 2.67681349e-2f;
    inner = inner * s + 1.12819925e-1f;
    inner = inner * s - 3.76125336e-1f;
    inner = inner * s + 1.28379166e-1f;
    inner = inner * t + t;
    const vec y = select_vec(less(splat(0.927734375f), t), -vec_expm1_negative(tail), inner);
    return with_sign_of(y, x);
}

#endif
