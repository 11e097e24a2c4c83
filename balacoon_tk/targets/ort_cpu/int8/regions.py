"""Which nodes of a decoder compute in int8, once it is known which convolutions do.

What lies between two such convolutions stays in int8 where that loses little: an activation in front of
one, a residual connection around one, the interleaving of phases behind a polyphase convolution, and a
crop in time. A sum of such sums is wider than any of its parts, and a step of it coarser than theirs
together, so it is computed in floating point, as is the activation behind it; but with the channels still
last, so that nothing is transposed on the way to the next convolution.

The same is read of a plain graph, in one dimension and with transposed convolutions, and of one that was
lifted to two, with phases (`PolyphasePass`), so that both round at the same places.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.int8 import read_qdq
from balacoon_tk.graph.match import constant_of, ints_of, is_standard, kernel_of, only_user
from balacoon_tk.targets.ort_cpu.passes.base import TO_IMAGE, TO_ROWS

Form = Literal["int8", "float"]
"""How a node with its channels last computes."""


class Interleaving(NamedTuple):
    """The nodes that turn the phases of a polyphase convolution into steps of time, of so many channels."""

    nodes: tuple[ir.Node, ...]
    n_channels: int


def is_layer(node: ir.Node) -> bool:
    """Return whether a node is a convolution along time, of several taps, that can compute in int8."""
    weight = _kernel_of_phases(node) if node.op_type == "ConvTranspose" else kernel_of(node)
    # Rank 3 is a kernel along time, and 4 one that was lifted to two dimensions.
    if weight is None or weight.ndim not in (3, 4) or weight.dtype != np.float32:
        return False
    # A product of one tap reads each number once: rounding it takes as long as it saves.
    return weight.shape[-1] != 1 and (weight.ndim == 3 or weight.shape[2] == 1)


def is_tapped(node: ir.Node) -> bool:
    """Return whether a convolution has one filter, so that a product with its taps is less than its input."""
    weight = kernel_of(node)
    return weight is not None and is_layer(node) and len(weight) == 1 and weight.shape[-1] < weight.shape[1]


def place_nodes(graph: ir.Graph, layers: Collection[ir.Node]) -> dict[ir.Node, Form]:
    """Return the nodes that have their channels last, and how they compute, of a sorted graph."""
    placed: dict[ir.Node, Form] = {}
    made: dict[ir.Value, Form] = {}
    # A sum of these is wider than any of its parts, see above.
    sums: set[ir.Value] = set()
    for node in graph:
        form = None if node in placed else _form(node, made, sums, layers)
        if form is None:
            continue
        interleaving = match_interleaving(node.outputs[0]) if node in layers else None
        for each in (node, *(() if interleaving is None else interleaving.nodes)):
            placed[each] = form
            made.update(dict.fromkeys(each.outputs, form))
        if node.op_type == "Add":
            sums.update(node.outputs)
    return placed


def match_interleaving(value: ir.Value) -> Interleaving | None:
    """Return the nodes that interleave a convolution's phases, as `PolyphasePass` writes them."""
    nodes: list[ir.Node] = []
    for op_type in ("Transpose", "Reshape", "Slice", "Transpose"):
        node = only_user(value)
        if node is not None and node.op_type == op_type:
            nodes.append(node)
            value = node.outputs[0]
        elif op_type != "Slice":  # where nothing is cut off, there is none
            return None
    orders = [ints_of(node, "perm", []) for node in (nodes[0], nodes[-1])]
    shape = constant_of(nodes[1], 1)
    if orders != [TO_ROWS, TO_IMAGE] or shape is None or shape[:3].tolist() != [0, 0, -1]:
        return None
    return Interleaving(tuple(nodes), int(shape[3]))


def _kernel_of_phases(node: ir.Node) -> AnyArray | None:
    """Return the kernel of a transposed convolution that `PolyphasePass` writes as phases."""
    weight = constant_of(node, 1)
    if weight is None or not is_standard(node) or "auto_pad" in node.attributes:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and constant_of(node, 2) is None:
        return None
    stride, dilation = (ints_of(node, name, [1])[-1] for name in ("strides", "dilations"))
    pads, more = (ints_of(node, name, [0])[-1] for name in ("pads", "output_padding"))
    if stride == 1 or dilation != 1 or node.attributes.get_int("group", 1) != 1:
        return None
    n_more = -(-weight.shape[-1] // stride) * stride - weight.shape[-1]
    return weight if n_more - more + pads >= 0 else None


def _form(
    node: ir.Node, made: dict[ir.Value, Form], sums: Collection[ir.Value], layers: Collection[ir.Node]
) -> Form | None:
    if node in layers:
        return "int8"
    source = node.inputs[0] if node.inputs else None
    if source is None or source not in made or not is_standard(node):
        return None
    if node.op_type == "Add":
        forms = [made.get(value) for value in node.inputs if value is not None]
        if None in forms:
            return None
        is_residual = any(value not in sums for value in node.inputs)
        return "int8" if is_residual and forms == ["int8", "int8"] else "float"
    if node.op_type == "LeakyRelu":
        # In int8 it gains nothing by itself: only on the way to a layer that wants int8 anyway.
        feeds_layer = any(user in layers for user, _ in node.outputs[0].uses())
        return made[source] if made[source] == "float" or feeds_layer else None
    if node.op_type == "Conv":
        return "float" if made[source] == "float" and is_tapped(node) else None
    return made[source] if is_crop(node) else None


def is_crop(node: ir.Node) -> bool:
    """Return whether a node takes a constant piece of time, counted from either end."""
    axes, steps = constant_of(node, 3), constant_of(node, 4)
    if node.op_type != "Slice" or axes is None or axes.tolist() not in ([2], [3]):
        return False
    in_steps_of_one = len(node.inputs) < 5 or (steps is not None and steps.tolist() == [1])
    return in_steps_of_one and all(constant_of(node, k) is not None for k in (1, 2))


def rounds_layers_alone(model: onnx.ModelProto) -> bool:
    """Return whether a plain graph has layers in int8 that are none here, or that give unrounded numbers.

    That is how the native engine has it: there bytes are only what layers read.
    """
    plain = ir.from_proto(model)
    known = read_qdq(plain).layers
    layers = [node for node in plain.graph if node.name in known]
    return any(known[str(node.name)].output is None or not is_layer(node) for node in layers)


def find_rounded(graph: ir.Graph, layers: Collection[ir.Node]) -> dict[str, set[ir.Node]]:
    """Return the tensors of a plain graph that are rounded where some layers are, and who reads them so."""
    placed = place_nodes(graph, layers)
    found: dict[str, set[ir.Node]] = {}
    for node, form in placed.items():
        # A crop has the bytes of what it cuts, and their range.
        if form != "int8" or node.op_type not in ("Add", "Conv", "ConvTranspose", "LeakyRelu"):
            continue
        for value in node.inputs[: 2 if node.op_type == "Add" else 1]:
            if value is not None:
                found.setdefault(str(value.name), set()).add(node)
        # What was made in int8 is there in int8 alone, whoever reads it.
        for value in node.outputs:
            found.setdefault(str(value.name), set()).update(user for user, _ in value.uses())
    return found
