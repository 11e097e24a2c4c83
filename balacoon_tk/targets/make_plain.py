"""Take the state out of a decoder again: the graph that runs a whole utterance, and nothing else.

A stateful graph run once, with its first states and as the last push, is the plain one with more around it.
With those inputs as constants, bounds of slices are constants as well, and what remains is undone:

1. an empty state in front of a tensor, and a slice that takes all of it;
2. padding that is joined to a convolution's input: the convolution pads by itself again;
3. the middle of such a window, which was a delay line, is the tensor itself;
4. a piece that is run as two halves (`balacoon_tk.targets.ort_cpu.halves`);
5. convolutions that change nothing (`balacoon_tk.targets.ort_cpu.passes.keep_blocked`).

Phases that are interleaved as rows (`balacoon_tk.targets.ort_cpu.passes.polyphase`) are then so with their
channels first, which is what `balacoon_tk.export.quantize` looks for.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.graph.edit import (
    Names,
    Writer,
    add_constant,
    bypass,
    constant_of,
    only_user,
    remove_unused,
)
from balacoon_tk.graph.prepare import prepare
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.targets.ort_cpu.passes.keep_blocked import changes_nothing
from balacoon_tk.targets.ort_cpu.passes.lift_to_2d import ROW_AXIS

_TO_ROWS, _TO_IMAGE = [0, 2, 3, 1], [0, 3, 1, 2]
_FAR = 2**30
"""More steps than a tensor has; the ends of slices lie beyond that where nothing is cut off."""


def make_plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a decoder without state; one that has none is returned as it is.

    Parameters
    ----------
    model : ModelProto
        As `balacoon_tk.export.make_streaming` gives it; it is not changed.

    Raises
    ------
    ModelError
        If something of its state can't be taken out.
    """
    streaming = OrtEngine(model).streaming
    if streaming is None:
        return model
    copy = ir.from_proto(model)
    graph = copy.graph
    first = {state.input: np.full(state.shape, state.fill, state.dtype) for state in streaming.states}
    first[streaming.last_input] = np.ones(1, np.int64)
    for value in [value for value in graph.inputs if value.name in first]:
        graph.inputs.remove(value)
        name = str(value.name)
        value.name = f"{name}.input"
        constant = add_constant(graph, first[name], name)
        value.replace_all_uses_with(constant)
        _take_apart(graph, constant)
    wanted = {output.name for output in streaming.outputs}
    for value in [value for value in graph.outputs if value.name not in wanted]:
        graph.outputs.remove(value)
    copy.metadata_props.clear()
    remove_unused(copy)
    plain, _ = prepare(copy)
    _undo(plain)
    plain.graph.name = "decoder"
    return ir.to_proto(plain)


def _take_apart(graph: ir.Graph, joined: ir.Value) -> None:
    """Give each of the states that were joined into one a constant of its own."""
    for node, _ in list(joined.uses()):
        if node.op_type != "Split" or joined.const_value is None:
            continue
        sizes = constant_of(node, 1)
        lengths = node.attributes["split"].as_ints() if sizes is None else sizes.tolist()
        cuts = np.cumsum(lengths)[:-1]
        parts = np.split(joined.const_value.numpy(), cuts, axis=node.attributes.get_int("axis", 0))
        for output, part in zip(node.outputs, parts, strict=True):
            output.replace_all_uses_with(add_constant(graph, part, str(output.name)))


def _undo(model: ir.Model) -> None:
    graph = model.graph
    modified = True
    while modified:
        modified = False
        for node in list(graph):
            if node.graph is None or not any(v.uses() or v.is_graph_output() for v in node.outputs):
                continue
            source = _unchanged(node)
            if source is not None:
                modified |= bypass(graph, node.outputs[0], source)
            elif node.op_type == "Concat":
                modified |= _drop_empty(node) or _let_pad(node)
    remove_unused(model)
    names = Names(graph)
    for node in [node for node in graph if node.op_type == "Conv"]:
        _interleave_channels_first(graph, node, names)
    remove_unused(model)
    left = [node for node in graph if node.op_type == "Shape"]
    if left:
        raise ModelError(f"the state can't be taken out of the graph: {left[0].name!r} still measures time")


def _unchanged(node: ir.Node) -> ir.Value | None:
    """Return the input that a node gives again, if it changes nothing (cases 1, 3, 4 and 5)."""
    source = node.inputs[0] if node.inputs else None
    if node.op_type == "Identity" or (node.op_type == "Concat" and len(node.inputs) == 1):
        return source
    if node.op_type == "Slice":
        starts, ends = constant_of(node, 1), constant_of(node, 2)
        if starts is None or ends is None or constant_of(node, 4) is not None:
            return None
        if not starts.any() and (ends >= _FAR).all():
            return source
        return _middle(node, source, starts, ends)
    if node.op_type == "Conv":
        return source if changes_nothing(node) else None
    return _halved(node) if node.op_type == "Concat" else None


def _middle(node: ir.Node, window: ir.Value | None, starts: AnyArray, ends: AnyArray) -> ir.Value | None:
    """Return the tensor that a slice takes out of its own padding."""
    padded = _padded(None if window is None else window.producer())
    if padded is None or constant_of(node, 3) is None:
        return None
    value, left, right, axis = padded
    axes = np.asarray(constant_of(node, 3)).tolist()
    taken = (
        axes == [axis] and int(starts[0]) == left and (-int(ends[0]) == right if right else ends[0] >= _FAR)
    )
    return value if taken else None


