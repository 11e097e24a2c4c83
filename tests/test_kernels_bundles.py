"""Kernels that make steps in pairs and in fours, beside NumPy in float64 and, of bytes, in whole numbers."""

import numpy as np
import pytest

from balacoon_tk.errors import ParameterError
from balacoon_tk.runtime.native import _kernels
from balacoon_tk.runtime.native.bundles import bytes_in_pairs, in_fours, of_shared_fours
from kernel_cases import SETS, WIDTH, assert_sums, every_set, noise, tile, windows

of_pairs = pytest.mark.parametrize(
    "kernels",
    [name for name in SETS if _kernels.has_pairs(name)] or [pytest.param("", marks=pytest.mark.skip)],
)
every_bundle = pytest.mark.parametrize("method", ["pairs", "fours"])
every_tap = pytest.mark.parametrize("n_taps", [2, 3, 4, 5, 6, 7, 11])
every_dilation = pytest.mark.parametrize("dilation", [1, 2, 3, 5, 6, 12])


def in_pairs(taps):
    """Lay the weights of a block (n_taps, n_in, WIDTH) out as [taps in threes][channel][3, 2 or 1][WIDTH]."""
    return np.concatenate([taps[tap : tap + 3].swapaxes(0, 1).ravel() for tap in range(0, len(taps), 3)])


def in_shared_fours(taps):
    return in_pairs(of_shared_fours(taps.transpose(2, 1, 0)).transpose(2, 1, 0))


LAY = {"pairs": in_pairs, "fours": in_fours, "shared_fours": in_shared_fours}
N_OUTPUTS = {"pairs": 2, "fours": 4, "shared_fours": 4}


def bundle_case(n_channels, n_taps, dilation, n_steps=64):
    rng = np.random.default_rng(n_channels + n_taps)
    # A dilation in front for what a bundle may depend on and not read.
    x = noise(rng, n_steps + n_taps * dilation, n_channels)
    return x, noise(rng, n_taps, n_channels, WIDTH), noise(rng, WIDTH)


def convolve_bundles(kernels, method, x, weights, bias, dilation, first, n_steps):
    """Return the steps from `first` on; of x only what they depend on is there, beside NaN."""
    n_taps = len(weights)
    older = _kernels.reads_older(method, n_taps)
    used = slice(first + (not older) * dilation, first + n_steps + n_taps * dilation)
    guarded = np.full_like(x, np.nan)
    guarded[used] = x[used]
    out = np.full((n_steps, WIDTH), np.nan, np.float32)
    laid = LAY[method](weights)
    _kernels.convolve_bundles(kernels, guarded[used], laid, bias, out, method, n_taps, dilation, first)
    return out


@pytest.mark.parametrize("n_channels", [1, 16, 33])
@every_dilation
@every_tap
@every_bundle
@of_pairs
def test_steps_in_bundles_are_the_oracles(kernels, method, n_taps, dilation, n_channels):
    x, weights, bias = bundle_case(n_channels, n_taps, dilation)
    out = convolve_bundles(kernels, method, x, weights, bias, dilation, 0, 64)
    read = windows(x[dilation:], n_taps, dilation, 1, 64)
    # What the outputs of a bundle share is rounded for all of them.
    sizes = np.einsum("rkc,kco->ro", abs(read), abs(weights).astype(float)).max(0) + abs(bias)
    wanted = np.einsum("rkc,kco->ro", read, weights.astype(float)) + bias
    assert_sums(out, wanted, sizes)
    plain = convolve_bundles(kernels, method, x, weights, None, dilation, 0, 64)
    assert_sums(plain, wanted - bias, sizes)


def in_shared_fours_and_exactly(kernels, n_channels, dilation, n_steps, first=0):
    x, weights, bias = bundle_case(n_channels, 3, dilation, first + n_steps)
    out = convolve_bundles(kernels, "shared_fours", x, weights, bias, dilation, first, n_steps)
    read = windows(x[first + dilation :], 3, dilation, 1, n_steps)
    return out - bias, np.einsum("rkc,kco->ro", read, weights.astype(float))


@pytest.mark.parametrize("n_channels", [1, 16, 33, 48, 100])
@every_dilation
@of_pairs
def test_shared_fours_are_the_oracles(kernels, n_channels, dilation):
    for first, n_steps in [(0, 64), *((first, n) for first in (0, 1, 3) for n in range(1, 4 * dilation + 2))]:
        out, wanted = in_shared_fours_and_exactly(kernels, n_channels, dilation, n_steps, first)
        np.testing.assert_allclose(out, wanted, atol=2e-5 * n_channels**0.5)


