"""The native engine's kernels by themselves, each as it is in C, for tests and measurements.

An argument `kernels` is the name of an instruction set, one of `names`. A tile is written in place; with
`n_times` a kernel does its work again and again, so that a clock sees it and not this module.
"""

from libc.stdint cimport int8_t, int32_t, uint8_t

from balacoon_tk.errors import ParameterError


cdef extern from "kernels.h" nogil:
    enum:
        BK_WIDTH
        BK_ROWS
        BK_QUAD
        BK_N_FUNCTIONS
        BK_TILE
        BK_ROW
        BK_SCALAR
    ctypedef int bk_function
    ctypedef int bk_operand
    ctypedef struct bk_window:
        const void* input
        ptrdiff_t row_step
        ptrdiff_t tap_step
        int n_taps
        int n_channels
        const void* weights
        const float* bias
        const float* scale
        const int32_t* offset
    ctypedef struct bk_kernels:
        const char* name
        int dot_product
        void (*convolve)(const bk_window*, int, float*) noexcept nogil
        void (*convolve_int8)(const bk_window*, int, float*) noexcept nogil
        void (*convolve_narrow)(const bk_window*, int, int, float*) noexcept nogil
        void (*convolve_depthwise)(const bk_window*, int, int, float*) noexcept nogil
        void (*apply)(bk_function, bk_operand, int, float*, const float*, const float*) noexcept nogil
        void (*load)(const float*, ptrdiff_t, int, int, float*) noexcept nogil
        void (*store)(const float*, int, int, float*, ptrdiff_t) noexcept nogil
        void (*load_int8)(const uint8_t*, ptrdiff_t, int, int, float*, float, int) noexcept nogil
        void (*store_int8)(const float*, int, int, uint8_t*, ptrdiff_t, float, int) noexcept nogil
        void (*normalise)(const float*, ptrdiff_t, int, int, float*, ptrdiff_t, float, int) noexcept nogil
        double (*peak)(int) noexcept nogil
    const bk_kernels* bk_find_kernels(const char* name)
    const char* bk_kernel_name(int index)


FUNCTIONS = (
    "copy add sub mul div max min pow neg abs relu leaky_relu elu tanh sigmoid exp log sqrt reciprocal sin"
    " cos erf softplus"
).split()
N_ROWS, WIDTH, QUAD = BK_ROWS, BK_WIDTH, BK_QUAD

cdef int* NO_NUMBERS = NULL


cdef const bk_kernels* find(str kernels) except NULL:
    cdef bytes name = kernels.encode()
    cdef const bk_kernels* found = bk_find_kernels(name) if name else NULL
    if found is NULL:
        raise ParameterError(f"kernels={kernels!r} must be one of {', '.join(names())}")
    return found


cdef const float* pointer(const float[::1] numbers, Py_ssize_t n_wanted) except? NULL:
    if numbers is None:
        return NULL
    if numbers.shape[0] != n_wanted:
        raise ParameterError(f"{numbers.shape[0]} numbers must be {n_wanted}")
    return &numbers[0]


cdef int check_tile(const float[:, ::1] tile) except -1:
    if not 1 <= tile.shape[0] <= BK_ROWS or tile.shape[1] != BK_WIDTH:
        raise ParameterError(
            f"a tile of {tile.shape[0]} x {tile.shape[1]} must have 1 to {BK_ROWS} rows of {BK_WIDTH}"
        )
    return 0


cdef bk_window window_of(
    Py_ssize_t n_steps, Py_ssize_t n_channels, Py_ssize_t n_taps, int n_rows, int stride, int dilation
) except *:
    cdef bk_window window
    cdef Py_ssize_t n_needed = (n_rows - 1) * stride + (n_taps - 1) * dilation + 1
    if stride < 1 or dilation < 1 or n_taps < 1 or n_channels < 1 or n_steps < n_needed:
        raise ParameterError(f"{n_steps} steps of {n_channels} channels must be >= {n_needed} steps")
    window.row_step = stride * n_channels
    window.tap_step = dilation * n_channels
    window.n_taps = n_taps
    window.n_channels = n_channels
    window.bias = window.scale = <const float*>NO_NUMBERS
    window.offset = <const int32_t*>NO_NUMBERS
    return window


def names():
    """Return the names of the instruction sets that this processor can run, best first."""
    found = []
    while bk_kernel_name(len(found)) is not NULL:
        found.append(bk_kernel_name(len(found)).decode())
    return found


def has_dot_product(str kernels):
    """Return whether these have an instruction for products of four bytes."""
    return bool(find(kernels).dot_product)


def peak(str kernels, int n_loops):
    """Multiply and add in registers alone; return how many floating point operations that were."""
    cdef const bk_kernels* k = find(kernels)
    cdef double n_operations
    with nogil:
        n_operations = k.peak(n_loops)
    return n_operations


