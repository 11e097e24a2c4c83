"""Copy the kept part of decoded windows: the kernel behind `balacoon_tk.overlap_trim`."""

from libc.stdint cimport int16_t
from libc.string cimport memcpy

ctypedef fused sample_t:
    float
    int16_t


def copy_kept(const sample_t[::1] decoded, Py_ssize_t start, sample_t[::1] out):
    """Fill `out`, which is not empty, from decoded[start:]."""
    with nogil:
        memcpy(&out[0], &decoded[start], out.shape[0] * sizeof(sample_t))
