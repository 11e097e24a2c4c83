"""Counter-based normal noise: the kernel behind `balacoon_tk.stages.random`.

The arithmetic is in `_random.pxd`, so that the upsampler's kernel has it inlined in its own loops.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset


def philox4x32(const uint32_t[:, ::1] counters, uint64_t key, uint32_t[:, ::1] out):
    """Encrypt each row of four words; `fill_normal` draws from the same function."""
    # For tests against published answers: one row at a time, in each of the lanes in turn.
    cdef uint32_t x[4 * LANES]
    cdef Py_ssize_t i, w
    memset(x, 0, sizeof(x))
    for i in range(counters.shape[0]):
        for w in range(4):
            x[w * LANES + i % LANES] = counters[i, w]
        philox(x, <uint32_t>key, <uint32_t>(key >> 32))
        for w in range(4):
            out[i, w] = x[w * LANES + i % LANES]


def fill_normal(float[:, ::1] out, uint64_t start, uint64_t seed, uint32_t stream):
    """Fill `out` with the rows of a stream from `start` on; not empty, columns a multiple of 4."""
    cdef uint32_t x[4 * LANES]
    cdef float normals[4 * LANES]
    cdef Py_ssize_t i, group, n_blocks = out.shape[1] // 4, n = out.shape[0] * n_blocks
    cdef uint32_t block = 0
    cdef uint64_t position = start
    with nogil:
        for group in range((n + LANES - 1) // LANES):
            for i in range(LANES):
                x[i] = block
                x[LANES + i] = <uint32_t>position
                x[2 * LANES + i] = <uint32_t>(position >> 32)
                x[3 * LANES + i] = stream
                block += 1
                if block == n_blocks:
                    block = 0
                    position += 1
            # The last group draws more than there is room for: a counter costs nothing but its turn.
            draw(x, seed, normals)
            i = group * LANES
            memcpy(&out[0, 0] + 4 * i, normals, min(<Py_ssize_t>LANES, n - i) * 4 * sizeof(float))
