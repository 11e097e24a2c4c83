"""Weights laid out for kernels, beside NumPy's."""

import numpy as np
import pytest

from balacoon_tk.errors import ParameterError
from balacoon_tk.runtime.native._layout import interleave

WIDTH = 32


@pytest.mark.parametrize(("channel", "width"), [(0, 32), (8, 32), (32, 8), (39, 1), (5, 0)])
@pytest.mark.parametrize(("first_tap", "n_taps"), [(0, 5), (0, 1), (3, 2), (4, 1)])
def test_a_block_has_its_channels_and_zeros_behind(channel, width, first_tap, n_taps):
    weights = np.random.default_rng(0).standard_normal((40, 3, 5)).astype(np.float32)
    out = np.full((3, n_taps, WIDTH), np.nan, np.float32)
    interleave(weights, channel, width, first_tap, out)
    wanted = weights[channel : channel + width, :, first_tap : first_tap + n_taps]
    assert np.array_equal(out[..., :width], wanted.transpose(1, 2, 0))
    assert not out[..., width:].any()


def test_weights_may_be_read_only():
    weights = np.ones((2, 1, 1), np.float32)
    weights.flags.writeable = False
    out = np.empty((1, 1, WIDTH), np.float32)
    interleave(weights, 0, 2, 0, out)
    assert out.sum() == 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((9, 32, 0), "width=32 must be at most 32, of 40 channels from 9 on"),
        ((-1, 1, 0), "of 40 channels from -1 on"),
        ((0, 33, 0), "width=33 must be at most 32"),
        ((0, -1, 0), "width=-1"),
        ((0, 32, 4), "first_tap=4 must leave 2 of 5 taps"),
        ((0, 32, -1), "first_tap=-1"),
    ],
)
def test_what_lies_outside_is_refused(arguments, reason):
    weights, out = np.ones((40, 3, 5), np.float32), np.zeros((3, 2, WIDTH), np.float32)
    with pytest.raises(ParameterError, match=reason):
        interleave(weights, *arguments, out)
    assert not out.any()


def test_all_channels_in_are_laid_out():
    with pytest.raises(ParameterError, match="out of 2 channels must have 3"):
        interleave(np.ones((40, 3, 5), np.float32), 0, 32, 0, np.zeros((2, 1, WIDTH), np.float32))
