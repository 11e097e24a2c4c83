"""Weights in the order in which kernels read them: copied once, without the GIL, as a voice is loaded."""

from balacoon_tk.errors import ParameterError


def interleave(
    const float[:, :, ::1] weights, Py_ssize_t channel, Py_ssize_t width, Py_ssize_t first_tap,
    float[:, :, ::1] out,
):
    """Lay ``out[c, t, o] = weights[channel + o, c, first_tap + t]`` for o below `width`, zeros behind.

    ``weights`` are a convolution's, (n_out, n_in, n_taps), of which so many taps are taken as ``out`` has.
    """
    cdef Py_ssize_t n_in = out.shape[0], n_taps = out.shape[1], n_columns = out.shape[2]
    cdef Py_ssize_t c, t, o
    if not 0 <= channel <= weights.shape[0] - width or not 0 <= width <= n_columns:
        raise ParameterError(
            f"width={width} must be at most {n_columns}, of {weights.shape[0]} channels from {channel} on"
        )
    if n_in != weights.shape[1]:
        raise ParameterError(f"out of {n_in} channels must have {weights.shape[1]}")
    if first_tap < 0 or first_tap + n_taps > weights.shape[2]:
        raise ParameterError(f"first_tap={first_tap} must leave {n_taps} of {weights.shape[2]} taps")
    with nogil:
        for c in range(n_in):
            for t in range(n_taps):
                for o in range(width):
                    out[c, t, o] = weights[channel + o, c, first_tap + t]
                for o in range(width, n_columns):
                    out[c, t, o] = 0
