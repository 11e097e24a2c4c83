"""Weights that are other weights in another order: flipped, transposed, cut into phases.

Passes lay kernels out as a processor's kernels read them: a matrix transposed, a transposed convolution by
its phases, two halves of a convolution one below the other. Whatever the pass, the result is a strided view
of the trained tensor, which is found here from the two arrays alone, so that no pass has to tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_AXES = 6
_ENOUGH = 0.6
"""Share of steps that must break at a period. At half the true one, or a third, at most half of them do; at
the true one all, but where an outer axis happens to go on by the same stride, or weights occur twice."""


@dataclass(frozen=True, slots=True)
class View:
    """The same numbers, read in another order: reshape, flip, then transpose."""

    shape: tuple[int, ...]
    """Of the source."""
    flipped: tuple[int, ...]
    """Axes that are read backwards."""
    order: tuple[int, ...]
    """Of the axes, as `numpy.transpose` takes them."""

    def of(self, source: NDArray[Any]) -> NDArray[Any]:
        """Return the numbers of a flat array in this order, flat again."""
        return np.flip(source.reshape(self.shape), self.flipped).transpose(self.order).reshape(-1)


def find_view(source: NDArray[np.uint32], wanted: NDArray[np.uint32]) -> View | None:
    """Return how one flat array reads as another, or None where no order of axes explains it.

    Numbers that occur twice are told apart by no sort, so the strides are those that nearly all numbers
    follow, and the view counts only if it then gives every bit.
    """
    if len(source) != len(wanted) or not np.array_equal(np.sort(source), np.sort(wanted)):
        return None
    positions = np.empty(len(wanted), np.int64)
    positions[np.argsort(wanted, kind="stable")] = np.argsort(source, kind="stable")
    axes = list(_find_axes(positions))  # from the innermost out
    by_stride = sorted(range(len(axes)), key=lambda axis: -abs(axes[axis][1]))
    shape = tuple(axes[axis][0] for axis in by_stride)
    strides = [abs(axes[axis][1]) for axis in by_stride]
    # Of weights that were rounded most numbers occur often, and the axes that are found may be none.
    if math.prod(shape) != len(source) or strides != [math.prod(shape[k + 1 :]) for k in range(len(shape))]:
        return None
    flipped = tuple(k for k, axis in enumerate(by_stride) if axes[axis][1] < 0)
    view = View(shape, flipped, tuple(by_stride.index(axis) for axis in reversed(range(len(axes)))))
    return view if np.array_equal(view.of(source), wanted) else None


def _find_axes(positions: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield length and stride of each axis, from the innermost out."""
    for _ in range(_MOST_AXES):
        if len(positions) == 1:
            return
        steps = np.diff(positions)
        values, counts = np.unique(steps, return_counts=True)
        stride = int(values[counts.argmax()])
        periods = (n for n in _divisors(len(positions)) if (steps[n - 1 :: n] != stride).mean() > _ENOUGH)
        length = next(periods, len(positions))
        yield length, stride
        # The middle of each run stands for it; where it starts follows from the other axes.
        positions = positions.reshape(-1, length)[:, length // 2]


def _divisors(n: int) -> list[int]:
    """Return the divisors of a number, but for 1 and itself, in order."""
    small = [d for d in range(2, math.isqrt(n) + 1) if n % d == 0]
    return sorted({*small, *(n // d for d in small)})
