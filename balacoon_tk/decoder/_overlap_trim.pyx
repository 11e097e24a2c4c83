"""Copy the kept part of decoded windows: the kernel behind `balacoon_tk.decoder.overlap_trim`."""

from libc.stdint cimport int16_t, int64_t
from libc.string cimport memcpy

ctypedef fused sample_t:
    float
    int16_t


def copy_kept(const sample_t[::1] decoded, Py_ssize_t start, sample_t[::1] out):
    """Fill `out`, which is not empty, from decoded[start:]."""
    with nogil:
        memcpy(&out[0], &decoded[start], out.shape[0] * sizeof(sample_t))


def join_kept(list decoded, const int64_t[:, ::1] kept, sample_t[::1] out):
    """Fill `out` from decoded[i][kept[i, 0] : kept[i, 1]], one after the other; none is empty."""
    cdef const sample_t[::1] samples
    cdef Py_ssize_t i, n_samples, position = 0
    for i in range(kept.shape[0]):
        samples = decoded[i]
        n_samples = kept[i, 1] - kept[i, 0]
        with nogil:
            memcpy(&out[position], &samples[kept[i, 0]], n_samples * sizeof(sample_t))
        position += n_samples
