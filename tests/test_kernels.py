"""The native engine's kernels of each instruction set that this machine can run, beside NumPy in float64."""

import math

import numpy as np
import pytest

from balacoon_tk.errors import ParameterError
from balacoon_tk.runtime.native import _kernels
from balacoon_tk.runtime.native.kernels import KERNELS_VARIABLE, choose_kernels
from kernel_cases import (
    MOST_ROWS,
    QUAD,
    SETS,
    WIDTH,
    assert_sums,
    every_set,
    every_shape,
    n_steps,
    noise,
    tile,
    windows,
)


@every_shape
@every_set
def test_convolution_is_the_oracles(kernels, n_channels, n_taps, dilation, stride, n_rows):
    rng = np.random.default_rng(n_channels + n_taps)
    x = noise(rng, n_steps(n_taps, dilation, stride, n_rows), n_channels)
    weights, bias, out = noise(rng, n_taps, n_channels, WIDTH), noise(rng, WIDTH), tile(n_rows)
    _kernels.convolve(kernels, x, weights, bias, out, stride, dilation)
    read = windows(x, n_taps, dilation, stride, n_rows)
    sizes = np.einsum("rkc,kco->ro", abs(read), abs(weights).astype(float)) + abs(bias)
    assert_sums(out, np.einsum("rkc,kco->ro", read, weights.astype(float)) + bias, sizes)
    plain, half = tile(n_rows), tile(n_rows)
    _kernels.convolve(kernels, x, weights, None, plain, stride, dilation)
    assert_sums(plain, out.astype(float) - bias, sizes)
    _kernels.convolve(kernels, x, weights, bias, half, stride, dilation, half=True)
    assert np.array_equal(half[:, : WIDTH // 2], out[:, : WIDTH // 2])
    assert np.isnan(half[:, WIDTH // 2 :]).all()


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 32, 33, 121])
@every_set
def test_a_softmax_adds_up_to_one_and_is_the_oracles(kernels, n):
    rng = np.random.default_rng(n)
    rows = np.full((5, -(-n // WIDTH) * WIDTH), np.nan, np.float32)
    rows[:, :n] = noise(rng, 5, n) * [[0.0], [1.0], [10.0], [80.0], [1e37]]
    shares = np.exp(rows[:, :n].astype(float) - rows[:, :n].max(1, keepdims=True).astype(float))
    _kernels.softmax(kernels, rows, n)
    np.testing.assert_allclose(rows[:, :n], shares / shares.sum(1, keepdims=True), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("n", [1, 2, 31, 121])
@every_set
def test_a_softmax_of_columns_is_the_oracles_and_sees_nothing_of_minus_infinity(kernels, n):
    rng = np.random.default_rng(n)
    columns = noise(rng, n, WIDTH) * rng.choice([0.0, 1.0, 10.0, 80.0], WIDTH).astype(np.float32)
    hidden = rng.random((n, WIDTH)) < 0.3
    hidden[0] = False
    columns[hidden] = rng.choice([-np.inf, np.finfo(np.float32).min], hidden.sum())
    shares = np.exp(columns.astype(float) - columns.max(0).astype(float))
    _kernels.softmax_of_columns(kernels, columns)
    np.testing.assert_allclose(columns, shares / shares.sum(0), rtol=1e-5, atol=1e-7)
    assert not columns[hidden].any()


def test_a_softmax_of_columns_is_of_a_tile():
    for shape in ((0, WIDTH), (2, WIDTH - 1)):
        with pytest.raises(ParameterError, match=f"rows must be {WIDTH} wide"):
            _kernels.softmax_of_columns(SETS[0], np.zeros(shape, np.float32))


def test_a_softmax_needs_room_for_whole_tiles():
    with pytest.raises(ParameterError, match="n=33 must be 1 to 32"):
        _kernels.softmax(SETS[0], np.zeros((1, WIDTH), np.float32), 33)
    with pytest.raises(ParameterError, match="a multiple of 32"):
        _kernels.softmax(SETS[0], np.zeros((1, 5), np.float32), 5)


@every_shape
@every_set
def test_sums_of_bytes_are_exact(kernels, n_channels, n_taps, dilation, stride, n_rows):
    n_channels += -n_channels % QUAD
    rng = np.random.default_rng(n_channels + n_taps)
    x = rng.integers(0, 256, (n_steps(n_taps, dilation, stride, n_rows), n_channels), np.uint8)
    weights = rng.integers(-128, 128, (n_taps, n_channels // QUAD, WIDTH, QUAD), np.int8)
    # What clips sums of two products in 16 bits, both ways.
    x[:, : n_channels // 2] = 255
    weights[:, : n_channels // QUAD // 2, ::2] = 127
    weights[:, : n_channels // QUAD // 2, 1::2] = -128
    offset = rng.integers(-(2**20), 2**20, WIDTH, np.int32)
    flat = weights.transpose(0, 1, 3, 2).reshape(n_taps, n_channels, WIDTH).astype(np.int64)
    sums = np.einsum("rkc,kco->ro", windows(x, n_taps, dilation, stride, n_rows).astype(np.int64), flat)
    out, ones = tile(n_rows), np.ones(WIDTH, np.float32)
    _kernels.convolve_int8(kernels, x, weights, ones, None, None, out, stride, dilation)
    assert np.array_equal(out, sums.astype(np.float32))
    scale, bias = noise(rng, WIDTH), noise(rng, WIDTH)
    _kernels.convolve_int8(kernels, x, weights, scale, offset, bias, out, stride, dilation)
    total = (sums + offset).astype(np.float32).astype(float)
    assert_sums(out, total * scale + bias, abs(total * scale) + abs(bias))


@pytest.mark.parametrize("n_columns", [1, 2, 3, 4])
@every_shape
@every_set
def test_few_columns_are_the_oracles(kernels, n_channels, n_taps, dilation, stride, n_rows, n_columns):
    rng = np.random.default_rng(n_channels + n_taps)
    x = noise(rng, n_steps(n_taps, dilation, stride, n_rows), n_channels)
    weights, bias, out = noise(rng, n_columns, n_taps, n_channels), noise(rng, n_columns), tile(n_rows)
    _kernels.convolve_narrow(kernels, x, weights, bias, out, stride, dilation)
    read = windows(x, n_taps, dilation, stride, n_rows)
    sizes = np.einsum("rkc,okc->ro", abs(read), abs(weights).astype(float)) + abs(bias)
    wanted = np.einsum("rkc,okc->ro", read, weights.astype(float)) + bias
    assert_sums(out[:, :n_columns], wanted, sizes)
    assert not out[:, n_columns:].any()


@pytest.mark.parametrize("width", [1, 3, 8, 16, 17, 31, 32])
@every_shape
@every_set
def test_depthwise_is_the_oracles(kernels, n_channels, n_taps, dilation, stride, n_rows, width):
    rng = np.random.default_rng(n_channels + n_taps)
    # The tile's channels are the last ones, so that nothing lies behind that could be read by mistake.
    channel = n_channels
    x = noise(rng, n_steps(n_taps, dilation, stride, n_rows), channel + width)
    weights, bias, out = np.zeros((n_taps, WIDTH), np.float32), np.zeros(WIDTH, np.float32), tile(n_rows)
    weights[:, :width], bias[:width] = noise(rng, n_taps, width), noise(rng, width)
    _kernels.convolve_depthwise(kernels, x, weights, bias, out, channel, width, stride, dilation)
    read = windows(x[:, channel:], n_taps, dilation, stride, n_rows)
    used = weights[:, :width].astype(float)
    sizes = np.einsum("rkc,kc->rc", abs(read), abs(used)) + abs(bias[:width])
    assert_sums(out[:, :width], np.einsum("rkc,kc->rc", read, used) + bias[:width], sizes)
    assert not out[:, width:].any()


@pytest.mark.parametrize(("n_columns", "channel"), [(1, 0), (7, 0), (32, 0), (33, 32), (64, 32), (70, 64)])
@every_shape
@every_set
def test_a_convolution_with_a_kernel_of_any_width_is_the_oracles(
    kernels, n_channels, n_taps, dilation, stride, n_rows, n_columns, channel
):
    rng = np.random.default_rng(n_channels + n_taps)
    x = noise(rng, n_steps(n_taps, dilation, stride, n_rows), n_channels)
    weights = noise(rng, n_taps, n_channels, n_columns)
    # What lies behind the last column of the last row is read, and may be anything.
    flat = np.concatenate([weights.ravel(), np.full(WIDTH, np.nan, np.float32)])
    bias, out = noise(rng, WIDTH), tile(n_rows)
    _kernels.convolve_predicted(kernels, x, flat, bias, out, n_taps, n_columns, channel, stride, dilation)
    read, width = windows(x, n_taps, dilation, stride, n_rows), min(WIDTH, n_columns - channel)
    used = weights[..., channel : channel + width].astype(float)
    sizes = np.einsum("rkc,kco->ro", abs(read), abs(used)) + abs(bias[:width])
    assert_sums(out[:, :width], np.einsum("rkc,kco->ro", read, used) + bias[:width], sizes)


@pytest.mark.parametrize("n_channels", [1, 3, 16, 33, 100])
@every_set
def test_a_row_is_the_same_wherever_it_falls(kernels, n_channels):
    # Rows 0 .. n of a long input, in tiles of all lengths: all must agree, bit for bit.
    rng = np.random.default_rng(n_channels)
    n_taps, dilation, n_steps = 5, 2, 2 * MOST_ROWS
    n_wide = n_channels + -n_channels % QUAD
    x = noise(rng, n_steps + (n_taps - 1) * dilation, n_channels)
    x_bytes = rng.integers(0, 256, (len(x), n_wide), np.uint8)
    weights, bias = noise(rng, n_taps, n_channels, WIDTH), noise(rng, WIDTH)
    quads = rng.integers(-127, 128, (n_taps, n_wide // QUAD, WIDTH, QUAD), np.int8)
    narrow, deep = noise(rng, 3, n_taps, n_channels), noise(rng, n_taps, WIDTH)
    scale, predicted = noise(rng, WIDTH), noise(rng, n_taps * n_channels * WIDTH + WIDTH)
    width = min(n_channels, WIDTH)

    def work(first, n_rows):
        part = slice(first, first + n_rows + (n_taps - 1) * dilation)
        out = [tile(n_rows) for _ in range(5)]
        _kernels.convolve(kernels, x[part], weights, bias, out[0], 1, dilation)
        _kernels.convolve_int8(kernels, x_bytes[part], quads, scale, None, bias, out[1], 1, dilation)
        _kernels.convolve_narrow(kernels, x[part], narrow, bias[:3].copy(), out[2], 1, dilation)
        _kernels.convolve_depthwise(kernels, x[part], deep, bias, out[3], 0, width, 1, dilation)
        _kernels.convolve_predicted(kernels, x[part], predicted, bias, out[4], n_taps, WIDTH, 0, 1, dilation)
        normal = np.empty((n_rows, n_channels), np.float32)
        _kernels.normalise(kernels, x[first : first + n_rows], normal, 1e-5, True)
        chained = []
        for function in _kernels.FUNCTIONS:
            chained.append(tile(n_rows))
            _kernels.apply(kernels, function, out[0], bias, chained[-1])
        return np.concatenate([*out, normal, *chained], axis=1)

    whole = np.concatenate([work(first, 1) for first in range(n_steps)])
    for n_rows in range(1, MOST_ROWS + 1):
        for first in range(0, n_steps - n_rows, 5):
            assert work(first, n_rows).tobytes() == whole[first : first + n_rows].tobytes()


def apply(kernels, function, numbers, b=None):
    """Return a function of any count of numbers, in tiles."""
    size = MOST_ROWS * WIDTH
    padded = np.zeros(-(-len(numbers) // size) * size, np.float32)
    padded[: len(numbers)] = numbers
    out = np.empty_like(padded).reshape(-1, MOST_ROWS, WIDTH)
    for k, a in enumerate(padded.reshape(out.shape)):
        _kernels.apply(kernels, function, a, b, out[k])
    return out.reshape(-1)[: len(numbers)]


def erf(x):
    return np.array([math.erf(number) for number in x])


def sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


# function, what it is, where it is looked at
UNARY = [
    ("copy", lambda x: x, (-1e3, 1e3)),
    ("neg", np.negative, (-1e3, 1e3)),
    ("abs", np.abs, (-1e3, 1e3)),
    ("relu", lambda x: np.maximum(x, 0), (-1e3, 1e3)),
    ("tanh", np.tanh, (-12, 12)),
    ("tanh", np.tanh, (-0.01, 0.01)),
    ("sigmoid", sigmoid, (-100, 100)),
    ("sigmoid", sigmoid, (-5, 5)),
    ("exp", np.exp, (-86, 88.7)),
    ("exp", np.exp, (-1, 1)),
    ("log", np.log, (1e-3, 10)),
    ("log", np.log, (0.99, 1.01)),
    ("log", np.log, (1, 3.4e38)),
    ("sqrt", np.sqrt, (0, 1e6)),
    ("reciprocal", np.reciprocal, (0.01, 100)),
    ("sin", np.sin, (-10, 10)),
    ("cos", np.cos, (-10, 10)),
    ("erf", erf, (-5, 5)),
    ("erf", erf, (-0.01, 0.01)),
    ("softplus", lambda x: np.logaddexp(0, x), (-30, 100)),
]


@pytest.mark.parametrize(("function", "oracle", "limits"), UNARY)
@every_set
def test_functions_are_right_to_four_last_places(kernels, function, oracle, limits):
    x = np.linspace(*limits, 100_003).astype(np.float32)
    wanted = oracle(x.astype(float))
    with np.errstate(under="ignore"):
        allowed = np.maximum(4 * np.spacing(np.abs(wanted).astype(np.float32)), 1e-7)
    assert np.all(np.abs(apply(kernels, function, x) - wanted) <= allowed)


@every_set
def test_angles_may_be_large(kernels):
    x = np.linspace(-1e5, 1e5, 200_001).astype(np.float32)
    # Beside multiples of pi / 2 a poor reduction has no bit left.
    x = np.concatenate([x, (np.arange(-60_000, 60_000) * (np.pi / 2)).astype(np.float32)])
    beyond = np.array([1.1e5, 1e7, -3e12, 1e30, 2.0**100], np.float32)
    for function, oracle in (("sin", np.sin), ("cos", np.cos)):
        for numbers in (x, beyond):
            assert np.abs(apply(kernels, function, numbers) - oracle(numbers.astype(float))).max() <= 1e-6
        # A neighbour beyond doesn't change a number.
        mixed = apply(kernels, function, np.concatenate([beyond, x[:100]]))[5:]
        assert mixed.tobytes() == apply(kernels, function, x[:100]).tobytes()


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0, 1e-42, -1e-42, 3.4e38, -3.4e38], np.float32)


@every_set
def test_special_numbers(kernels):
    wanted = {
        "tanh": [np.nan, 1, -1, 0, 1e-42, -1e-42, 1, -1],
        "sigmoid": [np.nan, 1, 0, 0.5, 0.5, 0.5, 1, 0],
        "exp": [np.nan, np.inf, 0, 1, 1, 1, np.inf, 0],
        "log": [np.nan, np.inf, np.nan, -np.inf, np.log(float(SPECIAL[4])), np.nan, np.log(3.4e38), np.nan],
        "sqrt": [np.nan, np.inf, np.nan, 0, 1e-21, np.nan, np.sqrt(3.4e38), np.nan],
        "sin": [
            np.nan,
            np.nan,
            np.nan,
            0,
            1e-42,
            -1e-42,
            np.sin(float(SPECIAL[6])),
            np.sin(float(SPECIAL[7])),
        ],
        "erf": [np.nan, 1, -1, 0, 1e-42, -1e-42, 1, -1],
        "softplus": [np.nan, np.inf, 0, *[np.log(2)] * 3, 3.4e38, 0],
        "relu": [np.nan, np.inf, 0, 0, 1e-42, 0, 3.4e38, 0],
        "abs": [np.nan, np.inf, np.inf, 0, 1e-42, 1e-42, 3.4e38, 3.4e38],
        "reciprocal": [np.nan, 0, 0, np.inf, np.inf, -np.inf, 0, 0],
    }
    for function, numbers in wanted.items():
        found = apply(kernels, function, SPECIAL)
        np.testing.assert_allclose(found, numbers, rtol=1e-3 if function == "sqrt" else 3e-7, atol=1e-7)
    # Numbers below the smallest normal one come out of exp as such.
    x = np.linspace(-103, -88, 1000).astype(np.float32)
    np.testing.assert_allclose(apply(kernels, "exp", x), np.exp(x.astype(float)), rtol=4e-7, atol=2e-45)


@pytest.mark.parametrize("shape", ["tile", "row", "scalar"])
@every_set
def test_functions_of_two_numbers(kernels, shape):
    rng = np.random.default_rng(1)
    for n_rows in (1, 5, MOST_ROWS):
        a, b = noise(rng, n_rows, WIDTH), noise(rng, n_rows, WIDTH)
        b = {"tile": b, "row": b[:1], "scalar": b[:1, :1]}[shape]
        wide, second = a.astype(float), b.astype(float)
        wanted = {
            "add": wide + second,
            "sub": wide - second,
            "mul": wide * second,
            "div": wide / second,
            "max": np.maximum(wide, second),
            "min": np.minimum(wide, second),
            "leaky_relu": np.where(wide < 0, wide * second, wide),
            "elu": np.where(wide < 0, np.expm1(wide) * second, wide),
        }
        for function, numbers in wanted.items():
            out = a.copy()
            _kernels.apply(kernels, function, out, b.ravel(), out)  # in its own place
            np.testing.assert_allclose(out, numbers, rtol=3e-7, atol=1e-7)
        out = tile(n_rows)
        _kernels.apply(kernels, "pow", abs(a), b.ravel(), out)
        np.testing.assert_allclose(out, abs(wide) ** second, rtol=3e-7)


@every_set
def test_powers_and_nan_of_two_numbers(kernels):
    x = np.linspace(-4, 4, 1001).astype(np.float32)
    for exponent in (2, 3, -1, 0, 0.5):
        with np.errstate(invalid="ignore", divide="ignore"):
            wanted = x.astype(float) ** exponent
        found = apply(kernels, "pow", x, np.array([exponent], np.float32))
        np.testing.assert_allclose(found, wanted, rtol=3e-7, atol=1e-7)
    numbers, nan = np.array([np.nan, 1], np.float32), np.array([np.nan], np.float32)
    for function in ("max", "min", "add"):
        assert np.isnan(apply(kernels, function, numbers, nan)).all()
        assert np.isnan(apply(kernels, function, numbers, np.ones(1, np.float32))).tolist() == [True, False]


@pytest.mark.parametrize("width", [1, 5, 16, 31, 32])
@every_set
def test_ways_in_and_out_of_a_tile(kernels, width):
    rng = np.random.default_rng(width)
    channel, n_rows = 3, 7
    x, out = noise(rng, n_rows, channel + width), tile(n_rows)
    _kernels.load(kernels, x, channel, width, out)
    assert np.array_equal(out[:, :width], x[:, channel:]) and not out[:, width:].any()
    kept = np.full((n_rows, channel + width + 2), 9, np.float32)
    _kernels.store(kernels, out, kept, channel, width)
    assert np.array_equal(kept[:, channel:-2], x[:, channel:])
    assert (kept[:, :channel] == 9).all() and (kept[:, -2:] == 9).all()

    bytes_in = rng.integers(0, 256, x.shape, np.uint8)
    _kernels.load_int8(kernels, bytes_in, channel, width, out, 0.125, 100)
    assert np.array_equal(out[:, :width], (bytes_in[:, channel:].astype(np.float32) - 100) * 0.125)
    assert not out[:, width:].any()
    bytes_out = np.full(kept.shape, 9, np.uint8)
    _kernels.store_int8(kernels, out, bytes_out, channel, width, 0.125, 100)
    assert np.array_equal(bytes_out[:, channel:-2], bytes_in[:, channel:])
    assert (bytes_out[:, :channel] == 9).all() and (bytes_out[:, -2:] == 9).all()


@pytest.mark.parametrize(
    ("zero_point", "largest"), [(0, 255), (1, 255), (127, 255), (128, 255), (255, 255), (0, 127), (64, 127)]
)
@every_set
def test_bytes_are_rounded_to_even_and_clipped(kernels, zero_point, largest):
    numbers = np.zeros((MOST_ROWS, WIDTH), np.float32)
    # Halves between bytes, far beyond both ends, and what is no number at all.
    halves = np.arange(-90, 90, 0.5, np.float32)
    numbers.flat[: len(halves)] = halves
    numbers.flat[-6:] = [np.inf, -np.inf, 1e30, -1e30, np.nan, 1e-40]
    out = np.zeros((MOST_ROWS, WIDTH), np.uint8)
    for scale in (1.0, 0.3):
        _kernels.store_int8(kernels, numbers, out, 0, WIDTH, scale, zero_point, largest=largest)
        scaled = numbers * (np.float32(1) / np.float32(scale))
        wanted = np.clip(np.rint(scaled.astype(float) + zero_point), 0, largest)
        wanted[np.isnan(wanted)] = 0
        assert np.array_equal(out, wanted)


@pytest.mark.parametrize("n_added", [0, 1, 2])
@pytest.mark.parametrize("scaling", [None, "mul", "div"])
@pytest.mark.parametrize("stored", ["both", "sum", "bytes"])
@pytest.mark.parametrize("half", [False, True])
@every_set
def test_what_chains_end_in_is_what_its_calls_give(kernels, half, n_added, scaling, stored):
    rng = np.random.default_rng(n_added)
    n_columns = WIDTH // 2 if half else WIDTH
    for n_rows in (1, 5, MOST_ROWS):
        x, *added = (noise(rng, n_rows, WIDTH) for _ in range(1 + n_added))
        x[0, :3] = np.nan, np.inf, -np.inf
        out = None if stored == "bytes" else tile(n_rows)
        activated = None if stored == "sum" else np.full((n_rows, WIDTH), 9, np.uint8)
        to_bytes = 0.02, 100
        _kernels.finish(
            kernels, x, added, scaling, 3.0, out, activated, 0.1, *to_bytes, half=half, largest=200
        )
        wanted = x.copy()
        for each in added:
            _kernels.apply(kernels, "add", wanted, each.ravel(), wanted)
        if scaling is not None:
            _kernels.apply(kernels, scaling, wanted, np.array([3], np.float32), wanted)
        if out is not None:
            assert np.array_equal(out[:, :n_columns], wanted[:, :n_columns], equal_nan=True)
            assert np.isnan(out[:, n_columns:]).all()
        if activated is not None:
            _kernels.apply(kernels, "leaky_relu", wanted, np.array([0.1], np.float32), wanted)
            rounded = np.zeros((n_rows, WIDTH), np.uint8)
            _kernels.store_int8(kernels, wanted, rounded, 0, WIDTH, 0.02, 100, largest=200)
            assert np.array_equal(activated[:, :n_columns], rounded[:, :n_columns])
            assert (activated[:, n_columns:] == 9).all()


@pytest.mark.parametrize("n_channels", [1, 3, 16, 33, 100, 192])
@pytest.mark.parametrize("centre", [True, False])
@every_set
def test_norms_are_the_oracles(kernels, n_channels, centre):
    rng = np.random.default_rng(n_channels)
    x = noise(rng, 9, n_channels) + 3
    wide = x.astype(float)
    if centre:
        wide = wide - wide.mean(1, keepdims=True)
    wanted = wide / np.sqrt((wide**2).mean(1, keepdims=True) + 1e-3)
    out = np.empty_like(x)
    _kernels.normalise(kernels, x, out, 1e-3, centre)
    np.testing.assert_allclose(out, wanted, atol=5e-6)
    _kernels.normalise(kernels, x, x, 1e-3, centre)
    assert np.array_equal(x, out)


@every_set
def test_the_peak_counts_what_it_does(kernels):
    assert _kernels.peak(kernels, 0) == 0
    assert _kernels.peak(kernels, 200) == 2 * _kernels.peak(kernels, 100) > 0


def test_the_best_set_is_chosen_and_another_may_be_asked_for(monkeypatch):
    monkeypatch.delenv(KERNELS_VARIABLE, raising=False)
    assert "plain" in SETS and choose_kernels() == SETS[0]
    assert choose_kernels("plain") == "plain"
    monkeypatch.setenv(KERNELS_VARIABLE, "plain")
    assert choose_kernels() == "plain" and choose_kernels(SETS[0]) == SETS[0]
    monkeypatch.setenv(KERNELS_VARIABLE, "mmx")
    with pytest.raises(ParameterError, match=r"BALACOON_TK_KERNELS='mmx' must be one of .*plain"):
        choose_kernels()
    with pytest.raises(ParameterError, match="kernels='mmx' must be one of"):
        choose_kernels("mmx")
    with pytest.raises(ParameterError, match="kernels='' must be one of"):
        _kernels.peak("", 1)


def test_what_would_read_beyond_an_array_is_refused():
    x, weights, out = np.zeros((12, 4), np.float32), np.zeros((3, 4, WIDTH), np.float32), tile()
    with pytest.raises(ParameterError, match="12 steps of 4 channels must be >= 14 steps"):
        _kernels.convolve("plain", x, weights, None, out)
    with pytest.raises(ParameterError, match="a tile of 13 x 32 must have 1 to 12 rows"):
        _kernels.convolve("plain", x, weights, None, tile(13))
    with pytest.raises(ParameterError, match="31 numbers must be 32"):
        _kernels.convolve("plain", x, weights, np.zeros(31, np.float32), tile(2))
    with pytest.raises(ParameterError, match="width=5"):
        _kernels.load("plain", x, 0, 5, out)
    with pytest.raises(ParameterError, match="b=None must be numbers for add"):
        _kernels.apply("plain", "add", out, None, out)
