"""Shapes and sums for tests of the native engine's kernels."""

import numpy as np
import pytest

from balacoon_tk.runtime.native import _kernels

WIDTH, QUAD, MOST_ROWS = _kernels.WIDTH, _kernels.QUAD, _kernels.N_ROWS
SETS = _kernels.names()

# channels, taps, dilation, stride, rows
SHAPES = [
    (1, 1, 1, 1, 1),
    (1, 13, 40, 1, 2),
    (3, 2, 1, 3, 3),
    (3, 7, 5, 1, 12),
    (16, 3, 1, 1, 4),
    (16, 5, 1, 2, 5),
    (33, 1, 1, 1, 6),
    (33, 4, 200, 1, 7),
    (33, 11, 3, 1, 8),
    (100, 13, 1, 5, 9),
    (100, 3, 27, 1, 10),
    (100, 6, 1, 1, 11),
    (100, 7, 12, 1, 12),
]
every_set = pytest.mark.parametrize("kernels", SETS)
every_shape = pytest.mark.parametrize(("n_channels", "n_taps", "dilation", "stride", "n_rows"), SHAPES)


def noise(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def tile(n_rows=MOST_ROWS):
    return np.full((n_rows, WIDTH), np.nan, np.float32)


def windows(x, n_taps, dilation, stride, n_rows):
    """Return what each row reads, (n_rows, n_taps, n_channels), in float64."""
    return np.stack([x[r * stride :: dilation][:n_taps] for r in range(n_rows)]).astype(np.float64)


def n_steps(n_taps, dilation, stride, n_rows):
    return (n_rows - 1) * stride + (n_taps - 1) * dilation + 1


def assert_sums(found, wanted, sizes):
    """Compare sums with what float32 may lose of terms whose absolute values add up to `sizes`."""
    assert np.all(np.abs(found - wanted) <= 1e-6 * sizes + 1e-12)
