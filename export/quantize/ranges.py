"""What range of numbers each tensor holds, seen while a decoder runs on real frames.

``minmax`` takes all that was seen. ``percentile`` leaves out a share of the numbers at either end, which are
clipped: a step gets smaller for all others, and it is in the pauses of speech that steps are heard.
``entropy`` chooses the share for each tensor, so that the distribution of the rounded numbers tells as much
as possible about that of the exact ones ([1] Migacz, "8-bit Inference with TensorRT", 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import onnx

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.graph.int8 import Range
from balacoon_tk.runtime.engine import Feeds
from balacoon_tk.runtime.session import Session

CalibrationMethod = Literal["minmax", "percentile", "entropy"]

_N_BINS = 4096
_N_LEVELS = 256
# Of the numbers at either end, that `entropy` tries to leave out.
_SHARES = (0.0, 1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3)
# Frames; every tensor of a window is held at once.
_MAX_WINDOW = 128


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often a tensor held which numbers: counts in bins of equal width."""

    low: float
    high: float
    counts: AnyArray

    def share_range(self, share: float) -> Range:
        """Return the range that leaves out a share of the numbers at either end."""
        # Of a constant tensor all numbers are in one bin, which has no width to leave anything out of.
        if not share or self.high <= self.low:
            return Range(self.low, self.high)
        below = np.cumsum(self.counts) / self.counts.sum()
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        first = int(np.searchsorted(below, share, side="right"))
        last = int(np.searchsorted(below, 1.0 - share, side="left"))
        return Range(float(edges[min(first, last)]), float(edges[max(first, last) + 1]))


def collect_histograms(
    model: onnx.ModelProto,
    utterances: Sequence[Feeds],
    names: Sequence[str],
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Histogram]:
    """Run a decoder and count the numbers in some of its tensors, which must all be finite."""
    bounds: dict[str, tuple[float, float]] = {}
    counts: dict[str, AnyArray] = {}
    # Twice, since bins need the bounds first, and all tensors of all utterances are too large to keep.
    for k, arrays in enumerate(_look(model, [*utterances, *utterances], names)):
        progress(k / (2 * len(utterances)))
        for name, array in arrays.items():
            if k < len(utterances):
                low, high = bounds.get(name, (np.inf, -np.inf))
                bounds[name] = min(low, float(array.min())), max(high, float(array.max()))
            else:
                counts[name] = counts.get(name, 0) + np.histogram(array, _N_BINS, bounds[name])[0]
    return {name: Histogram(*bounds[name], counts[name]) for name in counts}


def collect_extents(
    model: onnx.ModelProto, utterances: Sequence[Feeds], names: Sequence[str]
) -> dict[str, AnyArray]:
    """Run a decoder and return the largest number of each channel, averaged over utterances.

    The tensors have their channels on the second axis; the numbers must all be finite.
    """
    totals: dict[str, AnyArray] = {}
    # The mean and not the largest of all: one loud moment would decide for all others.
    for arrays in _look(model, utterances, names):
        for name, array in arrays.items():
            largest = np.abs(array).max(axis=tuple(axis for axis in range(array.ndim) if axis != 1))
            totals[name] = totals.get(name, 0) + largest / len(utterances)
    return totals


def choose_range(histogram: Histogram, method: CalibrationMethod, *, share: float = 1e-4) -> Range:
    """Choose the range of a tensor; `share`, in [0, 0.5), is what ``percentile`` leaves out at either end."""
    if method not in get_args(CalibrationMethod):
        raise ParameterError(f"method={method!r} must be one of {', '.join(get_args(CalibrationMethod))}")
    if not 0 <= share < 0.5:
        raise ParameterError(f"share={share} must be in [0, 0.5)")
    if method == "entropy":
        return min(map(histogram.share_range, _SHARES), key=lambda chosen: _divergence(histogram, chosen))
    return histogram.share_range(share if method == "percentile" else 0.0)


def _divergence(histogram: Histogram, chosen: Range) -> float:
    """Return the Kullback-Leibler divergence of the rounded numbers from the exact ones, in nats."""
    centres = np.linspace(histogram.low, histogram.high, 2 * len(histogram.counts) + 1)[1::2]
    steps = np.clip(np.rint(centres / chosen.scale) + int(chosen.zero_point), 0, _N_LEVELS - 1).astype(int)
    exact = histogram.counts / histogram.counts.sum()
    seen = exact > 0
    # Each step gives its mass back to the bins that it is nearest to, those beyond the range excepted.
    inside = seen & (centres >= chosen.low) & (centres <= chosen.high)
    mass = np.bincount(steps, exact, _N_LEVELS)
    n_bins = np.bincount(steps[inside], minlength=_N_LEVELS)
    rounded = np.where(inside, mass[steps] / np.maximum(n_bins[steps], 1), 1e-12)
    return float((exact[seen] * np.log(exact[seen] / np.maximum(rounded[seen], 1e-12))).sum())


def _look(
    model: onnx.ModelProto, utterances: Sequence[Feeds], names: Sequence[str]
) -> Iterator[dict[str, AnyArray]]:
    """Run a decoder on the middle of each utterance and yield some of its tensors."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    present = {value.name for value in (*model.graph.output, *model.graph.input)}
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    session = Session(exposed)
    # ONNX Runtime gives no inputs back: those that are asked for are taken from what it is fed.
    made = [name for name in names if name in session.outputs]
    inputs = session.inputs
    moving = [name for name, spec in inputs.items() if spec.shape and not isinstance(spec.shape[-1], int)]
    for utterance in utterances:
        # The middle, because speech begins and ends with silence.
        start = max(0, (min(utterance[name].shape[-1] for name in moving) - _MAX_WINDOW) // 2)
        feeds = {name: array for name, array in utterance.items() if name in inputs}
        for name in moving:
            feeds[name] = np.ascontiguousarray(feeds[name][..., start : start + _MAX_WINDOW])
        arrays = session.run(feeds, made) if made else {}
        arrays |= {name: feeds[name] for name in names if name in feeds}
        for name, array in arrays.items():
            if not np.isfinite([array.min(), array.max()]).all():
                raise ModelError(f"tensor {name!r} holds NaN or infinity")
        yield arrays
