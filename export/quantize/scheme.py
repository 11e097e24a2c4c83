"""How numbers are stored as bytes: steps, zero points, and rounding weights to them.

A tensor of activations ``x`` is kept as unsigned bytes ``q``, with one scale ``s`` and zero point ``z``, and
a kernel as signed ones, symmetric, with a scale for each output channel ([1] Jacob et al., "Quantization
and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, section 2)::

    x = s (q - z)        w = s_k q        s_bias = s s_k

Bytes times signed bytes is what x86 multiplies fastest, and padding with ``z`` is padding with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ParameterError

_LEVELS = 255
_NARROWEST = 1e-30  # a tensor of zeros needs a step as well
_LARGEST_WEIGHT = 127  # of signed bytes; -128 has no counterpart


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that a tensor of activations may hold; larger ones are clipped."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Check the bounds."""
        if not (np.isfinite([self.low, self.high]).all() and self.low <= self.high):
            raise ParameterError(f"range {self.low} to {self.high} must be finite and in order")

    @property
    def scale(self) -> np.float32:
        """The step between two neighbouring numbers; zero is always one of the numbers."""
        width = max(self.high, 0.0) - min(self.low, 0.0)
        return np.float32(max(width, _NARROWEST) / _LEVELS)

    @property
    def zero_point(self) -> np.uint8:
        """The byte that stands for zero."""
        return np.uint8(np.clip(np.rint(-min(self.low, 0.0) / self.scale), 0, _LEVELS))


def quantize_kernel(weight: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Round a kernel to signed bytes.

    Parameters
    ----------
    weight : ndarray of shape (n_out, ...), float32

    Returns
    -------
    kernel : ndarray of the same shape, int8
    scales : ndarray of shape (n_out,), float32
    """
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    scales = np.where(largest > 0, largest / _LARGEST_WEIGHT, 1.0).astype(np.float32)
    steps = weight / scales.reshape(-1, *[1] * (weight.ndim - 1))
    return np.clip(np.rint(steps), -_LARGEST_WEIGHT, _LARGEST_WEIGHT).astype(np.int8), scales


def quantize_bias(bias: AnyArray, scales: AnyArray) -> AnyArray:
    """Round a bias to the steps of the sums that it is added to, as int32."""
    limits = np.iinfo(np.int32)
    steps = np.rint(bias.astype(np.float64) / scales.astype(np.float64))
    return np.clip(steps, limits.min, limits.max).astype(np.int32)
