"""How much of each tensor is known after so many frames, whatever the pushes were."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, lcm

import numpy as np
from numpy.typing import NDArray

from balacoon_tk.errors import ModelError
from balacoon_tk.graph.analysis import Analysis

Steps = NDArray[np.int64]
"""Known steps of a tensor after 0, 1, 2, … frames."""


class Frontiers:
    """Books of the tensors of a stateful graph.

    Where the rate falls, a push brings a step more or less depending on the phase, so the steps are
    written down frame by frame instead of being worked out from the lag.

    Parameters
    ----------
    analysis : Analysis
    """

    def __init__(self, analysis: Analysis) -> None:
        self._timelines = analysis.timelines
        self._period = lcm(*(timeline.rate.denominator for timeline in analysis.timelines.values()))
        """Frames after which the phases repeat."""
        longest = max(ceil(timeline.lag / timeline.rate) for timeline in analysis.timelines.values())
        n_frames = np.arange(8 * (max(0, longest) + self._period) + 256, dtype=np.int64)
        self.lags: dict[str, Fraction] = dict.fromkeys(analysis.inputs.axes, Fraction(0))
        """By how many steps each tensor trails ``rate * n_frames``; at the best phase, where that matters."""
        self.steps: dict[str, Steps] = {
            name: n_frames * per_frame for name, per_frame in analysis.inputs.steps_per_frame.items()
        }
        self._least: dict[str, int] = {}

    def note(self, name: str, lag: Fraction, steps: Steps) -> None:
        """Write a tensor down."""
        self.lags[name] = lag
        self.steps[name] = np.maximum(steps, 0)

    def need(self, name: str, n_steps: int) -> None:
        """Ask for a number of steps of a tensor in the first run; one is asked for of each anyway."""
        self._least[name] = max(self._least.get(name, 1), n_steps)

    def slowest(self, names: list[str]) -> Steps:
        """Return how many steps of all of some tensors are known."""
        result: Steps = np.min([self.steps[name] for name in names], axis=0)
        return result

    def pushes(self) -> tuple[int, int]:
        """Return how many frames the first run and any later one need: each brings every tensor a step.

        Raises
        ------
        ModelError
            If some tensor doesn't grow with the number of frames.
        """
        steps = np.stack(list(self.steps.values()))
        least = np.array([self._least.get(name, 1) for name in self.steps])[:, None]
        enough = np.flatnonzero((steps >= least).all(axis=0))
        first = int(enough[0]) if enough.size else steps.shape[1]
        for n_frames in range(1, steps.shape[1] - first - self._period):
            later, earlier = steps[:, first + n_frames :], steps[:, first:-n_frames]
            if (later > earlier)[:, : self._period].all():
                return first, n_frames
        raise ModelError(f"some tensor of the graph doesn't grow over {steps.shape[1]} frames")

    def trailing(self, name: str, first: int) -> int:
        """Return by how many steps a tensor trails at most, once it has begun with the `first` frames."""
        rate, steps = self._timelines[name].rate, self.steps[name]
        return max(ceil(rate * n - int(steps[n])) for n in range(first, first + self._period))
