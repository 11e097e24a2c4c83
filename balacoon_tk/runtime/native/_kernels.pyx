"""The native engine's kernels by themselves, each as it is in C, for tests and measurements.

An argument `kernels` is the name of an instruction set, one of `names`. A tile is written in place; with
`n_times` a kernel does its work again and again, so that a clock sees it and not this module.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libc.string cimport memcpy, memset

import numpy as np

from balacoon_tk.errors import ParameterError

from balacoon_tk.runtime.native.declarations cimport *


FUNCTIONS = {
    "copy": BK_COPY, "add": BK_ADD, "sub": BK_SUB, "mul": BK_MUL, "div": BK_DIV, "max": BK_MAX, "min": BK_MIN,
    "pow": BK_POW, "neg": BK_NEG, "abs": BK_ABS, "relu": BK_RELU, "leaky_relu": BK_LEAKY_RELU, "elu": BK_ELU,
    "tanh": BK_TANH, "sigmoid": BK_SIGMOID, "exp": BK_EXP, "log": BK_LOG, "sqrt": BK_SQRT,
    "reciprocal": BK_RECIPROCAL, "sin": BK_SIN, "cos": BK_COS, "erf": BK_ERF, "softplus": BK_SOFTPLUS,
    "ceil": BK_CEIL,
}
METHODS = {"pairs": BK_IN_PAIRS, "fours": BK_IN_FOURS, "shared_fours": BK_IN_SHARED_FOURS}
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
    window.half = False
    window.next_weights = NULL
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
    int stride=1, int dilation=1, int n_times=1, bint half=False,
):
    """Convolve steps x channels with weights [tap][channel][WIDTH]; `half` of the columns alone."""
    cdef const bk_kernels* k = find(kernels)
    cdef int _i, n_rows = tile.shape[0]
    check_tile(tile)
    cdef bk_window window = window_of(x.shape[0], x.shape[1], weights.shape[0], n_rows, stride, dilation)
    if weights.shape[1] != x.shape[1] or weights.shape[2] != BK_WIDTH:
        raise ParameterError(
            f"weights of {weights.shape[1]} x {weights.shape[2]} must be channels x {BK_WIDTH}"
        )
    window.input, window.weights = &x[0, 0], &weights[0, 0, 0]
    window.bias, window.half = pointer(bias, BK_WIDTH), half
    with nogil:
        for _i in range(n_times):
            k.convolve(&window, n_rows, &tile[0, 0])


def sum_pairs_in_halves(bint yes):
    """Sum up six pairs of half of the columns at once, or three of all of them."""
    global bk_pairs_in_halves
    bk_pairs_in_halves = yes


def has_pairs(str kernels):
    """Return whether these convolve steps in bundles, by each of METHODS."""
    return find(kernels).pairs.convolve is not NULL


cdef bk_method method_of(str name, int n_taps) except *:
    if name not in METHODS:
        raise ParameterError(f"method={name!r} must be one of {', '.join(METHODS)}")
    if name == "shared_fours" and n_taps != 3:
        raise ParameterError(f"n_taps={n_taps} must be 3 for shared fours")
    return METHODS[name]


def convolve_bundles(
    str kernels, const float[:, ::1] x, const float[::1] weights, const float[::1] bias,
    float[:, ::1] out, str method, int n_taps, int dilation=1, int64_t first=0, int n_times=1,
):
    """Convolve to the steps from `first` on, which are the rows of `out`, any number, by one of METHODS.

    Weights are those of a block as `balacoon_tk.runtime.native.packing` lays them out;
    x begins with what the first step reads, or in fours a dilation before where `reads_older` says so.
    """
    cdef const bk_kernels* k = find(kernels)
    cdef bk_method how = method_of(method, n_taps)
    cdef int n_channels = x.shape[1]
    if k.pairs.convolve is NULL:
        raise ParameterError(f"kernels={kernels!r} must be some that convolve in pairs")
    cdef const bk_bundling* bundling = &k.pairs
    cdef int n_older = dilation if bk_reads_older(how, n_taps) else 0
    cdef Py_ssize_t n_weights = n_taps * n_channels
    if how == BK_IN_FOURS:
        bundling = &k.fours
        n_weights = bk_n_products(how, n_taps) * ((n_channels + 15) // 16 * 16)
    elif how == BK_IN_SHARED_FOURS:
        bundling = &k.shared_fours
    window_of(x.shape[0] - n_older, n_channels, n_taps, out.shape[0], 1, dilation)
    check_bundles(weights.shape[0], n_weights * BK_WIDTH, n_taps, first, out)
    cdef float[::1] combined = np.empty(bk_combined_size(how, n_taps, n_channels), np.float32)
    cdef bk_bundled made
    memset(&made, 0, sizeof(made))
    made.combined, made.weights, made.bias = &combined[0], &weights[0], pointer(bias, BK_WIDTH)
    made.n_taps, made.n_channels = n_taps, n_channels
    cdef const char* window = <const char*>(&x[0, 0] + n_older * n_channels)
    with nogil:
        for _ in range(n_times):
            run_bundles(bundling, &made, window, sizeof(float), how, dilation, first, out)


def convolve_pairs_int8(
    str kernels, const uint8_t[:, ::1] x, const int8_t[::1] weights, const float[::1] scale,
    const int32_t[:, ::1] offsets, const float[::1] bias, float[:, ::1] out, int n_taps,
    int dilation=1, int64_t first=0, int n_times=1,
):
    """Do the same as `convolve_bundles` in pairs of bytes: (sum + offset) * scale + bias, as `convolve_int8`.

    Weights and offsets, (2, WIDTH), are those of a block of
    `balacoon_tk.runtime.native.bundles.bytes_in_pairs`.
    """
    cdef const bk_kernels* k = find(kernels)
    cdef int n_channels = x.shape[1]
    window_of(x.shape[0], n_channels, n_taps, out.shape[0], 1, dilation)
    check_bundles(weights.shape[0], n_taps * n_channels * BK_WIDTH, n_taps, first, out)
    if n_channels % BK_QUAD or offsets.shape[0] != 2 or offsets.shape[1] != BK_WIDTH:
        raise ParameterError(f"channels must be a multiple of {BK_QUAD}, and offsets 2 x {BK_WIDTH}")
    cdef uint8_t[::1] combined = np.empty(bk_combined_size(BK_IN_PAIRS, n_taps, n_channels), np.uint8)
    cdef bk_bundled made
    memset(&made, 0, sizeof(made))
    made.combined, made.weights, made.offset = &combined[0], &weights[0], &offsets[0, 0]
    made.scale, made.bias = pointer(scale, BK_WIDTH), pointer(bias, BK_WIDTH)
    made.n_taps, made.n_channels = n_taps, n_channels
    with nogil:
        for _ in range(n_times):
            run_bundles(&k.pairs_int8, &made, <const char*>&x[0, 0], 1, BK_IN_PAIRS, dilation, first, out)


cdef check_bundles(Py_ssize_t n_weights, Py_ssize_t n_wanted, int n_taps, int64_t first, float[:, ::1] out):
    if n_taps < 2 or first < 0 or out.shape[0] < 1 or out.shape[1] != BK_WIDTH:
        raise ParameterError(f"n_taps={n_taps} must be >= 2, first={first} >= 0, and rows of {BK_WIDTH}")
    if n_weights != n_wanted:
        raise ParameterError(f"{n_weights} weights must be {n_wanted}")


cdef void run_bundles(
    const bk_bundling* bundling, bk_bundled* made, const char* x, int item_size, bk_method method,
    int dilation, int64_t first, float[:, ::1] out,
) noexcept nogil:
    # x is the first tap of the step `first`, which is the first row of out.
    cdef int b, n, n_channels = made.n_channels
    cdef int64_t index = 0, row
    cdef float rows[(BK_NOWHERE + 1) * BK_WIDTH]
    cdef bk_bundle bundles[BK_BUNDLES]
    cdef bk_bundle_tile tile
    cdef bk_bundle_range range_ = bk_find_bundles(
        first, first + out.shape[0], dilation, bk_n_outputs(method)
    )
    memset(&tile, 0, sizeof(tile))
    made.rows = <const int (*)[BK_BUNDLE]>tile.rows
    while index < range_.n_bundles:
        n = <int>min(<int64_t>BK_BUNDLES, range_.n_bundles - index)
        bk_lay_bundles(&range_, index, n, &tile)
        for b in range(n):
            bundles[b] = bk_bundle_input(
                &tile, b, method, x + (tile.steps[b] - first) * n_channels * item_size, made.n_taps
            )
        bundling.combine(
            bundles, n, <ptrdiff_t>dilation * n_channels, made.n_taps, n_channels, <void*>made.combined
        )
        made.n_bundles = n
        bundling.convolve(made, rows)
        row = 0
        for b in range(tile.n_spans):
            memcpy(
                &out[tile.spans[b].step - first, 0], &rows[row * BK_WIDTH],
                tile.spans[b].n_rows * BK_WIDTH * sizeof(float),
            )
            row += tile.spans[b].n_rows
        index += n


def reads_older(str method, int n_taps):
    """Return whether outputs of a bundle may depend on a step in front of what they read."""
    return bool(bk_reads_older(method_of(method, n_taps), n_taps))


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
            k.convolve_narrow(&window, n_columns, n_rows, &tile[0, 0], BK_WIDTH)


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


def convolve_predicted(
    str kernels, const float[:, ::1] x, const float[::1] weights, const float[::1] bias, float[:, ::1] tile,
    int n_taps, int n_columns, int channel=0, int stride=1, int dilation=1, int n_times=1,
):
    """Convolve with weights [tap][channel][n_columns], and numbers of any kind behind; from `channel` on."""
    cdef const bk_kernels* k = find(kernels)
    cdef int _i, n_rows = tile.shape[0]
    check_tile(tile)
    cdef bk_window window = window_of(x.shape[0], x.shape[1], n_taps, n_rows, stride, dilation)
    cdef Py_ssize_t n_read = n_taps * x.shape[1] * n_columns + BK_WIDTH
    if not 0 <= channel < n_columns or weights.shape[0] < n_read:
        raise ParameterError(
            f"{weights.shape[0]} weights must be at least {n_read}, channel={channel} one of them"
        )
    window.input, window.weights = &x[0, 0], &weights[channel]
    window.bias = pointer(bias, BK_WIDTH)
    with nogil:
        for _i in range(n_times):
            k.convolve_predicted(&window, n_columns, n_rows, &tile[0, 0])


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
    code = FUNCTIONS[function]
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
    float scale, int zero_point, int n_times=1, int largest=255,
):
    """Do as `store` does: ``number * (1 / scale) + zero_point``, rounded to even, 0 to `largest`."""
    cdef const bk_kernels* k = find(kernels)
    cdef int _i
    check_tile(tile)
    check_part(x.shape[0], x.shape[1], channel, width, tile.shape[0])
    for _i in range(n_times):
        k.store_int8(
            &tile[0, 0], width, tile.shape[0], &x[0, channel], x.shape[1], scale, zero_point, largest
        )


def finish(
    str kernels, const float[:, ::1] tile, added, str scaling, float factor, float[:, ::1] out,
    uint8_t[:, ::1] activated, float slope, float scale, int zero_point, int n_times=1, bint half=False,
    int largest=255,
):
    """Add tensors to a tile, scale the sum by "mul" or "div", store it, and the leaky ReLU of it in bytes.

    All have the tile's rows and columns, of which the first `half` may be what is worked on; each of
    `scaling`, `out` and `activated` may be None.
    """
    cdef const bk_kernels* k = find(kernels)
    cdef int _i, n_rows = tile.shape[0]
    cdef const float[:, ::1] rows
    cdef bk_ending ending
    check_tile(tile)
    shapes = [np.shape(array) for array in added]
    if out is not None:
        shapes.append((out.shape[0], out.shape[1]))
    if activated is not None:
        shapes.append((activated.shape[0], activated.shape[1]))
    if len(added) > BK_ADDED or set(shapes) - {(n_rows, BK_WIDTH)}:
        raise ParameterError(f"at most {BK_ADDED} may be added, all of them and what is stored like the tile")
    if scaling not in (None, "mul", "div"):
        raise ParameterError(f"scaling={scaling!r} must be 'mul', 'div' or None")
    memset(&ending, 0, sizeof(ending))
    ending.n_added, ending.half = len(added), half
    for _i, rows in enumerate(added):
        ending.added[_i], ending.added_step[_i] = &rows[0, 0], BK_WIDTH
    ending.scaling = BK_COPY if scaling is None else BK_MUL if scaling == "mul" else BK_DIV
    ending.factor, ending.activated, ending.slope = factor, activated is not None, slope
    for _i in range(2):
        ending.out[_i].rows, ending.out[_i].step = NULL, BK_WIDTH
        ending.out[_i].scale, ending.out[_i].zero_point = 0, 0
    if out is not None:
        ending.out[0].rows = &out[0, 0]
    if activated is not None:
        ending.out[1].rows = &activated[0, 0]
        ending.out[1].scale, ending.out[1].zero_point = scale, zero_point
        ending.out[1].largest = largest
    with nogil:
        for _i in range(n_times):
            k.finish(&ending, 0, n_rows, &tile[0, 0])


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


def softmax(str kernels, float[:, ::1] rows, int n):
    """Take the softmax of the first n numbers of each row, in place; what lies behind is written over."""
    cdef const bk_kernels* k = find(kernels)
    if rows.shape[0] < 1 or not 1 <= n <= rows.shape[1] or rows.shape[1] % BK_WIDTH:
        raise ParameterError(
            f"n={n} must be 1 to {rows.shape[1]}, a multiple of {BK_WIDTH}, of one row at least"
        )
    k.softmax(&rows[0, 0], rows.shape[1], n, rows.shape[0])


def softmax_of_columns(str kernels, float[:, ::1] rows):
    """Take the softmax of each column of a tile's width, in place."""
    cdef const bk_kernels* k = find(kernels)
    if rows.shape[0] < 1 or rows.shape[1] != BK_WIDTH:
        raise ParameterError(f"rows must be {BK_WIDTH} wide, and one at least")
    k.softmax_of_columns(&rows[0, 0], rows.shape[0])


cdef int check_part(
    Py_ssize_t n_steps, Py_ssize_t n_channels, int channel, int width, Py_ssize_t n_rows
) except -1:
    if n_steps < n_rows or not 1 <= width <= BK_WIDTH or not 0 <= channel <= n_channels - width:
        raise ParameterError(
            f"width={width} must be 1 to {BK_WIDTH}, within {n_channels} channels from {channel} on, and"
            f" {n_steps} steps at least {n_rows}"
        )
    return 0
