"""An inverse rational-quadratic spline as exporters spell it out, by masks and scattering.

The flows of VITS's stochastic duration predictor invert a monotonic spline inside of [-bound, bound]
and leave what lies outside of it. In torch that is done by boolean masks, which an exporter turns into
about 260 nodes a flow: positions gathered, computed and scattered back, knots set by ranges and indices.

([1] Durkan et al., "Neural Spline Flows", 2019, section 3.1; [2] Kim et al. 2021, appendix B.)
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.known import Shapes
from balacoon_tk.graph.match import constant_of, name_of, scalar_of
from balacoon_tk.graph.walk import ancestors, descendants

_COMPARES = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual"})


class Spline(NamedTuple):
    """One flow's spline, as it is found."""

    # The convolution that gives widths, heights and inner derivatives: 3 n_bins - 1 channels.
    parameters: ir.Node
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


def find_spline(graph: ir.Graph, node: ir.Node, shapes: Shapes) -> Spline | None:
    """Return the spline whose parameters a convolution gives, if it is such a one."""
    weight = constant_of(node, 1) if node.op_type == "Conv" else None
    if weight is None or weight.ndim != 3 or weight.shape[2] != 1:
        return None
    n_bins, rest = divmod(weight.shape[0] + 1, 3)
    if rest or n_bins < 2:
        return None
    parameters = node.outputs[0]
    behind = descendants(graph, [parameters])
    joins = (other for other in graph if other.op_type == "Concat" and len(other.inputs) == 2)
    joined = (value for join in joins for value in join.inputs if value in behind and _is_row(value, shapes))
    x = next(joined, None)
    if x is None:
        return None
    # No single node tells a spline. What lies between the parameters and the join does, as a whole: it
    # has two softmaxes over bins, and compares one row with one bound; the row alone is also made before.
    before = ancestors([parameters])
    between = [value.producer() for value in ancestors([x], stop=before) - before]
    nodes = [n for n in between if n is not None and (n.outputs[0] in behind or n.op_type in _COMPARES)]
    compared = [n for n in nodes if n.op_type in _COMPARES and _is_row(n.inputs[0], shapes)]
    bounds = {abs(number) for n in compared if (number := scalar_of(n, 1)) is not None}
    sources = {n.inputs[0] for n in compared if scalar_of(n, 1) is not None}
    divisors = {number for n in nodes if n.op_type == "Div" and (number := scalar_of(n, 1)) is not None}
    softmaxes = [shapes.get(name_of(n.outputs[0]), ()) for n in nodes if n.op_type == "Softmax"]
    if len(softmaxes) != 2 or any(not seen or seen[0][-1] != n_bins for seen in softmaxes):
        return None
    if len(bounds) != 1 or len(sources) != 1 or len(divisors) > 1 or 0.0 in bounds:
        return None
    (y,), bound = sources, bounds.pop()
    if y is None:
        return None
    divisor = divisors.pop() if divisors else 1.0
    return Spline(node, weight, constant_of(node, 2), y, x, n_bins, bound, divisor)


def _is_row(value: ir.Value | None, shapes: Shapes) -> bool:
    seen = shapes.get(name_of(value), ())
    return bool(seen) and all(len(shape) == 3 and shape[:2] == (1, 1) for shape in seen)
