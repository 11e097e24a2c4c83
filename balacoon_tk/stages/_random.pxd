"""Normal noise from a counter, for whatever kernel draws it: `_random.pyx` fills arrays with it.

Nothing here calls libm, and the build forbids contraction into fused multiply-adds: only +, -, *, /,
sqrt and integers are used, which IEEE 754 rounds in one way, so a seed gives the same bits everywhere.
Every step works on LANES counters at once, in plain loops that the compiler turns into vector code.
"""

from libc.math cimport sqrtf
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    LANES = 16


cdef inline void philox(uint32_t* x, uint32_t key_low, uint32_t key_high) noexcept nogil:
    """Encrypt LANES counters in place, word w of lane i being x[w * LANES + i] (Salmon et al. 2011)."""
    cdef int i, _
    cdef uint64_t left, right
    for _ in range(10):
        for i in range(LANES):
            left = <uint64_t>0xD2511F53 * x[i]
            right = <uint64_t>0xCD9E8D57 * x[2 * LANES + i]
            x[i] = <uint32_t>(right >> 32) ^ x[LANES + i] ^ key_low
            x[LANES + i] = <uint32_t>right
            x[2 * LANES + i] = <uint32_t>(left >> 32) ^ x[3 * LANES + i] ^ key_high
            x[3 * LANES + i] = <uint32_t>left
        key_low += <uint32_t>0x9E3779B9
        key_high += <uint32_t>0xBB67AE85


# Constants are cast one by one: an uncast literal is a double, and would make the arithmetic double.
cdef inline float radius(uint32_t word) noexcept nogil:
    """Return sqrt(-2 log u) with u = (31 bits + 1/2) / 2**31, which is in (0, 1]: never the log of 0."""
    cdef float mantissa, s, z, series, u = <float><int32_t>(word >> 1) + <float>0.5
    cdef int32_t bits, exponent
    u *= <float>(1.0 / 2147483648.0)
    memcpy(&bits, &u, sizeof(bits))
    exponent = (bits - 0x3F3504F3) >> 23  # the bits of sqrt(1/2): the mantissa lies in [sqrt(1/2), sqrt(2))
    bits -= exponent * 0x800000
    memcpy(&mantissa, &bits, sizeof(bits))
    # log(mantissa) = 2 atanh(s) as its power series: |s| < 0.172, what is left out is below 3e-9 of it.
    s = (mantissa - <float>1.0) / (mantissa + <float>1.0)
    z = s * s
    series = <float>(1.0 / 7.0) + z * <float>(1.0 / 9.0)
    series = <float>(1.0 / 5.0) + z * series
    series = <float>(1.0 / 3.0) + z * series
    series = s + s * z * series
    return sqrtf(<float>-1.3862943611198906 * <float>exponent - <float>4.0 * series)


cdef inline void box_muller(const uint32_t* first, const uint32_t* second, float* normals) noexcept nogil:
    """Turn LANES pairs of words into pairs of normals, four floats apart (Box and Muller 1958)."""
    cdef int i
    cdef uint32_t turn
    cdef float r, x, y, sine, cosine
    for i in range(LANES):
        # The angle is second / 2**32 of a turn: its nearest quarter, and x in [-pi/4, pi/4) from there.
        turn = second[i] + <uint32_t>0x20000000
        x = <float>(<int32_t>(turn & 0x3FFFFFFF) - 0x20000000) * <float>(1.5707963267948966 / 1073741824.0)
        turn >>= 30
        # Taylor series; what is left out is below 3e-9.
        y = x * x
        sine = <float>(1.0 / 5040.0) - y * <float>(1.0 / 362880.0)
        sine = <float>(1.0 / 120.0) - y * sine
        sine = <float>(1.0 / 6.0) - y * sine
        sine = x - x * y * sine
        cosine = <float>(1.0 / 40320.0) - y * <float>(1.0 / 3628800.0)
        cosine = <float>(1.0 / 720.0) - y * cosine
        cosine = <float>(1.0 / 24.0) - y * cosine
        cosine = <float>(1.0 / 2.0) - y * cosine
        cosine = <float>1.0 - y * cosine
        r = radius(first[i]) * <float>(1 - <int32_t>(turn & 2))  # 2 and 3 are 0 and 1 turned by half
        normals[4 * i] = r * (-sine if turn & 1 else cosine)
        normals[4 * i + 1] = r * (cosine if turn & 1 else sine)


cdef inline void draw(uint32_t* counters, uint64_t seed, float* normals) noexcept nogil:
    """Turn LANES counters, which are lost, into 4 normals each."""
    philox(counters, <uint32_t>seed, <uint32_t>(seed >> 32))
    box_muller(counters, counters + LANES, normals)
    box_muller(counters + 2 * LANES, counters + 3 * LANES, normals + 2)


cdef inline void draw_channels(
    uint64_t position, uint32_t first_block, uint64_t seed, uint32_t stream, float* normals
) noexcept nogil:
    """Draw 4 * LANES channels of one position, of which `first_block` has the first four."""
    cdef uint32_t x[4 * LANES]
    cdef int i
    for i in range(LANES):
        x[i] = first_block + i
        x[LANES + i] = <uint32_t>position
        x[2 * LANES + i] = <uint32_t>(position >> 32)
        x[3 * LANES + i] = stream
    draw(x, seed, normals)
