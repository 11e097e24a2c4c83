"""How an utterance is to be spoken: the one place that checks speed, volume and the two noises."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from balacoon_tk.errors import ParameterError
from balacoon_tk.manifest import ProsodyDefaults

__all__ = ["Prosody"]

_SPEEDS = (0.1, 10.0)
_VOLUMES = (0.0, 10.0)
_NOISES = (0.0, 10.0)  # in trained standard deviations; far below this limit speech has become noise


@dataclass(frozen=True, slots=True)
class Prosody:
    """Settings of one utterance, checked."""

    length_scale: float
    """Factor on every duration."""
    noise_scale: float
    """Standard deviation of the prior's noise, relative to the trained one."""
    noise_w: float
    """Standard deviation of the duration predictor's noise."""
    volume: float
    """Factor on every sample."""

    @classmethod
    def choose(
        cls,
        defaults: ProsodyDefaults,
        *,
        speed: float = 1.0,
        volume: float = 1.0,
        noise_scale: float | None = None,
        noise_w: float | None = None,
    ) -> Self:
        """Take what the caller gave, and the voice's own settings where that is None.

        Parameters
        ----------
        defaults : ProsodyDefaults
            The voice's own settings.
        speed : float
            1 is the voice's own, 2 twice as fast; in [0.1, 10].
        volume : float
            Factor on the samples, in [0, 10]; what leaves [-1, 1] saturates when it becomes int16.
        noise_scale, noise_w : float, optional
            In [0, 10]; 0 gives the most likely reading.

        Raises
        ------
        ParameterError
            If one is no number or out of its range.
        """
        return cls(
            length_scale=defaults.length_scale / _within("speed", speed, _SPEEDS),
            noise_scale=_within(
                "noise_scale", defaults.noise_scale if noise_scale is None else noise_scale, _NOISES
            ),
            noise_w=_within("noise_w", defaults.noise_w if noise_w is None else noise_w, _NOISES),
            volume=_within("volume", volume, _VOLUMES),
        )


def _within(name: str, value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    try:
        number = math.nan if isinstance(value, (str, bool)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not low <= number <= high:
        raise ParameterError(f"{name}={value!r} must be a number in [{low:g}, {high:g}]")
    return number
