"""How fast the inputs of a graph run, compared to each other.

Where tensors that come from different inputs meet in one node, they must have the same length. So the
graph is run up to the first such node, the lengths that arrive there give the ratio of the rates, and
on it goes to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import gcd, lcm

import onnx
import onnx_ir as ir

from balacoon_tk.errors import ModelError
from balacoon_tk.graph.probe import graph_inputs, make_feeds
from balacoon_tk.runtime.session import Session

_LENGTHS = (48, 240, 1200)
"""Steps to try; graphs that fold time take only multiples."""


def find_rates(model: ir.Model, axes: Mapping[str, int]) -> dict[str, int]:
    """Return the steps of each input with time for one frame; inputs that never meet get the same.

    Parameters
    ----------
    model : ir.Model
    axes : mapping of str to int
        The time axis of every input that has one.

    Raises
    ------
    ModelError
        If the graph can't be run up to a place where inputs meet.
    """
    rates = {name: Fraction(1) for name in axes}
    group = {name: {name} for name in axes}
    """The inputs whose rates are known relative to each other."""
    proto = ir.to_proto(model)
    sources = {name: frozenset([name]) for name in axes}
    for k, node in enumerate(proto.graph.node):
        read = {name: sources[name] for name in node.input if name in sources}
        every = frozenset().union(*read.values())
        sources |= dict.fromkeys(node.output, every)
        if not every or _is_one_group(every, group):
            continue
        slopes = _slopes(model, proto, k, list(read), axes, rates)
        known = [
            (slope, group[next(iter(read[name]))])
            for name, slope in slopes.items()
            if _is_one_group(read[name], group)
        ]
        for slope, other in known[1:]:
            first_slope, first = known[0]
            if other is first:
                continue
            for member in other:
                rates[member] *= first_slope / slope
                group[member] = first
            first |= other
    scale = lcm(*(rate.denominator for rate in rates.values()))
    steps = {name: int(rate * scale) for name, rate in rates.items()}
    common = gcd(*steps.values())
    return {name: n // common for name, n in steps.items()}


def _is_one_group(names: frozenset[str], group: Mapping[str, set[str]]) -> bool:
    return names <= group[next(iter(names))]


def _slopes(
    model: ir.Model,
    proto: onnx.ModelProto,
    n_nodes: int,
    names: list[str],
    axes: Mapping[str, int],
    rates: Mapping[str, Fraction],
) -> dict[str, Fraction]:
    """Run the first nodes at two lengths; return how fast those tensors grow that have one axis that does."""
    part = onnx.ModelProto()
    part.CopyFrom(proto)
    del part.graph.node[n_nodes:]
    del part.graph.output[:]
    inputs = graph_inputs(model)
    made = [name for name in names if name not in inputs]
    # A graph needs an output, also where nothing comes before the node.
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made or names[:1])
    session = Session(part, optimize=False)
    scale = lcm(*(rate.denominator for rate in rates.values()))
    steps = {name: int(rate * scale) for name, rate in rates.items()}
    error: ModelError | None = None
    for n in _LENGTHS:
        shapes = []
        try:
            for n_frames in (n, 2 * n):
                feeds = make_feeds(inputs, axes, steps, n_frames)
                shapes.append({name: array.shape for name, array in (feeds | session.run(feeds)).items()})
        except ModelError as failed:
            error = failed
            continue
        return {
            name: Fraction(after - before, n * scale)
            for name in names
            for before, after in _differing(shapes[0][name], shapes[1][name])
        }
    raise ModelError(f"the graph runs at none of the lengths tried: {error}") from error


def _differing(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the sizes of the one axis that differs, if it is one."""
    found = [pair for pair in zip(before, after, strict=False) if pair[0] != pair[1]]
    return found if len(found) == 1 and len(before) == len(after) else []