def convolve(
    str kernels, const float[:, ::1] x, const float[:, :, ::1] weights, const float[::1] bias,
    float[:, ::1] tile,
    int stride=1, int dilation=1, int n_times=1,
):
    """Convolve steps x channels with weights [tap][channel][WIDTH]."""
    cdef const bk_kernels* k = find(kernels)
    cdef int _i, n_rows = tile.shape[0]
    check_tile(tile)
    cdef bk_window window = window_of(x.shape[0], x.shape[1], weights.shape[0], n_rows, stride, dilation)
    if weights.shape[1] != x.shape[1] or weights.shape[2] != BK_WIDTH:
        raise ParameterError(
            f"weights of {weights.shape[1]} x {weights.shape[2]} must be channels x {BK_WIDTH}"
        )
    window.input, window.weights = &x[0, 0], &weights[0, 0, 0]
    window.bias = pointer(bias, BK_WIDTH)
    with nogil:
        for _i in range(n_times):
            k.convolve(&window, n_rows, &tile[0, 0])


def convolve_int8(
    str kernels, const uint8_t[:, ::1] x, const int8_t[:, :, :, ::1] weights, const float[::1] scale,
    const int32_t[::1] offset, const float[::1] bias, float[:, ::1] tile,
    int stride=1, int dilation=1, int n_times=1,
):
    """Convolve bytes with weights [tap][channel / QUAD][WIDTH][QUAD]: (sum + offset) * scale + bias."""
    cdef const bk_kernels* k = find(kernels)
    cdef int _i, n_rows = tile.shape[0]
    check_tile(tile)
    cdef bk_window window = window_of(x.shape[0], x.shape[1], weights.shape[0], n_rows, stride, dilation)
    if (
        weights.shape[1] * BK_QUAD != x.shape[1]
        or weights.shape[2] != BK_WIDTH
        or weights.shape[3] != BK_QUAD
    ):
        raise ParameterError(f"weights must be channels / {BK_QUAD} x {BK_WIDTH} x {BK_QUAD}")
    if offset is not None:
        if offset.shape[0] != BK_WIDTH:
            raise ParameterError(f"{offset.shape[0]} offsets must be {BK_WIDTH}")
        window.offset = &offset[0]
    window.input, window.weights = &x[0, 0], &weights[0, 0, 0, 0]
    window.bias, window.scale = pointer(bias, BK_WIDTH), pointer(scale, BK_WIDTH)
    with nogil:
        for _i in range(n_times):
            k.convolve_int8(&window, n_rows, &tile[0, 0])


def convolve_narrow(
    str kernels, const float[:, ::1] x, const float[:, :, ::1] weights, const float[::1] bias,
    float[:, ::1] tile,
    int stride=1, int dilation=1, int n_times=1,
):
    """Convolve to at most 4 channels, with weights [column][tap][channel]; the tile's others are zeros."""
    cdef const bk_kernels* k = find(kernels)
    cdef int _i, n_rows = tile.shape[0], n_columns = weights.shape[0]
    check_tile(tile)
    cdef bk_window window = window_of(x.shape[0], x.shape[1], weights.shape[1], n_rows, stride, dilation)
    if not 1 <= n_columns <= 4 or weights.shape[2] != x.shape[1]:
        raise ParameterError(
            f"weights of {n_columns} x {weights.shape[2]} must be 1 to 4 columns x channels"
        )
    window.input, window.weights = &x[0, 0], &weights[0, 0, 0]
    window.bias = pointer(bias, n_columns)
    with nogil:
        for _i in range(n_times):
            k.convolve_narrow(&window, n_columns, n_rows, &tile[0, 0])


def convolve_depthwise(
    str kernels, const float[:, ::1] x, const float[:, ::1] weights, const float[::1] bias,
    float[:, ::1] tile,
    int channel=0, int width=BK_WIDTH, int stride=1, int dilation=1, int n_times=1,
):
    """Convolve each of `width` channels from `channel` on by itself, with weights [tap][WIDTH]."""
    cdef const bk_kernels* k = find(kernels)
    cdef int _i, n_rows = tile.shape[0]
    check_tile(tile)
    cdef bk_window window = window_of(x.shape[0], x.shape[1], weights.shape[0], n_rows, stride, dilation)
    if weights.shape[1] != BK_WIDTH or not 1 <= width <= BK_WIDTH or not 0 <= channel <= x.shape[1] - width:
        raise ParameterError(
            f"width={width} must be 1 to {BK_WIDTH}, within the channels from {channel} on"
        )
    window.input, window.weights = &x[0, channel], &weights[0, 0]
    window.bias = pointer(bias, BK_WIDTH)
    with nogil:
        for _i in range(n_times):
            k.convolve_depthwise(&window, width, n_rows, &tile[0, 0])


