"""What a voice costs on one machine: seconds against frames and phonemes, as a calibration measured them."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from balacoon_tk.errors import ParameterError


@dataclass(frozen=True, slots=True)
class CostCurve:
    """Seconds against a count: straight between the points that were measured, and never falling."""

    counts: tuple[int, ...]
    """Frames or phonemes, rising."""
    seconds: tuple[float, ...]
    """What each of them takes."""

    def __post_init__(self) -> None:
        """Refuse what would make a schedule of nonsense."""
        if not self.counts or len(self.counts) != len(self.seconds):
            raise ParameterError(
                f"{len(self.counts)} counts and {len(self.seconds)} seconds must be as many, >= 1"
            )
        if self.counts[0] < 1 or any(a >= b for a, b in pairwise(self.counts)):
            raise ParameterError(f"counts={self.counts} must rise, from >= 1")
        # Asked this way round, NaN, which is in no order with anything, is refused as well.
        if not all(0 < a <= b < math.inf for a, b in pairwise((self.seconds[0], *self.seconds))):
            raise ParameterError(f"seconds={self.seconds} must be positive and finite, and not fall")

    def __call__(self, count: int) -> float:
        """Return the seconds that a count takes.

        Fewer than was measured take as long as the least that was; more go on as the last two points do.
        """
        counts, seconds = self.counts, self.seconds
        # Most of a short push is what any push costs.
        if count <= counts[0]:
            return seconds[0]
        # One point is taken for a line through nothing: too much for large counts, where safe is better.
        if len(counts) == 1:
            return seconds[0] * count / counts[0]
        right = min(bisect_right(counts, count), len(counts) - 1)
        share = (count - counts[right - 1]) / (counts[right] - counts[right - 1])
        return seconds[right - 1] + share * (seconds[right] - seconds[right - 1])

    @classmethod
    def fit(cls, measured: Mapping[int, Sequence[float]]) -> CostCurve:
        """Return the curve through the medians of runs, as near to them as one that never falls can be.

        Pool adjacent violators: Barlow et al., "Statistical inference under order restrictions", 1972.
        """
        pools: list[tuple[float, int]] = []  # mean and number of medians that have become one step
        for count in sorted(measured):
            pools.append((statistics.median(measured[count]), 1))
            # More frames never take less time: where medians say so, noise does, and both become their mean.
            while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
                (low, n_low), (high, n_high) = pools[-2:]
                pools[-2:] = [((low * n_low + high * n_high) / (n_low + n_high), n_low + n_high)]
        return cls(tuple(sorted(measured)), tuple(mean for mean, n in pools for _ in range(n)))


@dataclass(frozen=True, slots=True)
class PushCosts:
    """What the pushes of one strategy take, against the frames that each hands over."""

    first: CostCurve
    """The first push of a sentence, which carries the lag as well and may do less: it has no past."""
    later: CostCurve


@dataclass(frozen=True, slots=True)
class CostModel:
    """What each stage of a voice takes on one machine, with one number of threads."""

    pushes: Mapping[str, PushCosts]
    """For each strategy."""
    encoder: CostCurve
    """Against phoneme ids."""
    frontend: CostCurve
    """Against phoneme ids as well, so that both add up."""
    onset_frames: float
    """Frames from where a sentence's first phoneme begins to its first audible sample, such that few have
    more; below 0 where phonemes are heard before they begin."""

    def prepare_s(self, n_ids: int) -> float:
        """Return what a sentence takes before its first push, in seconds."""
        # A sum, since a sentence has no ids to encode before all of its text has been read.
        return self.frontend(n_ids) + self.encoder(n_ids)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CostModel:
        """Make a model of what `asdict` gave, or raise a `ParameterError` if a field can't be."""
        try:
            onset = float(data["onset_frames"])
            if not math.isfinite(onset):
                raise ParameterError(f"onset_frames={onset} must be finite")
            return cls(
                pushes={
                    str(name): PushCosts(_curve(pair["first"]), _curve(pair["later"]))
                    for name, pair in data["pushes"].items()
                },
                encoder=_curve(data["encoder"]),
                frontend=_curve(data["frontend"]),
                onset_frames=onset,
            )
        # Says already what is wrong; it is a ValueError as well, and would be wrapped below.
        except ParameterError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ParameterError(f"a cost model lacks a field or has a wrong one: {error!r}") from error


def _curve(data: Mapping[str, Any]) -> CostCurve:
    return CostCurve(tuple(map(int, data["counts"])), tuple(map(float, data["seconds"])))
