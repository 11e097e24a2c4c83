"""Distances between samples, on signals whose answers can be worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics import (
    boundary_click_db,
    log_spectral_distance_db,
    max_abs_diff,
    segmental_snr_db,
    snr_db,
)

RATE = 16000
NOISE = np.random.default_rng(0).normal(0.0, 0.1, RATE)
OTHER = np.random.default_rng(1).normal(0.0, 0.1, RATE)
SINE = 0.5 * np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE)


def noisy(snr: float) -> np.ndarray:
    """Return NOISE with other noise, `snr` dB below it."""
    scale = np.sqrt(np.sum(NOISE**2) / np.sum(OTHER**2)) * 10 ** (-snr / 20)
    return NOISE + scale * OTHER


def test_the_largest_difference_is_one_sample_s() -> None:
    changed = NOISE.copy()
    changed[-1] += 0.25
    assert max_abs_diff(changed, NOISE) == pytest.approx(0.25)
    assert max_abs_diff(NOISE, NOISE) == 0.0
    assert max_abs_diff(np.array([1, 2], np.int16), np.array([1, 3], np.int16)) == pytest.approx(1 / 32767)


@pytest.mark.parametrize("expected", [-5.0, 0.0, 20.0, 60.0])
def test_snr_is_that_of_the_noise_that_was_added(expected: float) -> None:
    assert snr_db(noisy(expected), NOISE) == pytest.approx(expected, abs=1e-9)


def test_snr_of_equal_samples_is_infinite_and_of_silence_is_not_a_number() -> None:
    assert snr_db(NOISE, NOISE) == np.inf
    assert snr_db(np.zeros(4), NOISE[:4]) == pytest.approx(0.0)
    assert np.isnan(snr_db(np.zeros(4), np.zeros(4)))


@pytest.mark.parametrize(("snr", "expected"), [(20.0, 20.0), (60.0, 35.0), (-30.0, -10.0)])
def test_segmental_snr_is_that_of_each_segment_within_limits(snr: float, expected: float) -> None:
    assert segmental_snr_db(noisy(snr), NOISE, sample_rate=RATE) == pytest.approx(expected, abs=0.2)


def test_segmental_snr_of_half_clean_and_half_noisy_is_the_mean() -> None:
    half = NOISE.copy()
    half[RATE // 2 :] = noisy(5.0)[RATE // 2 :]
    assert segmental_snr_db(half, NOISE, sample_rate=RATE) == pytest.approx((35.0 + 5.0) / 2, abs=0.5)
    assert np.isnan(segmental_snr_db(NOISE, np.zeros(RATE), sample_rate=RATE))


@pytest.mark.parametrize("gain", [-6.0, 0.0, 3.0])
def test_log_spectral_distance_of_a_gain_is_the_gain(gain: float) -> None:
    assert log_spectral_distance_db(NOISE * 10 ** (gain / 20), NOISE) == pytest.approx(abs(gain), abs=1e-6)


def test_log_spectral_distance_grows_with_noise_and_silence_is_no_distance_to_itself() -> None:
    distances = [log_spectral_distance_db(noisy(snr), NOISE) for snr in (40.0, 20.0, 0.0)]
    assert distances == sorted(distances)
    assert log_spectral_distance_db(np.zeros(99), np.zeros(99)) == 0.0
    assert np.isnan(log_spectral_distance_db(NOISE, np.zeros(RATE)))


def test_white_noise_bends_no_more_at_borders_than_elsewhere() -> None:
    borders = range(40, RATE, 40)
    assert boundary_click_db(NOISE, borders, sample_rate=RATE) == pytest.approx(0.0, abs=1.0)


def test_a_step_at_a_border_is_found_and_elsewhere_is_not() -> None:
    borders = [4000, 8000, 12000]
    smooth = boundary_click_db(SINE, borders, sample_rate=RATE)
    stepped = SINE.copy()
    stepped[8000:] += 0.05
    assert boundary_click_db(stepped, borders, sample_rate=RATE) > smooth + 20.0
    # A step farther than 10 ms from the border is none of its business.
    assert boundary_click_db(stepped, [8200], sample_rate=RATE) == pytest.approx(
        boundary_click_db(SINE, [8200], sample_rate=RATE)
    )


def test_the_energy_of_a_known_step_is_known() -> None:
    """A ramp has no second difference; a step of h on it has two, h and -h, both at the border."""
    ramp = np.linspace(0.0, 0.5, 1000) ** 2  # constant second difference d
    d = float(np.diff(ramp, n=2)[0])
    ramp[500:] += 0.1
    expected = 10 * np.log10(((0.1 + d) ** 2 + (0.1 - d) ** 2) / 2 / d**2)
    assert boundary_click_db(ramp, [500], sample_rate=1000) == pytest.approx(expected, rel=1e-6)


def test_without_borders_there_is_no_click() -> None:
    assert np.isnan(boundary_click_db(SINE, [], sample_rate=RATE))
    assert np.isnan(boundary_click_db(np.zeros(100), [50], sample_rate=RATE))
    for border in (0, RATE, -1):
        with pytest.raises(ParameterError, match=rf"borders holds {border}, which must be in \[1, 16000\)"):
            boundary_click_db(SINE, [border], sample_rate=RATE)


@given(n_samples=st.integers(1, 40), border=st.integers(1, 39))
def test_short_signals_are_no_error(n_samples: int, border: int) -> None:
    x, r = NOISE[:n_samples], OTHER[:n_samples]
    assert np.isfinite(segmental_snr_db(x, r, sample_rate=RATE))
    assert np.isfinite(log_spectral_distance_db(x, r))
    if border < n_samples:
        value = boundary_click_db(x, [border], sample_rate=RATE)
        assert np.isfinite(value) or n_samples < 5


@pytest.mark.parametrize(
    "metric", [max_abs_diff, snr_db, log_spectral_distance_db], ids=lambda metric: metric.__name__
)
@pytest.mark.parametrize(
    ("samples", "reference", "message"),
    [
        (np.zeros(3), np.zeros(4), "samples of length 3 must be as long as the reference, 4"),
        (np.zeros(0), np.zeros(0), "samples must hold at least one sample"),
        (np.zeros((2, 2)), np.zeros(4), r"samples of shape \(2, 2\), float64 must be a 1-D array"),
        (np.zeros(4), np.zeros(4, np.int64), r"reference of shape \(4,\), int64 must be"),
        ([0.0], np.zeros(1), "samples of type list must be a 1-D array"),
        (np.array([0.0, np.nan]), np.zeros(2), r"samples\[1\]=nan must be finite"),
    ],
)
def test_what_is_no_pair_of_signals_is_refused(
    metric: object, samples: object, reference: object, message: str
) -> None:
    assert callable(metric)
    with pytest.raises(ParameterError, match=message):
        metric(samples, reference)


def test_a_rate_below_one_is_refused() -> None:
    with pytest.raises(ParameterError, match="sample_rate=0 must be >= 1"):
        segmental_snr_db(NOISE, NOISE, sample_rate=0)
