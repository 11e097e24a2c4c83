"""Intervals against distributions whose intervals are known."""

import numpy as np
import pytest

from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics import Estimate, PairedBootstrap

NORMAL_975 = 1.959964


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(10.0, 2.0, 400)
    found = PairedBootstrap(400, n_resamples=4000).ratio(values)
    half = NORMAL_975 * values.std() / np.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert found.n == 400


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_so_many_intervals_hold_the_true_mean_as_the_confidence_says(confidence: float) -> None:
    generator = np.random.default_rng(1)
    n_trials, n_held = 300, 0
    for trial in range(n_trials):
        values = generator.exponential(3.0, 60)
        found = PairedBootstrap(60, n_resamples=300, confidence=confidence, seed=trial).ratio(values)
        n_held += found.low <= 3.0 <= found.high
    assert n_held / n_trials == pytest.approx(confidence, abs=0.07)


def test_the_interval_of_a_rate_is_that_of_the_binomial_distribution() -> None:
    wrong = np.random.default_rng(2).random(500) < 0.1
    found = PairedBootstrap(500).ratio(wrong.astype(float))
    half = NORMAL_975 * np.sqrt(wrong.mean() * (1 - wrong.mean()) / 500)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_a_ratio_is_of_sums_and_not_a_mean_of_ratios() -> None:
    found = PairedBootstrap(2).ratio([1.0, 0.0], [1.0, 9.0])
    assert found.value == 0.1
    assert (found.low, found.high) == (0.0, 1.0)


def test_a_difference_in_pairs_is_free_of_what_the_pairs_share() -> None:
    generator = np.random.default_rng(3)
    shared = generator.normal(0.0, 100.0, 200)
    values = shared + 1.0 + generator.normal(0.0, 0.1, 200)
    bootstrap = PairedBootstrap(200)
    found = bootstrap.difference((values, None), (shared, None))
    half = NORMAL_975 * (values - shared).std() / np.sqrt(200)
    assert found.value == pytest.approx(1.0, abs=0.05)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.15)
    alone = bootstrap.ratio(values)
    assert alone.high - alone.low > 100 * (found.high - found.low)


def test_a_difference_of_equal_ratios_is_zero_exactly() -> None:
    words = [3.0, 5.0, 8.0]
    found = PairedBootstrap(3).difference(([1.0, 0.0, 2.0], words), ([1.0, 0.0, 2.0], words))
    assert found == Estimate(0.0, 0.0, 0.0, 3)


def test_what_was_not_measured_is_left_out_of_both() -> None:
    bootstrap = PairedBootstrap(4)
    assert bootstrap.ratio([1.0, np.nan, 3.0, 2.0]).value == 2.0
    found = bootstrap.difference(([5.0, 9.0, np.nan, 5.0], None), ([1.0, np.nan, 3.0, 1.0], None))
    assert (found.value, found.n) == (4.0, 2)
    nothing = bootstrap.ratio([np.nan] * 4)
    assert nothing.n == 0
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_infinite_values_are_values() -> None:
    bootstrap = PairedBootstrap(3)
    found = bootstrap.ratio([np.inf, np.inf, np.inf])
    assert (found.value, found.low, found.high) == (np.inf, np.inf, np.inf)
    mixed = bootstrap.ratio([np.inf, 1.0, 1.0])
    assert (mixed.value, mixed.low, mixed.high) == (np.inf, 1.0, np.inf)
    assert np.isnan(bootstrap.difference(([np.inf] * 3, None), ([np.inf] * 3, None)).value)


def test_the_same_seed_gives_the_same_interval_and_one_sentence_no_width() -> None:
    values = np.random.default_rng(4).normal(size=20)
    first, second, other = (PairedBootstrap(20, seed=seed).ratio(values) for seed in (0, 0, 1))
    assert first == second != other
    assert PairedBootstrap(1).ratio([2.5]) == Estimate(2.5, 2.5, 2.5, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_sentences": 0}, "n_sentences=0 must be >= 1"),
        ({"n_sentences": 1, "n_resamples": 0}, "n_resamples=0 must be >= 1"),
        ({"n_sentences": 1, "confidence": 1.0}, r"confidence=1.0 must be in \(0, 1\)"),
    ],
)
def test_what_can_not_be_drawn_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        PairedBootstrap(**arguments)  # type: ignore[arg-type]


def test_another_number_of_values_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"values of shape \(2,\) must have shape \(3,\)"):
        PairedBootstrap(3).ratio([1.0, 2.0])
    with pytest.raises(ParameterError, match=r"weights of shape \(2,\) must have shape \(3,\)"):
        PairedBootstrap(3).ratio([1.0, 2.0, 3.0], [1.0, 2.0])
