"""Write a rational-quadratic spline for all positions at once, where an exporter masks and scatters.

The flows of VITS's stochastic duration predictor invert a monotonic spline inside of [-bound, bound]
and leave what lies outside of it. In torch that is done by boolean masks, which an exporter turns into
about 260 nodes a flow: positions gathered, computed and scattered back, knots set by ranges and indices.
Here every position is computed, and those outside are left by a choice at the end:

1. The convolution that gives widths, heights and derivatives gives the derivatives on either side of
   each bin, those at the bounds being constants, so that nothing has to be padded or sliced.
2. Left edges and sizes of all bins are one product of the softmax with a triangle of ones.
3. With ``xi`` the position inside of a bin of width w, height h and slope s = h / w, between derivatives
   d and e, the inverse of y is (equations 6 to 8 of [1], both numerator and denominator halved)::

       u = (y - y_left) s,     b = (h d - (y - y_left) (d + e - 2 s)) / 2
       a = h (s - d) + (y - y_left) (d + e - 2 s)
       xi = u / (b + Sqrt(b^2 + a u))

([1] Durkan et al., "Neural Spline Flows", 2019, section 3.1; [2] Kim et al. 2021, appendix B.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from balacoon_tk._typing import AnyArray
from balacoon_tk.export.graph.known import Shapes
from balacoon_tk.export.graph.walk import ancestors, descendants
from balacoon_tk.export.passes.edit import Names, Writer, constant_of, remove_unused, scalar_of

__all__ = ["DenseSplinePass"]

_MIN_BIN = 1e-3  # least width, height and derivative of a bin, in [1] and in every VITS
_COMPARES = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual"})


@dataclass(frozen=True, slots=True)
class _Spline:
    """One flow's spline, as it is found."""

    convolution: ir.Node
    """Gives widths, heights and inner derivatives: 3 n_bins - 1 channels."""
    y: ir.Value
    """Shape (1, 1, T): what is inverted."""
    x: ir.Value
    """Its inverse."""
    n_bins: int
    bound: float
    divisor: float
    """Of widths and heights before their softmax."""


