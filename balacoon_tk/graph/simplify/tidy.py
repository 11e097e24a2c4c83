"""Free a graph of what a run can't change: branches always taken, fixed shapes, masks of ones and zeros.

What is known of a graph without its data is found by `balacoon_tk.graph.known`. Each function folds in place
and says whether anything changed; the graph has its constants lifted to initializers, and `shapes` are those
of its tensors at three or more lengths. Where a result is taken for one of its inputs, these are the cases,
``1`` and ``0`` being tensors that are known to be uniform, whatever their shape:

1. ``x * 1``, ``1 * x``, ``x / 1``, ``x ** 1``
2. ``x + 0``, ``0 + x``, ``x - 0``
3. ``x and true``, ``x or false``, either way round
4. ``Where(true, x, y)``, ``Where(false, y, x)``
5. ``Identity``; ``Concat`` and ``Max`` of x alone; ``Expand`` to its own shape; ``Slice`` from 0 to the end
6. ``Reshape``, ``Squeeze`` and ``Unsqueeze`` that come back to the shape that x had

All give x, but only if the result has x's shape at all of the lengths seen: a mask may also enlarge
x by broadcasting, and then it stays. A convolution over ones is not uniform, because of its padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    DeduplicateInitializersPass,
    InlinePass,
    LiftConstantsToInitializersPass,
)

from balacoon_tk.errors import ModelError
from balacoon_tk.graph.counts import Counts, is_fixed, shape_counts
from balacoon_tk.graph.edit import FAR, Names, add_constant, bypass, remove_unused
from balacoon_tk.graph.known import Known, Shapes, read_known
from balacoon_tk.graph.match import input_of, is_standard
from balacoon_tk.graph.probe import Probe, probe
from balacoon_tk.graph.simplify.fix_shapes import FixShapesPass

_LENGTHS = ((5, 8, 13), (41, 48, 72))  # short, as every tensor is kept; longer ones for graphs that need it
_MAX_SHARED = 1024  # elements; larger weights are not there twice, and comparing them takes long

_NEUTRAL: dict[str, float] = {"Mul": 1, "Div": 1, "Pow": 1, "Add": 0, "Sub": 0, "And": True, "Or": False}
_COMMUTATIVE = frozenset({"Add", "And", "Mul", "Or"})
_KEEPS_ORDER = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


def lift_constants(model: ir.Model) -> None:
    """Bring a graph into the form that all passes read: no functions, constants as initializers."""
    try:
        InlinePass()(model)
    except ValueError as error:  # of a function that is of another opset than the graph
        raise ModelError(f"a function of the graph can't be written out: {error}") from error
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


def tidy(model: ir.Model, time_axes: Mapping[str, int], outputs: Mapping[str, Sequence[int | str]]) -> Probe:
    """Fold branches, shapes, masks and lengths of a graph, in place; return the shapes of what is left.

    The graph has a batch of 1 and `lift_constants` behind it. `outputs` are the shapes to declare for them.
    """

    def look() -> Probe:
        return probe(model, time_axes, dict.fromkeys(time_axes, 1), lengths=_LENGTHS)

    seen = look()
    if fold_branches(model, seen.shapes):
        seen = look()
    FixShapesPass(seen)(model)
    fold_masks(model, seen.shapes)
    fold_lengths(model, seen.shapes)
    DeduplicateInitializersPass(size_limit=_MAX_SHARED)(model)
    # What an exporter says of each node is of no use where it stands in a voice.
    ClearMetadataAndDocStringPass()(model)
    remove_unused(model)
    for node in model.graph:
        for value in node.outputs:
            value.shape = None  # what the exporter declared was for another batch
    for value in model.graph.outputs:
        value.shape = ir.Shape(outputs[value.name or ""])
        is_count = value.name == "durations"
        value.type = ir.TensorType(ir.DataType.INT64 if is_count else ir.DataType.FLOAT)
    return seen


def fold_branches(model: ir.Model, shapes: Shapes) -> bool:
    """Replace each ``If`` whose condition is known by the branch that is always taken.

    The shapes inside an inlined branch were not seen: look again afterwards.
    """
    # torch writes an If for ``x.squeeze(1)`` where it can't see that the axis has length 1.
    known = read_known(model.graph, shapes)
    modified = False
    for node in list(model.graph):
        condition = node.inputs[0] if node.op_type == "If" and node.inputs else None
        if condition is not None and condition in known.uniform:
            taken = "then_branch" if known.uniform[condition] else "else_branch"
            modified |= _inline(model.graph, node, node.attributes[taken].as_graph())
    if modified:
        remove_unused(model)
    return modified


def _inline(graph: ir.Graph, node: ir.Node, branch: ir.Graph) -> bool:
    # An output keeps its name, which a result can take over if a node of the branch makes it.
    results = list(branch.outputs)
    for value, result in zip(node.outputs, results, strict=True):
        producer = result.producer()
        own = producer is not None and producer.graph is branch and results.count(result) == 1
        if value.is_graph_output() and not own:
            return False
    names = Names(graph)
    for value in list(branch.initializers.values()):
        del branch.initializers[value.name or ""]
        value.name = names.take(value.name or "constant")
        graph.register_initializer(value)
    # A graph owns its nodes and outputs: both are taken out of the branch before they are put in here.
    inner = list(branch)
    branch.outputs.clear()
    branch.remove(inner)
    for moved in inner:
        for value in moved.outputs:
            value.name = names.take(value.name or moved.op_type)
    graph.insert_before(node, inner)
    for value, result in zip(node.outputs, results, strict=True):
        bypass(graph, value, result)
    return True


def fold_lengths(model: ir.Model, shapes: Shapes) -> bool:
    """Make counts constant that are the same for every length, as those of the batch are."""
    known = read_known(model.graph, shapes)
    names = Names(model.graph)
    modified = False
    for value, column in known.counts.items():
        if value.producer() is None or value.is_graph_output() or not value.uses():
            continue
        if is_fixed(column):
            # not ascontiguousarray: that would give a scalar an axis
            constant = add_constant(model.graph, column[0].copy(), names.take(f"{value.name}.fixed"))
            value.replace_all_uses_with(constant)
            modified = True
    if modified:
        remove_unused(model)
    return modified


def fold_masks(model: ir.Model, shapes: Shapes) -> bool:
    """Bypass every node that gives one of its inputs back; the shapes of what remains stay true."""
    known = read_known(model.graph, shapes)
    modified = False
    for node in list(model.graph):
        same = _same_as(node, known) if is_standard(node) and len(node.outputs) == 1 else None
        if same is not None and known.same_shape(same, node.outputs[0]):
            modified |= bypass(model.graph, node.outputs[0], same)
    if modified:
        remove_unused(model)
    return modified


def _same_as(node: ir.Node, known: Known) -> ir.Value | None:
    """Return the input whose elements a node gives back, if there is one."""
    if node.op_type in _NEUTRAL:
        return _other_than_neutral(node, known)  # cases 1 to 3
    if node.op_type == "Where":  # case 4
        condition = known.uniform.get(node.inputs[0]) if node.inputs[0] is not None else None
        return None if condition is None else node.inputs[1 if condition else 2]
    if node.op_type in ("Concat", "Max", "Min", "Sum") and len(node.inputs) == 1:
        return node.inputs[0]  # case 5
    if node.op_type == "Slice":
        return node.inputs[0] if _takes_all(node, known) else None  # case 5
    # A shape that another input says would be the one of the probe's lengths by chance.
    shape = input_of(node, 1)
    if shape is not None and shape.const_value is None and shape not in known.counts:
        return None
    if node.op_type == "Expand":
        return node.inputs[0]  # case 5
    if node.op_type in _KEEPS_ORDER:
        return _way_back(node, known)  # cases 5 and 6
    return None


def _other_than_neutral(node: ir.Node, known: Known) -> ir.Value | None:
    x, y = node.inputs[0], node.inputs[1]
    if x is None or y is None:
        return None
    neutral = _NEUTRAL[node.op_type]
    if y in known.uniform and known.uniform[y] == neutral and known.same_shape(x, node.outputs[0]):
        return x
    if node.op_type in _COMMUTATIVE and x in known.uniform and known.uniform[x] == neutral:
        return y
    return None


def _takes_all(node: ir.Node, known: Known) -> bool:
    # From 0 to the end; ``x[:100]`` of short tensors does so only for these.
    x, starts, ends, axes, steps = (*node.inputs, None, None)[:5]
    if x is None or starts is None or ends is None or (shapes := known.shapes_of(x)) is None:
        return False
    if known.uniform.get(starts) != 0 or (steps is not None and known.uniform.get(steps) != 1):
        return False
    seen_ends = known.counts.get(ends)
    seen_axes = known.counts.get(axes) if axes is not None else Counts(np.arange(len(shapes[0])), known.n)
    sizes = shape_counts(node, shapes, known.n)
    if seen_ends is None or seen_axes is None or seen_axes.fixed is None or sizes is None:
        return False
    bounds = zip(seen_ends.values, sizes.values[seen_axes.fixed], strict=False)
    return all(end == size or (end.constant or 0) >= FAR for end, size in bounds)


def _way_back(node: ir.Node, known: Known) -> ir.Value | None:
    # Up a chain of reshapes, none of which moves an element, to where the shape was the same.
    above = node.inputs[0]
    while above is not None and not known.same_shape(above, node.outputs[0]):
        producer = above.producer()
        if producer is None or producer.op_type not in _KEEPS_ORDER:
            return None
        above = producer.inputs[0]
    return above
