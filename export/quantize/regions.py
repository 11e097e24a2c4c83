"""Which nodes of a decoder compute with bytes, once it is known which convolutions do.

What lies between two such convolutions stays in bytes where that loses little: an activation in front of
one, a residual connection around one, the interleaving of phases behind a polyphase convolution, and a
crop in time. A sum of such sums is wider than any of its parts, and a step of it coarser than theirs
together, so it is computed in floating point, as is the activation behind it; but with the channels still
last, so that nothing is turned around on the way to the next convolution.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.edit import constant_of, only_user

Form = Literal["bytes", "floats"]
"""How a node with its channels last computes."""

_RANK = 4
_TIME = 3


@dataclass(frozen=True, slots=True)
class Interleaving:
    """The nodes that turn the phases of a polyphase convolution, channels of it, into steps of time."""

    nodes: tuple[ir.Node, ...]
    n_channels: int
    """Of the result."""

    @property
    def output(self) -> ir.Value:
        """The result."""
        return self.nodes[-1].outputs[0]


def is_layer(node: ir.Node) -> bool:
    """Return whether a node is a convolution along time that can compute with bytes."""
    return _is_convolution(node) and "auto_pad" not in node.attributes


def is_tapped(node: ir.Node) -> bool:
    """Return whether a convolution has one filter, so that a product with its taps is less than its input."""
    weight = constant_of(node, 1)
    if not is_layer(node) or weight is None:
        return False
    return len(weight) == 1 and weight.shape[3] < weight.shape[1]


def place_nodes(graph: ir.Graph, layers: Collection[ir.Node]) -> dict[ir.Node, Form]:
    """Return the nodes that have their channels last, and how they compute.

    Parameters
    ----------
    graph : ir.Graph
        Sorted topologically.
    layers : collection of ir.Node
        The convolutions that were chosen to compute with bytes.
    """
    placed: dict[ir.Node, Form] = {}
    made: dict[ir.Value, Form] = {}
    sums: set[ir.Value] = set()
    for node in graph:
        if node in placed:
            continue
        form = _form(node, made, sums, layers)
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
    nodes = []
    for op_type in ("Reshape", "Transpose", "Reshape", "Unsqueeze"):
        node = only_user(value)
        if node is None or node.op_type != op_type:
            return None
        nodes.append(node)
        value = node.outputs[0]
    apart, turn, merge, rows = nodes
    shape, merged, axes = constant_of(apart, 1), constant_of(merge, 1), constant_of(rows, 1)
    if "axes" in rows.attributes:
        axes = np.array(rows.attributes["axes"].as_ints())
    if shape is None or merged is None or axes is None or "perm" not in turn.attributes:
        return None
    fits = shape.shape == (_RANK,) and shape[2:].tolist() == [0, -1] and merged.tolist() == [0, 0, -1]
    if not fits or list(turn.attributes["perm"].as_ints()) != [1, 2, 3, 0] or axes.tolist() != [0]:
        return None
    return Interleaving(tuple(nodes), int(shape[1]))


def _form(
    node: ir.Node, made: dict[ir.Value, Form], sums: Collection[ir.Value], layers: Collection[ir.Node]
) -> Form | None:
    if node in layers:
        return "bytes"
    source = node.inputs[0] if node.inputs else None
    if source is None or source not in made or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Add":
        forms = [made.get(value) for value in node.inputs if value is not None]
        if None in forms:
            return None
        is_residual = any(value not in sums for value in node.inputs)
        return "bytes" if is_residual and forms == ["bytes", "bytes"] else "floats"
    if node.op_type == "LeakyRelu":
        feeds_layer = any(user in layers for user, _ in node.outputs[0].uses())
        return made[source] if made[source] == "floats" or feeds_layer else None
    if node.op_type == "Conv":
        return "floats" if made[source] == "floats" and is_tapped(node) else None
    return made[source] if is_crop(node) else None


def is_crop(node: ir.Node) -> bool:
    """Return whether a node takes a constant piece of time, counted from either end."""
    axes, steps = constant_of(node, 3), constant_of(node, 4)
    if node.op_type != "Slice" or axes is None or axes.tolist() != [_TIME]:
        return False
    return all(constant_of(node, k) is not None for k in (1, 2)) and (
        len(node.inputs) < 5 or (steps is not None and steps.tolist() == [1])
    )


def _is_convolution(node: ir.Node) -> bool:
    """Whether a node is a plain convolution along the last axis, its kernel and bias constants."""
    weight = constant_of(node, 1) if node.op_type == "Conv" and node.domain in ("", "ai.onnx") else None
    if weight is None or weight.ndim != _RANK or weight.shape[2] != 1 or weight.dtype != np.float32:
        return False
    if len(node.inputs) > 2 and node.inputs[2] is not None and constant_of(node, 2) is None:
        return False
    strides = list(node.attributes["strides"].as_ints()) if "strides" in node.attributes else [1, 1]
    return node.attributes.get_int("group", 1) == 1 and strides == [1, 1]
