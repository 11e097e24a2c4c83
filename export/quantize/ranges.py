"""What range of numbers each tensor holds, seen while a decoder runs on real frames.

``minmax`` takes all that was seen. ``percentile`` leaves out a share of the numbers at either end, which are
clipped: a step gets smaller for all others, and it is in the pauses of speech that steps are heard.
``entropy`` chooses the share for each tensor, so that the distribution of the rounded numbers tells as much
as possible about that of the exact ones ([1] Migacz, "8-bit Inference with TensorRT", 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import onnx

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export.quantize.scheme import Range
from balacoon_tk.runtime.session import Session

CalibrationMethod = Literal["minmax", "percentile", "entropy"]

_N_BINS = 4096
_N_LEVELS = 256
_SHARES = (0.0, 1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3)
"""Of the numbers at either end, that `entropy` tries to leave out."""
_MAX_WINDOW = 128  # frames; every tensor of a window is held at once


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often a tensor held which numbers."""

    low: float
    high: float
    counts: AnyArray
    """In bins of equal width from `low` to `high`."""

    def share_range(self, share: float) -> Range:
        """Return the range that leaves out a share of the numbers at either end."""
        if not share or self.high <= self.low:
            return Range(self.low, self.high)
        below = np.cumsum(self.counts) / self.counts.sum()
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        first = int(np.searchsorted(below, share, side="right"))
        last = int(np.searchsorted(below, 1.0 - share, side="left"))
        return Range(float(edges[min(first, last)]), float(edges[max(first, last) + 1]))


def collect_histograms(
    model: onnx.ModelProto,
    utterances: Sequence[Mapping[str, AnyArray]],
    names: Sequence[str],
    *,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Histogram]:
    """Run a decoder and count the numbers in some of its tensors.

    Parameters
    ----------
    model : ModelProto
        The decoder without state.
    utterances : sequence of mapping of str to ndarray
        Its inputs, time on the last axis; the middle of long ones is taken.
    names : sequence of str
        The tensors to look at.
    progress : callable, optional
        Called with the share that is done.

    Raises
    ------
    ModelError
        If a tensor holds NaN or infinity.
    """
    look = _Look(model, names)
    bounds: dict[str, tuple[float, float]] = {}
    counts: dict[str, AnyArray] = {}
    for k, utterance in enumerate((*utterances, *utterances)):
        if progress is not None:
            progress(k / (2 * len(utterances)))
        for name, array in look.at(utterance).items():
            if k < len(utterances):
                low, high = bounds.get(name, (np.inf, -np.inf))
                bounds[name] = min(low, float(array.min())), max(high, float(array.max()))
            else:
                found, _ = np.histogram(array, _N_BINS, bounds[name])
                counts[name] = counts.get(name, 0) + found
    return {name: Histogram(*bounds[name], counts[name]) for name in counts}


def collect_extents(
    model: onnx.ModelProto, utterances: Sequence[Mapping[str, AnyArray]], names: Sequence[str]
) -> dict[str, AnyArray]:
    """Run a decoder and see how far each channel of some of its tensors goes from zero.

    Parameters
    ----------
    model, utterances
        As for `collect_histograms`.
    names : sequence of str
        Tensors with the channels on their second axis.

    Returns
    -------
    dict of str to ndarray of shape (n_channels,)
        The largest number of a channel, averaged over the utterances.

    Raises
    ------
    ModelError
        If a tensor holds NaN or infinity.
    """
    look = _Look(model, names)
    totals: dict[str, AnyArray] = {}
    for utterance in utterances:
        for name, array in look.at(utterance).items():
            largest = np.abs(array).max(axis=tuple(axis for axis in range(array.ndim) if axis != 1))
            totals[name] = totals.get(name, 0) + largest / len(utterances)
    return totals


def choose_range(histogram: Histogram, method: CalibrationMethod, *, share: float = 1e-4) -> Range:
    """Choose the range of a tensor.

    Parameters
    ----------
    histogram : Histogram
    method : {"minmax", "percentile", "entropy"}
    share : float
        In [0, 0.5): what ``percentile`` leaves out at either end.

    Raises
    ------
    ParameterError
        If there is no such method, or `share` is out of its range.
    """
    if method not in get_args(CalibrationMethod):
        raise ParameterError(f"method={method!r} must be one of {', '.join(get_args(CalibrationMethod))}")
    if not 0 <= share < 0.5:
        raise ParameterError(f"share={share} must be in [0, 0.5)")
    if method == "minmax":
        return histogram.share_range(0.0)
    if method == "percentile":
        return histogram.share_range(share)
    ranges = [histogram.share_range(each) for each in _SHARES]
    return min(ranges, key=lambda chosen: _divergence(histogram, chosen))


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


class _Look:
    """A decoder that gives some of its tensors as well."""

    def __init__(self, model: onnx.ModelProto, names: Sequence[str]) -> None:
        exposed = onnx.ModelProto()
        exposed.CopyFrom(model)
        present = {output.name for output in model.graph.output} | {value.name for value in model.graph.input}
        exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
        self._session, self._names = Session(exposed), names
        self._made = [name for name in names if name in self._session.outputs]

    def at(self, utterance: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """Return the tensors, in the middle of an utterance; none holds NaN or infinity."""
        feeds = self._window(utterance)
        made = self._session.run(feeds, self._made) if self._made else {}
        arrays = {**made, **{name: feeds[name] for name in self._names if name in feeds}}
        for name, array in arrays.items():
            if not np.isfinite([array.min(), array.max()]).all():
                raise ModelError(f"tensor {name!r} holds NaN or infinity")
        return arrays

    def _window(self, utterance: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        inputs = self._session.inputs
        moving = [name for name, spec in inputs.items() if spec.shape and not isinstance(spec.shape[-1], int)]
        n_frames = min(utterance[name].shape[-1] for name in moving)
        start = max(0, (n_frames - _MAX_WINDOW) // 2)
        return {
            name: np.ascontiguousarray(array[..., start : start + _MAX_WINDOW]) if name in moving else array
            for name, array in utterance.items()
            if name in inputs
        }