@of_pairs
def test_shared_fours_are_twice_as_noisy_as_pairs_at_most(kernels):
    x, weights, _ = bundle_case(192, 3, 1, 512)
    wanted = np.einsum("rkc,kco->ro", windows(x[1:], 3, 1, 1, 512), weights.astype(float))
    noise_of = {
        method: (convolve_bundles(kernels, method, x, weights, None, 1, 0, 512) - wanted).std()
        for method in ("pairs", "shared_fours")
    }
    assert noise_of["shared_fours"] < 2 * noise_of["pairs"] < 3e-6 * wanted.std()


@every_dilation
@pytest.mark.parametrize(
    ("method", "n_taps"), [*(("pairs", n) for n in (2, 3, 4, 5, 6, 7, 11)), ("shared_fours", 3)]
)
@of_pairs
def test_bundles_are_the_same_however_they_are_summed_up(kernels, method, n_taps, dilation):
    x, weights, bias = bundle_case(33, n_taps, dilation)
    found = []
    for in_halves in (False, True):
        _kernels.sum_pairs_in_halves(in_halves)
        try:
            found.append(
                [
                    convolve_bundles(kernels, method, x, weights, bias, dilation, 0, n).tobytes()
                    for n in (1, 7, 13, 64)
                ]
            )
        finally:
            _kernels.sum_pairs_in_halves(False)
    assert found[0] == found[1]


@every_dilation
@pytest.mark.parametrize("n_taps", [2, 3, 4, 5, 7])
@every_bundle
@of_pairs
def test_a_piece_in_bundles_may_begin_and_end_anywhere(kernels, method, n_taps, dilation):
    x, weights, bias = bundle_case(17, n_taps, dilation, 128)
    whole = convolve_bundles(kernels, method, x, weights, bias, dilation, 0, 128)
    assert np.isfinite(whole).all()
    period = N_OUTPUTS[method] * dilation
    for first in range(0, period + 1):
        for n_steps in (*range(1, period + 2), 67):
            part = convolve_bundles(kernels, method, x, weights, bias, dilation, first, n_steps)
            assert part.tobytes() == whole[first : first + n_steps].tobytes(), (first, n_steps)


@pytest.mark.parametrize("n_taps", [3, 4, 5, 6, 7, 11])
@every_bundle
@of_pairs
def test_what_is_no_number_stays_in_the_windows_that_read_it(kernels, method, n_taps):
    x, weights, bias = bundle_case(16, n_taps, 2)
    n_reached = n_taps + _kernels.reads_older(method, n_taps)
    for bad in (np.nan, np.inf, 3e38):
        x[40] = bad
        out = convolve_bundles(kernels, method, x, weights, bias, 2, 0, 64)
        steps = np.arange(64) + 2
        reads = np.isin(steps, [40 - 2 * k for k in range(n_taps)])
        reached = np.isin(steps, [40 - 2 * k for k in range(n_taps)] + [42] * (n_reached - n_taps))
        assert np.isfinite(out[~reached]).all()
        assert bad == 3e38 or not np.isfinite(out[reads]).any()


def test_kernels_without_pairs_say_so():
    x, weights, bias = bundle_case(16, 3, 1)
    assert not _kernels.has_pairs("plain")
    with pytest.raises(ParameterError, match="kernels='plain' must be some that convolve in pairs"):
        convolve_bundles("plain", "pairs", x, weights, bias, 1, 0, 64)


@of_pairs
def test_what_bundles_would_read_beyond_an_array_is_refused(kernels):
    x, weights, out = np.zeros((12, 4), np.float32), np.zeros(12 * WIDTH, np.float32), tile(10)
    with pytest.raises(ParameterError, match="12 steps of 4 channels must be >= 14 steps"):
        _kernels.convolve_bundles(kernels, x, weights, None, out, "pairs", 3, 2)
    with pytest.raises(ParameterError, match="10 steps of 4 channels must be >= 14 steps"):
        _kernels.convolve_bundles(kernels, x, weights, None, out, "fours", 3, 2)
    with pytest.raises(ParameterError, match="384 weights must be 512"):
        _kernels.convolve_bundles(kernels, x, weights, None, tile(9), "pairs", 4)
    with pytest.raises(ParameterError, match="384 weights must be 4608"):
        _kernels.convolve_bundles(kernels, x, weights, None, tile(9), "fours", 4)
    with pytest.raises(ParameterError, match="n_taps=1 must be >= 2"):
        _kernels.convolve_bundles(kernels, x, weights, None, out, "pairs", 1)
    with pytest.raises(ParameterError, match="method='threes' must be one of pairs, fours, shared_fours"):
        _kernels.convolve_bundles(kernels, x, weights, None, out, "threes", 3)
    with pytest.raises(ParameterError, match="n_taps=5 must be 3 for shared fours"):
        _kernels.convolve_bundles(kernels, x, weights, None, out, "shared_fours", 5)
    with pytest.raises(ParameterError, match="12 steps of 4 channels must be >= 14 steps"):
        _kernels.convolve_bundles(kernels, x, weights, None, out, "shared_fours", 3, 2)


