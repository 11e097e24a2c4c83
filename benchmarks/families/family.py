"""What is said of a decoder: how to build it, and what it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of decoder."""

    name: str
    what: str
    """What it is made of that others aren't."""
    build: Callable[[bool], nn.Module]
    """Makes it with random weights, as large as published or tiny; the seed is set before."""
    example: Callable[[int, bool], Mapping[str, Tensor]]
    """Inputs of a number of frames, for a large one or a tiny one, in the order of the module's arguments."""
    time_axes: Mapping[str, int] = field(default_factory=lambda: {"frames": 2})
