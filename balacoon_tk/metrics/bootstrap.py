"""Confidence intervals by the paired bootstrap: what another list of such sentences would have given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from balacoon_tk.errors import ParameterError

Weighted = tuple[Sequence[float], Sequence[float] | None]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and where it lies; NaN throughout if nothing was measured."""

    value: float
    low: float
    """Lower end of the confidence interval."""
    high: float
    """Upper end of it."""
    n: int
    """Sentences that it was made of."""


class PairedBootstrap:
    """Draw sentences with replacement, the same ones for every figure, and see how figures vary.

    Since all strategies and voices speak the same sentences in each draw, an interval of a difference
    between two of them is not widened by how much the sentences differ from one another.

    Parameters
    ----------
    n_sentences : int
        Sentences there are.
    n_resamples : int
        Draws.
    confidence : float
        Share of the draws inside an interval, in (0, 1); percentiles of the draws bound it.
    seed : int
        Of the draws: the same values give the same intervals.

    Raises
    ------
    ParameterError
        If an argument is out of its range.

    References
    ----------
    B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3 (percentiles);
    M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation",
    ICASSP 2004, section 3 (word error rates as a ratio of sums, and differences of systems in pairs).
    """

    def __init__(
        self, n_sentences: int, *, n_resamples: int = 2000, confidence: float = 0.95, seed: int = 0
    ) -> None:
        for name, number in (("n_sentences", n_sentences), ("n_resamples", n_resamples)):
            if number < 1:
                raise ParameterError(f"{name}={number} must be >= 1")
        if not 0.0 < confidence < 1.0:
            raise ParameterError(f"confidence={confidence} must be in (0, 1)")
        self._shares = ((1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0)
        # Drawn once and not for each figure: that all are made of the same sentences is what pairs them.
        self._drawn = np.random.default_rng(seed).integers(0, n_sentences, (n_resamples, n_sentences))

    def ratio(self, values: Sequence[float], weights: Sequence[float] | None = None) -> Estimate:
        """Estimate ``sum(values) / sum(weights)``: a mean without weights.

        Both are of shape (n_sentences,), such as errors and words; a NaN leaves its sentence out.
        """
        x, w, known = self._checked(values, weights)
        return self._estimate(self._ratios(x, w, known), known)

    def difference(self, ratio: Weighted, baseline: Weighted) -> Estimate:
        """Estimate how much larger a ratio is than a baseline, both the values and weights of `ratio`.

        In pairs: sentences of which either is NaN are left out of both.
        """
        x, w, x_known = self._checked(*ratio)
        y, v, y_known = self._checked(*baseline)
        known = x_known & y_known
        with np.errstate(invalid="ignore"):  # inf - inf says nothing, and NaN says so
            return self._estimate(self._ratios(x, w, known) - self._ratios(y, v, known), known)

    def _checked(
        self, values: Sequence[float], weights: Sequence[float] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        n_sentences = self._drawn.shape[1]
        x = np.asarray(values, np.float64)
        w = np.ones(n_sentences) if weights is None else np.asarray(weights, np.float64)
        for name, array in (("values", x), ("weights", w)):
            if array.shape != (n_sentences,):
                raise ParameterError(f"{name} of shape {array.shape} must have shape ({n_sentences},)")
        # What was not measured is NaN, and must leave numerator and denominator alike.
        return x, w, ~(np.isnan(x) | np.isnan(w))

    def _ratios(
        self, x: NDArray[np.float64], w: NDArray[np.float64], known: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return the ratio over all sentences and then over those of each draw."""
        # What is left out must count neither above nor below the line, in any draw.
        x, w = np.where(known, x, 0.0), np.where(known, w, 0.0)
        sums = np.concatenate([[x.sum()], x[self._drawn].sum(axis=1)])
        counts = np.concatenate([[w.sum()], w[self._drawn].sum(axis=1)])
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios: NDArray[np.float64] = sums / counts
        return ratios

    def _estimate(self, ratios: NDArray[np.float64], known: NDArray[np.bool_]) -> Estimate:
        draws = ratios[1:][~np.isnan(ratios[1:])]  # a draw may hold none of the sentences that are known
        # A figure that nothing is known of has no interval either, whatever the draws gave.
        if not draws.size or np.isnan(ratios[0]):
            return Estimate(float("nan"), float("nan"), float("nan"), int(known.sum()))
        # A percentile that is one of the draws needs no arithmetic between infinite ones.
        low, high = np.quantile(draws, self._shares, method="inverted_cdf")
        return Estimate(float(ratios[0]), float(low), float(high), int(known.sum()))