class DenseSplinePass(InPlacePass):
    """Rewrite each inverse spline between a convolution and the join of a coupling layer.

    Parameters
    ----------
    shapes : mapping of str to sequence of tuple
        The shape of every tensor, at one length or more.
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self._shapes = shapes

    def call(self, model: ir.Model) -> PassResult:
        """Rewrite them all."""
        names = Names(model.graph)
        splines = [spline for node in model.graph if (spline := self._match(model.graph, node)) is not None]
        for spline in splines:
            _rewrite(model.graph, spline, names)
        if splines:
            remove_unused(model)
        return PassResult(model, modified=bool(splines))

    def _match(self, graph: ir.Graph, node: ir.Node) -> _Spline | None:
        weight = constant_of(node, 1) if node.op_type == "Conv" else None
        if weight is None or weight.ndim != 3 or weight.shape[2] != 1:
            return None
        n_bins, rest = divmod(weight.shape[0] + 1, 3)
        if rest or n_bins < 2:
            return None
        parameters = node.outputs[0]
        behind = descendants(graph, [parameters])
        x = next((value for value in self._joined(graph) if value in behind), None)
        if x is None:
            return None
        before = ancestors([parameters])
        between = [value.producer() for value in ancestors([x], stop=before) - before]
        nodes = [n for n in between if n is not None and (n.outputs[0] in behind or n.op_type in _COMPARES)]
        compared = [n for n in nodes if n.op_type in _COMPARES and self._is_row(n.inputs[0])]
        bounds = {abs(number) for n in compared if (number := scalar_of(n, 1)) is not None}
        sources = {n.inputs[0] for n in compared if scalar_of(n, 1) is not None}
        divisors = {number for n in nodes if n.op_type == "Div" and (number := scalar_of(n, 1)) is not None}
        softmaxes = [n.outputs[0] for n in nodes if n.op_type == "Softmax"]
        if len(softmaxes) != 2 or any(self._last_size(value) != n_bins for value in softmaxes):
            return None
        if len(bounds) != 1 or len(sources) != 1 or len(divisors) > 1 or 0.0 in bounds:
            return None
        (y,), bound = sources, bounds.pop()
        if y is None:
            return None
        return _Spline(node, y, x, n_bins, bound, divisors.pop() if divisors else 1.0)

    def _joined(self, graph: ir.Graph) -> Iterator[ir.Value]:
        """Yield the rows that coupling layers join, in the order of the graph."""
        for node in graph:
            if node.op_type == "Concat" and len(node.inputs) == 2:
                yield from (value for value in node.inputs if value is not None and self._is_row(value))

    def _last_size(self, value: ir.Value) -> int:
        shapes = self._shapes.get(value.name or "")
        return shapes[0][-1] if shapes else 0

    def _is_row(self, value: ir.Value | None) -> bool:
        shapes = None if value is None else self._shapes.get(value.name or "")
        return bool(shapes) and all(len(shape) == 3 and shape[:2] == (1, 1) for shape in shapes or ())


def _rewrite(graph: ir.Graph, spline: _Spline, names: Names) -> None:
    write = Writer(graph, names, f"{spline.x.name}.spline")
    x = _inverse(write, spline)
    producer = spline.x.producer()
    if producer is not None:
        graph.insert_before(producer, write.nodes)
    spline.x.replace_all_uses_with(x)


def _inverse(write: Writer, spline: _Spline) -> ir.Value:
    """Write the inverse for all positions; return it as (1, 1, T)."""
    n, bound = spline.n_bins, spline.bound
    weight, bias = _four_rows(spline)
    parameters = write.one("Conv", spline.convolution.inputs[0], write.constant(weight), write.constant(bias))
    rows = write.one("Transpose", parameters, perm=[0, 2, 1])
    rows = write.one("Reshape", rows, write.ints(1, -1, 4, n))
    y = write.one("Reshape", spline.y, write.ints(1, -1, 1, 1))
    sizes, slopes = write.op("Split", rows, write.ints(2, 2), n_outputs=2, axis=2)
    to_edges, at_zero = _edges(n, bound)
    edges = write.one("MatMul", write.one("Softmax", sizes, axis=-1), write.constant(to_edges))
    edges = write.one("Add", edges, write.constant(at_zero))
    edges = write.one("Reshape", edges, write.ints(1, -1, 4, n))  # left edges, widths, lower edges, heights
    slopes = write.one("Add", write.one("Softplus", slopes), write.floats(_MIN_BIN))
    bins = write.one("Concat", edges, slopes, axis=2)

    knots = write.one("Slice", edges, write.ints(2, 1), write.ints(3, n), write.ints(2, 3))
    passed = write.one("Cast", write.one("GreaterOrEqual", y, knots), to=int(ir.DataType.INT64))
    number = write.one("ReduceSum", passed, write.ints(3), keepdims=1)
    number = write.one("Expand", number, write.ints(1, 1, 6, 1))
    own = write.one("GatherElements", bins, number, axis=3)
    left, width, low, height, d, e = write.op("Split", own, write.ints(*[1] * 6), n_outputs=6, axis=2)
    x = _inverse_in_bin(write, y, left, width, low, height, d, e)
    inside = write.one("LessOrEqual", write.one("Abs", y), write.floats(bound))
    return write.one("Reshape", write.one("Where", inside, x, y), write.ints(1, 1, -1))


def _inverse_in_bin(
    write: Writer,
    y: ir.Value,
    left: ir.Value,
    width: ir.Value,
    low: ir.Value,
    height: ir.Value,
    d: ir.Value,
    e: ir.Value,
) -> ir.Value:
    slope = write.one("Div", height, width)
    above = write.one("Sub", y, low)
    bend = write.one("Sub", write.one("Add", d, e), write.one("Add", slope, slope))
    bent, straight = write.one("Mul", above, bend), write.one("Mul", height, d)
    a = write.one("Add", write.one("Sub", write.one("Mul", height, slope), straight), bent)
    b = write.one("Mul", write.one("Sub", straight, bent), write.floats(0.5))
    u = write.one("Mul", above, slope)
    root = write.one("Sqrt", write.one("Add", write.one("Mul", b, b), write.one("Mul", a, u)))
    xi = write.one("Div", u, write.one("Add", b, root))
    return write.one("Add", write.one("Mul", xi, width), left)


def _four_rows(spline: _Spline) -> tuple[AnyArray, AnyArray]:
    """Return weights and bias that give widths, heights, and the derivatives on both sides of each bin."""
    n = spline.n_bins
    weight = constant_of(spline.convolution, 1)
    given = constant_of(spline.convolution, 2) if len(spline.convolution.inputs) > 2 else None
    if weight is None:
        raise ValueError(f"the weights of {spline.convolution.name!r} are gone")
    bias = np.zeros(weight.shape[0], weight.dtype) if given is None else given
    # A derivative of 1 at the bounds, where the spline goes over into the identity.
    at_bound = math.log(math.exp(1 - _MIN_BIN) - 1)
    rows = np.zeros((4 * n, *weight.shape[1:]), np.float64)
    row_bias = np.full(4 * n, at_bound, np.float64)
    rows[: 2 * n], row_bias[: 2 * n] = weight[: 2 * n] / spline.divisor, bias[: 2 * n] / spline.divisor
    for first in (2 * n + 1, 3 * n):
        rows[first : first + n - 1], row_bias[first : first + n - 1] = weight[2 * n :], bias[2 * n :]
    return rows.astype(weight.dtype), row_bias.astype(bias.dtype)


def _edges(n_bins: int, bound: float) -> tuple[AnyArray, AnyArray]:
    """Return the matrix from a softmax over bins to their edges and sizes, and what those are for zeros."""
    span = 2 * bound
    free = span * (1 - _MIN_BIN * n_bins)
    before = np.triu(np.ones((n_bins, n_bins)), 1)
    matrix = np.concatenate([before * free, np.eye(n_bins) * free], axis=1)
    at_zero = np.concatenate([span * _MIN_BIN * np.arange(n_bins) - bound, np.full(n_bins, span * _MIN_BIN)])
    return matrix.astype(np.float32), at_zero.astype(np.float32)
