import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balacoon_tk.runtime._checks import all_finite, sum_within

ODD = (np.nan, np.inf, -np.inf)


@settings(deadline=None)
@given(st.integers(1, 70), st.data())
def test_one_number_that_is_not_finite_is_found_wherever_it_stands(n, data):
    values = np.full(n, np.finfo(np.float32).max, np.float32)
    assert all_finite(values)
    values[data.draw(st.integers(0, n - 1))] = data.draw(st.sampled_from(ODD))
    assert not all_finite(values)


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-45, -1e-40, 3.4e38, -3.4e38])
def test_what_is_finite_passes(value):
    assert all_finite(np.full((3, 5), value, np.float32))


def test_any_shape_is_looked_at_whole():
    assert all_finite(np.zeros((0, 3), np.float32))
    values = np.zeros((2, 3, 4), np.float32)
    values[1, 2, 3] = np.nan
    assert not all_finite(values)
    assert all_finite(values[0])


def test_every_sign_and_payload_of_nan_counts():
    bits = np.array([0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFC00000], np.uint32)
    for nan in bits.view(np.float32):
        assert not all_finite(np.array([nan], np.float32))


def test_an_array_with_gaps_is_refused():
    with pytest.raises((BufferError, ValueError), match="contiguous"):
        all_finite(np.zeros((4, 4), np.float32)[:, :2])


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=70), st.data())
def test_one_integer_outside_is_found_wherever_it_stands(numbers, data):
    values = np.array(numbers, np.int64)
    assert sum_within(values, 9) == sum(numbers)
    if numbers:
        place = data.draw(st.integers(0, len(numbers) - 1))
        values[place] = data.draw(st.sampled_from([-1, 10, -(2**63), 2**63 - 1]))
        assert sum_within(values, 9) == -1


def test_sums_beyond_32_bits_are_right():
    assert sum_within(np.full(2**12, 2**40, np.int64), 2**40) == 2**52
