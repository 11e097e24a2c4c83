"""Convolutions in int8 that the native engine makes in pairs of steps, with a third fewer products.

An input of 7 bits and kernels whose taps, three by three, have even sums are what that needs, and then all
sums are the same (`balacoon_tk.runtime.native.bundles.can_pair_bytes`). A voice is made so where it is
quantized.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.match import constant_of, ints_of
from balacoon_tk.runtime.native.bundles import FEWEST_IN_PAIRS_OF_BYTES, PAIRED_TAPS
from balacoon_tk.targets.native.operators.windows import can_round

# What a step more in one tap and rounding leave within 127, for each tap and for half of a sum of three.
_LARGEST = 126


def can_pair(node: ir.Node) -> bool:
    """Return whether a node is a convolution that could be made in pairs of steps in int8."""
    weights = constant_of(node, 1)
    return (
        can_round(node)
        and node.op_type == "Conv"
        and ints_of(node, "strides", [1]) == [1]
        and weights is not None
        and weights.shape[1] >= FEWEST_IN_PAIRS_OF_BYTES
        and weights.shape[2] >= PAIRED_TAPS
    )


def quantize_even(weight: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Round a kernel (n_out, n_in, n_taps) to int8 by filters' scales (n_out,): threes have even sums.

    Where the nearest numbers have an odd sum, the tap that is farthest from its own takes the next one. A
    rest of two taps is treated alike; one tap is free.
    """
    parts = [weight[..., start : start + PAIRED_TAPS] for start in range(0, weight.shape[2], PAIRED_TAPS)]
    largest = np.abs(weight).max(axis=(1, 2))
    for part in parts:
        outer = np.abs(part[..., 0] + part[..., -1]) if part.shape[2] > 1 else np.zeros(part.shape[:2])
        middle = np.abs(part[..., 1]) if part.shape[2] == PAIRED_TAPS else 0
        largest = np.maximum(largest, ((outer + middle) / 2).max(axis=1))
    scales = np.where(largest > 0, largest / _LARGEST, 1.0).astype(np.float32)
    rounded = []
    for part in parts:
        steps = part / scales[:, np.newaxis, np.newaxis]
        nearest = np.rint(steps)
        if part.shape[2] > 1:
            left = steps - nearest
            farthest = np.abs(left).argmax(axis=2)[..., np.newaxis]
            toward = np.where(np.take_along_axis(left, farthest, 2) < 0, -1, 1)
            moved = np.take_along_axis(nearest, farthest, 2) + toward
            odd = nearest.sum(axis=2, keepdims=True) % 2 == 1
            np.put_along_axis(
                nearest, farthest, np.where(odd, moved, np.take_along_axis(nearest, farthest, 2)), 2
            )
        rounded.append(nearest)
    return np.concatenate(rounded, axis=2).astype(np.int8), scales