def apply(
    str kernels, str function, const float[:, ::1] a, const float[::1] b, float[:, ::1] out, int n_times=1
):
    """Compute ``out = function(a, b)``; b has a number for each of the tile, for each channel, or one."""
    cdef const bk_kernels* k = find(kernels)
    cdef int _i, n_rows = a.shape[0], code, operand = BK_SCALAR
    cdef const float* second = <const float*>NO_NUMBERS
    check_tile(a)
    check_tile(out)
    if function not in FUNCTIONS or out.shape[0] != n_rows:
        raise ParameterError(f"function={function!r} must be one of {', '.join(FUNCTIONS)}, of as many rows")
    code = FUNCTIONS.index(function)
    if b is not None:
        if b.shape[0] not in (1, BK_WIDTH, n_rows * BK_WIDTH):
            raise ParameterError(f"{b.shape[0]} numbers must be 1, {BK_WIDTH} or {n_rows * BK_WIDTH}")
        operand = BK_SCALAR if b.shape[0] == 1 else BK_ROW if b.shape[0] == BK_WIDTH else BK_TILE
        second = &b[0]
    elif function in ("add", "sub", "mul", "div", "max", "min", "pow", "leaky_relu", "elu"):
        raise ParameterError(f"b=None must be numbers for {function}")
    with nogil:
        for _i in range(n_times):
            k.apply(<bk_function>code, <bk_operand>operand, n_rows, &out[0, 0], &a[0, 0], second)


def load(str kernels, const float[:, ::1] x, int channel, int width, float[:, ::1] tile):
    """Copy `width` channels from `channel` on of each step into a tile; the others are zeros."""
    check_tile(tile)
    check_part(x.shape[0], x.shape[1], channel, width, tile.shape[0])
    find(kernels).load(&x[0, channel], x.shape[1], width, tile.shape[0], &tile[0, 0])


def store(str kernels, const float[:, ::1] tile, float[:, ::1] x, int channel, int width):
    """Copy the first channels of a tile to `channel` and behind of each step."""
    check_tile(tile)
    check_part(x.shape[0], x.shape[1], channel, width, tile.shape[0])
    find(kernels).store(&tile[0, 0], width, tile.shape[0], &x[0, channel], x.shape[1])


def load_int8(
    str kernels, const uint8_t[:, ::1] x, int channel, int width, float[:, ::1] tile,
    float scale, int zero_point,
):
    """Do as `load` does: ``(byte - zero_point) * scale``."""
    check_tile(tile)
    check_part(x.shape[0], x.shape[1], channel, width, tile.shape[0])
    find(kernels).load_int8(&x[0, channel], x.shape[1], width, tile.shape[0], &tile[0, 0], scale, zero_point)


def store_int8(
    str kernels, const float[:, ::1] tile, uint8_t[:, ::1] x, int channel, int width,
    float scale, int zero_point, int n_times=1,
):
    """Do as `store` does: ``number * (1 / scale)``, rounded to nearest even, ``+ zero_point``, clipped."""
    cdef const bk_kernels* k = find(kernels)
    cdef int _i
    check_tile(tile)
    check_part(x.shape[0], x.shape[1], channel, width, tile.shape[0])
    for _i in range(n_times):
        k.store_int8(&tile[0, 0], width, tile.shape[0], &x[0, channel], x.shape[1], scale, zero_point)


def normalise(
    str kernels, const float[:, ::1] x, float[:, ::1] out, float epsilon, bint centre, int n_times=1
):
    """Normalise each step over its channels; without `centre` by the root mean square alone."""
    cdef const bk_kernels* k = find(kernels)
    cdef int _i
    if x.shape[0] < 1 or x.shape[1] < 1 or out.shape[0] != x.shape[0] or out.shape[1] != x.shape[1]:
        raise ParameterError("x and out must have the same steps and channels, one at least")
    for _i in range(n_times):
        k.normalise(
            &x[0, 0], x.shape[1], x.shape[1], x.shape[0], &out[0, 0], out.shape[1], epsilon, centre
        )


cdef int check_part(
    Py_ssize_t n_steps, Py_ssize_t n_channels, int channel, int width, Py_ssize_t n_rows
) except -1:
    if n_steps < n_rows or not 1 <= width <= BK_WIDTH or not 0 <= channel <= n_channels - width:
        raise ParameterError(
            f"width={width} must be 1 to {BK_WIDTH}, within {n_channels} channels from {channel} on, and"
            f" {n_steps} steps at least {n_rows}"
        )
    return 0