def _halved(node: ir.Node) -> ir.Value | None:
    """Return what two halves were cut from, or where they meet again."""
    cuts = [None if value is None else value.producer() for value in node.inputs]
    if len(cuts) != 2 or any(cut is None or cut.op_type != "Slice" for cut in cuts):
        return None
    first, second = (cut.inputs[0] for cut in cuts if cut is not None)
    if node.attributes.get_int("axis", 0) == ROW_AXIS:
        return first if first is second else None
    rows = [None if value is None else value.producer() for value in (first, second)]
    if any(row is None or row.op_type != "Slice" for row in rows):
        return None
    places = [
        [np.asarray(constant_of(row, k)).tolist() for k in (1, 2, 3)] for row in rows if row is not None
    ]
    if places != [[[0], [1], [ROW_AXIS]], [[1], [2], [ROW_AXIS]]]:
        return None
    sources = [row.inputs[0] for row in rows if row is not None]
    return sources[0] if sources[0] is sources[1] else None


def _drop_empty(node: ir.Node) -> bool:
    kept = [value for k, value in enumerate(node.inputs) if (c := constant_of(node, k)) is None or c.size]
    if len(kept) == len(node.inputs):
        return False
    for k, value in enumerate(kept):
        node.replace_input_with(k, value)
    node.resize_inputs(len(kept))
    return True


def _padded(node: ir.Node | None) -> tuple[ir.Value, int, int, int] | None:
    """Return what a node joins its padding to, the steps on either side, and their axis."""
    if node is None or node.op_type != "Concat":
        return None
    axis = node.attributes.get_int("axis", 0)
    steps, value = [0, 0], None
    for k, part in enumerate(node.inputs):
        constant = constant_of(node, k)
        if constant is None:
            if value is not None:
                return None
            value = part
        elif constant.any():
            return None
        else:
            steps[value is not None] += constant.shape[axis]
    return None if value is None else (value, steps[0], steps[1], axis)


def _let_pad(node: ir.Node) -> bool:
    """Let the convolutions that read padded steps do the padding (case 2)."""
    padded = _padded(node)
    if padded is None or not (padded[1] or padded[2]):
        return False
    value, left, right, axis = padded
    window, modified = node.outputs[0], False
    for user, index in list(window.uses()):
        convolutions = _behind(user, index, axis)
        if convolutions:
            user.replace_input_with(index, value)
            for convolution, time_axis in convolutions:
                _pad(convolution, left, right, time_axis)
            modified = True
    return modified


def _behind(node: ir.Node, index: int, axis: int) -> list[tuple[ir.Node, int]]:
    """Return the convolutions that see a padded tensor, and their axis of time; none if others see it too.

    Cut in channels or turned first and padded behind it, each part is a window by itself.
    """
    if node.op_type == "Conv":
        return [(node, axis)] if index == 0 else []
    if node.op_type == "Transpose" and "perm" in node.attributes:
        axis = list(node.attributes["perm"].as_ints()).index(axis)
    elif node.op_type not in ("Slice", "Split") or not _cuts_channels(node, axis):
        return []
    found: list[tuple[ir.Node, int]] = []
    for value in node.outputs:
        for user, place in value.uses():
            convolutions = _behind(user, place, axis)
            if not convolutions:
                return []
            found += convolutions
    return found


def _cuts_channels(node: ir.Node, time_axis: int) -> bool:
    if node.op_type == "Split":
        return node.attributes.get_int("axis", 0) != time_axis
    axes = constant_of(node, 3)
    return axes is not None and time_axis not in axes.tolist()


def _pad(node: ir.Node, left: int, right: int, axis: int) -> None:
    weight = constant_of(node, 1)
    n_spatial = 2 if weight is None else weight.ndim - 2
    pads = list(node.attributes["pads"].as_ints()) if "pads" in node.attributes else [0] * 2 * n_spatial
    pads[axis - 2] += left
    pads[axis - 2 + n_spatial] += right
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)


def _interleave_channels_first(graph: ir.Graph, node: ir.Node, names: Names) -> None:
    weight, chain = constant_of(node, 1), [node]
    for op_type in ("Transpose", "Reshape", "Slice", "Transpose"):
        user = only_user(chain[-1].outputs[0])
        if user is not None and user.op_type == op_type:
            chain.append(user)
        elif op_type != "Slice":
            return
    turns = [list(end.attributes["perm"].as_ints()) for end in (chain[1], chain[-1])]
    shape, cut = constant_of(chain[2], 1), chain[3] if chain[3].op_type == "Slice" else None
    if weight is None or shape is None or turns != [_TO_ROWS, _TO_IMAGE] or shape[:3].tolist() != [0, 0, -1]:
        return
    bounds = [] if cut is None else [constant_of(cut, index) for index in (1, 2, 3)]
    if any(bound is None for bound in bounds) or (bounds and np.asarray(bounds[2]).tolist() != [2]):
        return
    write = Writer(graph, names, node.name or str(node.outputs[0].name))
    phases = [len(weight) // int(shape[3]), int(shape[3]), 0, -1]
    apart = write.one("Reshape", node.outputs[0], write.ints(*phases))
    turned = write.one("Transpose", apart, perm=[1, 2, 3, 0])
    merged = write.one("Reshape", turned, write.ints(0, 0, -1))
    if graph.opset_imports.get("", 0) >= 13:
        made = write.one("Unsqueeze", merged, write.ints(0))
    else:
        made = write.one("Unsqueeze", merged, axes=[0])
    if cut is not None:
        made = write.one("Slice", made, *cut.inputs[1:3], write.ints(3))
    graph.insert_after(node, write.nodes)
    bypass(graph, chain[-1].outputs[0], made)
