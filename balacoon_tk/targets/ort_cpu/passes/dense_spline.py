"""Write a rational-quadratic spline for all positions at once, where an exporter masks and scatters.

Every position is computed, and those outside are left by a choice at the end:

1. All that a position may need of its bin stands in one table: y at both ends, both derivatives, twice the
   height, the width, and x at the left. It is one product of the softmax and the derivatives as the
   convolution gives them, with a matrix of triangles and ones; a derivative at a bound is a constant.
2. The bin's number is how many of the inner knots y has passed; its seven numbers are gathered at once.
3. Only the derivatives gathered go through their softplus.
4. With a and b the distances of y from the lower and the upper end of a bin of width w and height h,
   between derivatives d and e, the inverse is (equations 6 to 8 of [1], in the bin's own units)::

       r = (d b - e a) / (2 h)
       x = left + a / (r + a / w + Sqrt(r^2 + a b / w^2))

([1] Durkan et al., "Neural Spline Flows", 2019, section 3.1; [2] Kim et al. 2021, appendix B.)
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.edit import FAR, Names, Writer
from balacoon_tk.graph.shaped import RewritePass
from balacoon_tk.graph.spelled_out.spline import Spline, find_spline

# Least width, height and derivative of a bin, in [1] and in every VITS.
_MIN_BIN = 1e-3
# Of a bin: y at both ends, the derivatives at both (before their softplus), sizes, and x. Their order lets
# `_inverse_in_bin` take both ends, and both derivatives, in one piece.
_LOW, _HIGH, _RISE_HIGH, _RISE_LOW, _TWICE_HEIGHT, _WIDTH, _LEFT = range(7)
_NUMBERS = 7


class DenseSplinePass(RewritePass):
    """Rewrite each inverse spline between a convolution and the join of a coupling layer."""

    def _rewrite(self, node: ir.Node, graph: ir.Graph, names: Names) -> bool:
        spline = find_spline(graph, node, self._shapes)
        producer = None if spline is None else spline.x.producer()
        if spline is None or producer is None:
            return False
        write = Writer(graph, names, f"{spline.x.name}.spline")
        x = _inverse(write, spline)
        graph.insert_before(producer, write.nodes)
        spline.x.replace_all_uses_with(x)
        return True


def _inverse(write: Writer, spline: Spline) -> ir.Value:
    """Write the inverse for all positions; return it as (1, 1, T)."""
    n = spline.n_bins
    weight, bias = _scaled(spline)
    parameters = write.one("Conv", spline.parameters.inputs[0], write.constant(weight), write.constant(bias))
    rows = write.one("Transpose", parameters, perm=[0, 2, 1])
    given = write.one("Reshape", rows, write.ints(-1, 3 * n))
    shares = write.one("Softmax", write.one("Reshape", rows, write.ints(-1, n)), axis=-1)
    shares = write.one("Reshape", shares, write.ints(-1, 3 * n))
    to_bins, at_zero = _to_bins(n, spline.bound)
    bins = write.one("Concat", shares, given, axis=1)
    bins = write.one("Gemm", bins, write.constant(to_bins), write.constant(at_zero))

    y = write.one("Reshape", spline.y, write.ints(-1, 1))
    one, size = write.ints(1), write.ints(_NUMBERS)
    knots = write.one("Slice", bins, write.ints(_NUMBERS + _LOW), write.ints(FAR), one, size)
    passed = write.one("Cast", write.one("GreaterOrEqual", y, knots), to=int(ir.DataType.INT64))
    number = write.one("ReduceSum", passed, one, keepdims=1)
    bins = write.one("Reshape", bins, write.ints(-1, n, _NUMBERS))
    own = write.one("GatherND", bins, number, batch_dims=1)
    # Outside of the bound the spline is the identity.
    inside = write.one("LessOrEqual", write.one("Abs", y), write.floats(spline.bound))
    x = write.one("Where", inside, _inverse_in_bin(write, y, own), y)
    return write.one("Reshape", x, write.ints(1, 1, -1))


def _inverse_in_bin(write: Writer, y: ir.Value, own: ir.Value) -> ir.Value:
    """Write the inverse of each position in its own bin (case 4)."""
    sizes = write.ints(2, 2, 1, 1, 1)
    ends, slopes, twice_height, width, left = write.op("Split", own, sizes, n_outputs=5, axis=1)
    ends = write.one("Sub", ends, y)  # -a and b
    slopes = write.one("Add", write.one("Softplus", slopes), write.floats(_MIN_BIN))  # e and d
    r = write.one("ReduceSum", write.one("Mul", ends, slopes), write.ints(1), keepdims=1)
    r = write.one("Div", r, twice_height)
    ends = write.one("Div", ends, width)
    below, above = write.op("Split", ends, write.ints(1, 1), n_outputs=2, axis=1)
    root = write.one("Sub", write.one("Mul", r, r), write.one("Mul", below, above))
    divisor = write.one("Sub", write.one("Add", r, write.one("Sqrt", root)), below)
    return write.one("Sub", left, write.one("Mul", width, write.one("Div", below, divisor)))


def _scaled(spline: Spline) -> tuple[AnyArray, AnyArray]:
    """Return weights and bias that give widths and heights as the softmax wants them, and derivatives."""
    n, dtype = spline.n_bins, spline.weight.dtype
    # The last row is nobody's: with it, all three have as many.
    rows, bias = np.zeros((3 * n, *spline.weight.shape[1:])), np.zeros(3 * n)
    rows[:-1] = spline.weight
    bias[:-1] = 0 if spline.bias is None else spline.bias
    rows[: 2 * n] /= spline.divisor
    bias[: 2 * n] /= spline.divisor
    return rows.astype(dtype), bias.astype(dtype)


def _to_bins(n_bins: int, bound: float) -> tuple[AnyArray, AnyArray]:
    """Return the matrix from softmax and derivatives to the bins' numbers, and what these are for zeros."""
    span = 2 * bound
    share = span * (1 - _MIN_BIN * n_bins)
    matrix = np.zeros((2, 3, n_bins, n_bins, _NUMBERS))
    at_zero = np.zeros((n_bins, _NUMBERS))
    (widths, heights, _), (_, _, derivatives) = matrix
    inner = np.arange(n_bins)
    for end, sizes in ((_LEFT, widths), (_LOW, heights), (_HIGH, heights)):
        n_before = inner + (end == _HIGH)
        sizes[:, :, end] = np.where(inner[:, None] < n_before, share, 0)
        at_zero[:, end] = span * _MIN_BIN * n_before - bound
    for size, sizes, factor in ((_WIDTH, widths, 1), (_TWICE_HEIGHT, heights, 2)):
        sizes[inner, inner, size] = share * factor
        at_zero[:, size] = span * _MIN_BIN * factor
    derivatives[inner[:-1], inner[:-1], _RISE_HIGH] = derivatives[inner[:-1], inner[1:], _RISE_LOW] = 1
    # A derivative of 1 at the bounds, where the spline goes over into the identity.
    at_zero[-1, _RISE_HIGH] = at_zero[0, _RISE_LOW] = math.log(math.exp(1 - _MIN_BIN) - 1)
    return matrix.reshape(6 * n_bins, -1).astype(np.float32), at_zero.reshape(-1).astype(np.float32)
