"""Tensors as the compiler sees them: values that stages make, and views of them, which move nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.int8 import Step
from balacoon_tk.runtime.native.program import Padding
from balacoon_tk.targets.native.drafts import TILE, Draft


@dataclass(eq=False)
class Value:
    """A tensor: computed in a stage, or an input of the program."""

    n_channels: int
    rate: Fraction
    timeless: bool
    draft: Draft | None = None
    number: int = TILE
    edge: int | None = None
    rounded: dict[Step, int] = field(default_factory=dict)  # edges that hold it in bytes
    # Edges that hold it padded with steps of its own, each in one way.
    padded: dict[tuple[Padding, int, int], int] = field(default_factory=dict)

    @property
    def index(self) -> int:
        """Of the stage that makes it; -1 of an input."""
        return -1 if self.draft is None else self.draft.index


@dataclass(frozen=True, eq=False)
class Windows:
    """What a view has for channels where one step of it is a window of its base.

    base      0 1 2 3 4 5 6 7 ...       stride 3, size 5
    step 0    0 1 2 3 4
    step 1          3 4 5 6 7
    """

    stride: int
    """Steps of the base from one window to the next."""
    size: int
    """Steps of the base that a window takes, those included that no channel is of."""
    steps: AnyArray
    """For each channel of the view, the step within the window."""


@dataclass(frozen=True, eq=False)
class View:
    """Channels of values, in any order."""

    bases: tuple[Value, ...]
    which: AnyArray  # for each channel the base it is of
    channels: AnyArray  # and its channel there
    pads: tuple[int, int] = (0, 0)
    """Steps in front and behind, for whoever reads a window of it."""
    padding: Padding = "constant"
    """What these are: zeros, or steps of its own."""
    windows: Windows | None = None
    """Where its channels are those of several steps of its base."""

    @classmethod
    def of(cls, value: Value) -> View:
        """Return a view of all of a value."""
        n = value.n_channels
        return cls((value,), np.zeros(n, np.int64), np.arange(n))

    @property
    def n_channels(self) -> int:
        """Channels of the view."""
        return len(self.channels)

    @property
    def timeless(self) -> bool:
        """Whether nothing of it has time."""
        return all(base.timeless for base in self.bases)

    @property
    def rate(self) -> Fraction:
        """Steps for a frame."""
        rate = next((base.rate for base in self.bases if not base.timeless), Fraction(1))
        return rate if self.windows is None else rate / self.windows.stride

    @property
    def whole(self) -> Value | None:
        """The value that it is all of, in order; None if it is another view."""
        base = self.bases[0]
        same = len(self.bases) == 1 and base.n_channels == self.n_channels and self.windows is None
        return base if same and np.array_equal(self.channels, np.arange(self.n_channels)) else None

    @property
    def parts(self) -> tuple[tuple[int, int], ...]:
        """The ranges of channels that are each all of a value, where one convolution was made as several.

        Else none.
        """
        first = self.bases[0]
        drafts = [base.draft for base in self.bases]
        if len(drafts) == 1 or any(draft is None or draft.stage.kind != "convolve" for draft in drafts):
            return ()
        ends = np.cumsum([base.n_channels for base in self.bases]).tolist()
        starts = [0, *ends[:-1]]
        in_order = np.concatenate([np.arange(base.n_channels) for base in self.bases])
        if not np.array_equal(self.channels, in_order) or [base.index for base in self.bases] != list(
            range(first.index, first.index + len(drafts))
        ):
            return ()
        return tuple(zip(starts, ends, strict=True))

    def take(self, order: AnyArray) -> View:
        """Return some of the channels."""
        which, channels = self.which[order], self.channels[order]
        used = sorted(set(which.tolist()))
        number = {base: k for k, base in enumerate(used)}
        return replace(
            self,
            bases=tuple(self.bases[k] for k in used),
            which=np.array([number[k] for k in which.tolist()], np.int64),
            channels=channels,
            windows=None if self.windows is None else replace(self.windows, steps=self.windows.steps[order]),
        )


def concatenate(views: Sequence[View]) -> View:
    """Return the channels of several views behind each other; all of them windows of one form, or none."""
    bases: list[Value] = []
    which: list[AnyArray] = []
    for view in views:
        places = [_place(bases, base) for base in view.bases]
        which.append(np.array(places, np.int64)[view.which])
    channels, windows = np.concatenate([view.channels for view in views]), views[0].windows
    if windows is None:
        return View(tuple(bases), np.concatenate(which), channels)
    steps = np.concatenate([view.windows.steps for view in views if view.windows is not None])
    return replace(
        views[0],
        bases=tuple(bases),
        which=np.concatenate(which),
        channels=channels,
        windows=replace(windows, steps=steps),
    )


def _place(bases: list[Value], base: Value) -> int:
    if base not in bases:
        bases.append(base)
    return bases.index(base)


Operand: TypeAlias = View | AnyArray | float
"""What a function reads: a tensor, a number for each channel, or one number."""