def even_kernel(rng, n_channels, n_taps):
    """Return a kernel whose threes, and a rest of two, have even sums, as large as they may be."""
    kernel = rng.integers(-84, 85, (WIDTH, n_channels, n_taps))
    kernel[::3, :, 1::3], kernel[1::3, :, 1::3] = 0, 0
    kernel[::3, :, ::3], kernel[::3, :, 2::3] = 127, 127
    kernel[1::3, :, ::3], kernel[1::3, :, 2::3] = -127, -127
    for start in range(0, n_taps, 3):
        part = kernel[..., start : start + 3]
        if part.shape[2] > 1:
            part[..., 0] -= part.sum(2) % 2 * np.where(part[..., 0] > 0, 1, -1)
    return kernel.astype(np.int8)


@pytest.mark.parametrize("n_channels", [4, 64, 100])
@every_dilation
@pytest.mark.parametrize("n_taps", [3, 4, 5, 6, 7, 8, 11])
@every_set
def test_pairs_of_bytes_are_exact(kernels, n_taps, dilation, n_channels):
    rng = np.random.default_rng(n_channels + n_taps)
    n_rows, zero_point = 64, 37
    x = rng.integers(0, 128, (n_rows + (n_taps - 1) * dilation, n_channels), np.uint8)
    x[:, ::2] = 127 * (rng.random((len(x), len(x[0, ::2]))) < 0.5)  # the ends of what may be joined
    kernel = even_kernel(rng, n_channels, n_taps)
    laid, offsets = bytes_in_pairs(kernel, zero_point)
    read = windows(x.astype(np.int64) - zero_point, n_taps, dilation, 1, n_rows)
    sums = np.einsum("rkc,ock->ro", read, kernel.astype(np.int64))
    scale, bias = noise(rng, WIDTH), noise(rng, WIDTH)
    whole = np.zeros((n_rows, WIDTH), np.float32)
    ones = np.ones(WIDTH, np.float32)
    _kernels.convolve_pairs_int8(kernels, x, laid[0], ones, offsets[0], None, whole, n_taps, dilation)
    assert np.array_equal(whole, sums.astype(np.float32))
    _kernels.convolve_pairs_int8(kernels, x, laid[0], scale, offsets[0], bias, whole, n_taps, dilation)
    total = sums.astype(np.float32).astype(float)
    assert_sums(whole, total * scale + bias, abs(total * scale) + abs(bias))
    # A piece that begins and ends within a period reads nothing else, and gives the same.
    for first, n in ((1, 1), (3, 13), (dilation, dilation), (n_rows - 5, 5)):
        part = np.zeros((n, WIDTH), np.float32)
        used = np.ascontiguousarray(x[first : first + n + (n_taps - 1) * dilation])
        args = laid[0], scale, offsets[0], bias, part, n_taps, dilation, first
        _kernels.convolve_pairs_int8(kernels, used, *args)
        assert part.tobytes() == whole[first : first + n].tobytes()


def test_pairs_of_bytes_say_what_they_need():
    x, scale = np.zeros((8, 4), np.uint8), np.ones(WIDTH, np.float32)
    laid, offsets = bytes_in_pairs(np.zeros((WIDTH, 4, 3), np.int8), 0)
    out = tile(6)
    for args, message in (
        ((x[:, :3].copy(), laid[0], scale, offsets[0], None, out, 3), "weights must be"),
        ((x, laid[0], scale, offsets[0][:1], None, out, 3), "offsets 2 x 32"),
        ((x, laid[0], scale, offsets[0], None, out, 1), "n_taps=1 must be >= 2"),
        ((x, laid[0], scale, offsets[0], None, tile(7), 3), "steps"),
    ):
        with pytest.raises(ParameterError, match=message):
            _kernels.convolve_pairs_int8(SETS[0], *args)
