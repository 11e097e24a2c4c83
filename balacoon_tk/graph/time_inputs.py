"""Which inputs of a graph have a time axis, and how many steps each has for one frame.

Where tensors that come from different inputs meet in one node, they must have the same length. So the
graph is run up to the first such node, the lengths that arrive there give the ratio of the rates, and
on it goes to the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

import onnx
import onnx_ir as ir

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.graph.exposed import Weights, unweighted, weights_apart
from balacoon_tk.graph.probe import Probe, at_first_that_runs, graph_inputs, make_feeds, probe
from balacoon_tk.runtime.process import give_back_memory
from balacoon_tk.runtime.session import Session

_LENGTHS = (12, 48, 240, 1200)  # steps to try; graphs that fold time take only multiples


@dataclass(frozen=True, slots=True)
class TimeInputs:
    """The inputs that bring new steps with every push; a frame is a step of the slowest, as a rule."""

    axes: Mapping[str, int]
    steps_per_frame: Mapping[str, int]
    probe: Probe


def find_time_inputs(model: ir.Model, time_inputs: Mapping[str, int] | None = None) -> TimeInputs:
    """Find the time axis of each input, the ratio of their rates, and probe the graph.

    Where `time_inputs` doesn't give the axes, the time axis is the only dynamic axis of an input, leaving
    aside one whose name says "batch", or else a first one beside others (the batch, which is taken to
    be 1). A ParameterError says what is wrong with `time_inputs`, a ModelError why the graph leaves the
    axes open or can't be run.
    """
    inputs = graph_inputs(model)
    axes = _given(inputs, time_inputs) if time_inputs is not None else _found(inputs)
    steps = dict.fromkeys(axes, 1) if len(axes) == 1 else _find_rates(model, axes)
    return TimeInputs(axes, steps, probe(model, axes, steps))


def _given(inputs: Mapping[str, ir.Value], time_inputs: Mapping[str, int]) -> dict[str, int]:
    axes: dict[str, int] = {}
    for name, axis in time_inputs.items():
        if name not in inputs:
            raise ParameterError(f"time_inputs names {name!r}: the graph's inputs are {', '.join(inputs)}")
        dims = list(inputs[name].shape or ())
        if not -len(dims) <= axis < len(dims):
            raise ParameterError(
                f"time_inputs[{name!r}]={axis} must be an axis of a tensor of rank {len(dims)}"
            )
        if isinstance(dims[axis], int):
            raise ParameterError(
                f"time_inputs[{name!r}]={axis} has the fixed length {dims[axis]}: export with a dynamic axis"
            )
        axes[name] = axis % len(dims)
    if not axes:
        raise ParameterError("time_inputs={} must name at least one input")
    return axes


def _found(inputs: Mapping[str, ir.Value]) -> dict[str, int]:
    dynamic_axes = {
        name: [axis for axis, n in enumerate(value.shape or ()) if not isinstance(n, int)]
        for name, value in inputs.items()
    }
    names = {name: [str(n) for n in value.shape or ()] for name, value in inputs.items()}
    # A dynamic first axis that is the only one is the batch if another input has it for its first of several.
    batches = {names[name][0] for name, dynamic in dynamic_axes.items() if len(dynamic) > 1}
    axes: dict[str, int] = {}
    for name, dynamic in dynamic_axes.items():
        if inputs[name].shape is None:
            raise ModelError(
                f"input {name!r} has no declared shape: export the graph with shapes of its inputs"
            )
        named = [axis for axis in dynamic if "batch" in names[name][axis].lower()]
        if named or (len(dynamic) > 1 and dynamic[0] == 0):
            dynamic.remove((named or dynamic)[0])
        elif dynamic == [0] and (names[name][0] in batches or _is_called_batch(names[name])):
            continue
        if len(dynamic) > 1:
            raise ModelError(
                f"input {name!r} has several axes that could be time ({', '.join(map(str, dynamic))}): "
                f"say which, as in time_inputs={{{name!r}: {dynamic[-1]}}}"
            )
        if dynamic:
            axes[name] = dynamic[0]
    if not axes:
        found = " and ".join(f"{name!r} of shape [{', '.join(dims)}]" for name, dims in names.items())
        raise ModelError(
            f"no input has a time axis: {found or 'there is none'}: every axis has a fixed length (or is the "
            "batch). Export the graph with a dynamic axis for time"
        )
    return axes


def _is_called_batch(dims: Sequence[str]) -> bool:
    # Letters that papers have for it; of a matrix with time first they are its time.
    return len(dims) > 2 and dims[0] in ("N", "B", "b", "bs")


def _find_rates(model: ir.Model, axes: Mapping[str, int]) -> dict[str, int]:
    """Return the steps of each input with time for one frame; inputs that never meet get the same."""
    rates = {name: Fraction(1) for name in axes}
    # The inputs whose rates are known relative to each other. All members share one set, so that whoever
    # joins one of them joins all.
    group = {name: {name} for name in axes}
    with weights_apart(model.graph) as weights:
        proto = ir.to_proto(model)
    sources = {name: frozenset([name]) for name in axes}
    for k, node in enumerate(proto.graph.node):
        read = {name: sources[name] for name in node.input if name in sources}
        every = frozenset().union(*read.values())
        # A length is no tensor with time: what is made to that of another input doesn't mix them.
        is_length = node.op_type in ("Shape", "Size")
        sources |= dict.fromkeys(node.output, frozenset() if is_length else every)
        if not every or _is_one_group(every, group):
            continue
        slopes = _slopes(model, proto, weights, k, list(read), axes, rates)
        give_back_memory()
        # A tensor that already mixes groups says nothing of either.
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
    # A frame is to be no longer than it must, so that pushes may be as small.
    steps, _ = _whole(rates)
    common = gcd(*steps.values())
    return {name: n // common for name, n in steps.items()}


def _is_one_group(names: frozenset[str], group: Mapping[str, set[str]]) -> bool:
    return names <= group[next(iter(names))]


def _whole(rates: Mapping[str, Fraction]) -> tuple[dict[str, int], int]:
    """Return rates as whole numbers, and what they were multiplied by."""
    scale = lcm(*(rate.denominator for rate in rates.values()))
    return {name: int(rate * scale) for name, rate in rates.items()}, scale


def _slopes(
    model: ir.Model,
    proto: onnx.ModelProto,
    weights: Weights,
    n_nodes: int,
    names: Sequence[str],
    axes: Mapping[str, int],
    rates: Mapping[str, Fraction],
) -> dict[str, Fraction]:
    """Run the first nodes at two lengths; return how fast those tensors grow that have one axis that does."""
    # With the weights of these nodes alone, and the shapes of what they make: a graph may be a gigabyte.
    nodes = proto.graph.node[:n_nodes]
    read = {name for node in nodes for name in node.input}
    graph = onnx.GraphProto(name=proto.graph.name, node=nodes, input=proto.graph.input)
    graph.initializer.extend(tensor for tensor in proto.graph.initializer if tensor.name in read)
    graph.node.extend(onnx.helper.make_node("Shape", [name], [f"shape of {name}"]) for name in names)
    graph.output.extend(onnx.ValueInfoProto(name=f"shape of {name}") for name in names)
    part = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, graph=graph)
    session = Session(unweighted(part, weights), optimize=False)
    inputs = graph_inputs(model)
    steps, scale = _whole(rates)

    def grow(n: int) -> dict[str, Fraction]:
        feeds = (make_feeds(inputs, axes, steps, n_frames) for n_frames in (n, 2 * n))
        short, long = ([shape.tolist() for shape in session.run(each).values()] for each in feeds)
        slopes = {}
        for name, before, after in zip(names, short, long, strict=True):
            growth = [b - a for a, b in zip(before, after, strict=False) if a != b]
            if len(growth) == 1 and len(before) == len(after):
                slopes[name] = Fraction(growth[0], n * scale)
        return slopes

    return at_first_that_runs(_LENGTHS, grow)
