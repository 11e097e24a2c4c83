"""Write a rational-quadratic spline for all positions at once, where an exporter masks and scatters.

The flows of VITS's stochastic duration predictor invert a monotonic spline inside of [-bound, bound]
and leave what lies outside of it. In torch that is done by boolean masks, which an exporter turns into
about 260 nodes a flow: positions gathered, computed and scattered back, knots set by ranges and indices.
Here every position is computed, and those outside are left by a choice at the end:

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
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.edit import FAR, Names, Writer
from balacoon_tk.graph.match import constant_of, scalar_of
from balacoon_tk.graph.walk import ancestors, descendants
from balacoon_tk.targets.ort_cpu.passes.base import RewritePass

# Least width, height and derivative of a bin, in [1] and in every VITS.
_MIN_BIN = 1e-3
# Of a bin: y at both ends, the derivatives at both (before their softplus), sizes, and x. Their order lets
# `_inverse_in_bin` take both ends, and both derivatives, in one piece.
_LOW, _HIGH, _RISE_HIGH, _RISE_LOW, _TWICE_HEIGHT, _WIDTH, _LEFT = range(7)
_NUMBERS = 7
_COMPARES = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual"})


class _Spline(NamedTuple):
    """One flow's spline, as it is found."""

    # What the convolution reads that gives widths, heights and inner derivatives.
    source: ir.Value | None
    # Of that convolution, for 3 n_bins - 1 channels.
    weight: AnyArray
    bias: AnyArray | None
    # Shape (1, 1, T): what is inverted.
    y: ir.Value
    # Its inverse.
    x: ir.Value
    n_bins: int
    bound: float
    # Of widths and heights before their softmax.
    divisor: float


class DenseSplinePass(RewritePass):
    """Rewrite each inverse spline between a convolution and the join of a coupling layer."""

    def _rewrite(self, node: ir.Node, graph: ir.Graph, names: Names) -> bool:
        spline = self._match(graph, node)
        producer = None if spline is None else spline.x.producer()
        if spline is None or producer is None:
            return False
        write = Writer(graph, names, f"{spline.x.name}.spline")
        x = _inverse(write, spline)
        graph.insert_before(producer, write.nodes)
        spline.x.replace_all_uses_with(x)
        return True

    def _match(self, graph: ir.Graph, node: ir.Node) -> _Spline | None:
        weight = constant_of(node, 1) if node.op_type == "Conv" else None
        if weight is None or weight.ndim != 3 or weight.shape[2] != 1:
            return None
        n_bins, rest = divmod(weight.shape[0] + 1, 3)
        if rest or n_bins < 2:
            return None
        parameters = node.outputs[0]
        behind = descendants(graph, [parameters])
        joins = (other for other in graph if other.op_type == "Concat" and len(other.inputs) == 2)
        joined = (value for join in joins for value in join.inputs if value in behind and self._is_row(value))
        x = next(joined, None)
        if x is None:
            return None
        # No single node tells a spline. What lies between the parameters and the join does, as a whole: it
        # has two softmaxes over bins, and compares one row with one bound; the row alone is also made before.
        before = ancestors([parameters])
        between = [value.producer() for value in ancestors([x], stop=before) - before]
        nodes = [n for n in between if n is not None and (n.outputs[0] in behind or n.op_type in _COMPARES)]
        compared = [n for n in nodes if n.op_type in _COMPARES and self._is_row(n.inputs[0])]
        bounds = {abs(number) for n in compared if (number := scalar_of(n, 1)) is not None}
        sources = {n.inputs[0] for n in compared if scalar_of(n, 1) is not None}
        divisors = {number for n in nodes if n.op_type == "Div" and (number := scalar_of(n, 1)) is not None}
        softmaxes = [self.shapes_of(n.outputs[0]) for n in nodes if n.op_type == "Softmax"]
        if len(softmaxes) != 2 or any(not shapes or shapes[0][-1] != n_bins for shapes in softmaxes):
            return None
        if len(bounds) != 1 or len(sources) != 1 or len(divisors) > 1 or 0.0 in bounds:
            return None
        (y,), bound = sources, bounds.pop()
        if y is None:
            return None
        divisor = divisors.pop() if divisors else 1.0
        return _Spline(node.inputs[0], weight, constant_of(node, 2), y, x, n_bins, bound, divisor)

    def _is_row(self, value: ir.Value | None) -> bool:
        shapes = self.shapes_of(value)
        return bool(shapes) and all(len(shape) == 3 and shape[:2] == (1, 1) for shape in shapes)


def _inverse(write: Writer, spline: _Spline) -> ir.Value:
    """Write the inverse for all positions; return it as (1, 1, T)."""
    n = spline.n_bins
    weight, bias = _scaled(spline)
    parameters = write.one("Conv", spline.source, write.constant(weight), write.constant(bias))
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


def _scaled(spline: _Spline) -> tuple[AnyArray, AnyArray]:
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
