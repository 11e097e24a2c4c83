"""Keep tensors that norms and products work on as rows, through the convolutions between them.

A decoder of ConvNeXt blocks is trained with channels before time, (1, C, T), turns a tensor over for a norm
and two products, and turns it back for what it is added to. Lifted, that is an image (1, C, 1, T) on one side
and a tensor (1, T, C) on the other, with a squeeze and a transpose between, four passes over memory a block::

    image ─▶ Conv ─▶ turn ─▶ LayerNormalization, MatMul, …, MatMul ─▶ turn back ─▶ Add to the image

Here a tensor that was turned over stays (1, 1, T, C), what is added to it comes to it, and only convolutions
read an image. Theirs are the two turns of four axes that ONNX Runtime makes part of bringing channels into
blocks, so nothing is left of them. A state of rows is copied in one piece, one of an image by channels.

Whatever else reads such a tensor gets it as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PassResult

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.edit import Names, Writer, bypass, remove_unused
from balacoon_tk.graph.known import Shapes
from balacoon_tk.graph.match import constant_of, input_of, ints_of, is_standard, name_of, producer_of
from balacoon_tk.graph.rules import ELEMENTWISE
from balacoon_tk.graph.shaped import ShapedPass
from balacoon_tk.targets.ort_cpu.passes.base import CHANNELS, TO_IMAGE, TO_ROWS
from balacoon_tk.targets.ort_cpu.passes.lift_to_2d import ROW_AXIS

_TURN = [0, 2, 1]

_Form = Literal["image", "plain", "turned", "rows"]
"""(1, C, 1, T), (1, C, T), (1, T, C) and (1, 1, T, C)."""

# From which forms each is written: the one that is there, or else the last, which is written on the way.
_SOURCES: dict[_Form, tuple[_Form, _Form]] = {
    "image": ("plain", "rows"),
    "plain": ("turned", "image"),
    "turned": ("plain", "rows"),
    "rows": ("turned", "image"),
}
# By which operator, with a permutation or with an axis.
_STEPS: dict[tuple[_Form, _Form], tuple[str, Sequence[int]]] = {
    ("plain", "image"): ("Unsqueeze", [ROW_AXIS]),
    ("rows", "image"): ("Transpose", TO_IMAGE),
    ("image", "plain"): ("Squeeze", [ROW_AXIS]),
    ("turned", "plain"): ("Transpose", _TURN),
    ("plain", "turned"): ("Transpose", _TURN),
    ("rows", "turned"): ("Squeeze", [1]),
    ("turned", "rows"): ("Unsqueeze", [1]),
    ("image", "rows"): ("Transpose", TO_ROWS),
}
# What only looks at a tensor in another form.
_LOOKS: dict[tuple[str, _Form], _Form] = {
    ("Squeeze", "image"): "plain",
    ("Unsqueeze", "plain"): "image",
    ("Transpose", "plain"): "turned",
    ("Transpose", "turned"): "plain",
}


@dataclass(frozen=True, eq=False)
class _Tensor:
    """One tensor in the forms that have been written so far."""

    forms: dict[_Form, ir.Value]


@dataclass(frozen=True)
class _View:
    """A tensor, and the form in which a value of the graph is it."""

    tensor: _Tensor
    form: _Form


class KeepRowsPass(ShapedPass):
    """Keep rows of all that is turned over between convolutions of images."""

    def call(self, model: ir.Model) -> PassResult:
        """Rewrite the graph from its first node to its last, if anything in it is turned over."""
        if not any(self._turns_an_image(node) for node in model.graph):
            return PassResult(model, modified=False)
        rewriting = _Rewriting(model.graph, self._shapes)
        for node in list(model.graph):
            rewriting.node(node)
        rewriting.finish()
        remove_unused(model)
        return PassResult(model, modified=True)

    def _turns_an_image(self, node: ir.Node) -> bool:
        source = node.inputs[0] if node.op_type == "Transpose" else None
        before = None if source is None else source.producer()
        return before is not None and before.op_type == "Squeeze" and ints_of(node, "perm", []) == _TURN


class _Rewriting:
    def __init__(self, graph: ir.Graph, shapes: Shapes) -> None:
        self._graph, self._shapes, self._names = graph, shapes, Names(graph)
        self._views: dict[ir.Value | None, _View] = {}
        self._write = Writer(graph, self._names, "")

    def node(self, node: ir.Node) -> None:
        """Write a node anew, or give it its inputs as they were."""
        self._write = Writer(self._graph, self._names, node.outputs[0].name or node.op_type)
        if not is_standard(node) or not (self._look(node) or self._work(node) or self._pad(node)):
            for index, value in enumerate(node.inputs):
                if value in self._views:
                    view = self._views[value]
                    node.replace_input_with(index, self._form(view.tensor, view.form))
        self._graph.insert_before(node, self._write.nodes)

    def finish(self) -> None:
        """Give the graph's outputs as they were."""
        for value in list(self._graph.outputs):
            producer, view = value.producer(), self._views.get(value)
            if view is not None and producer is not None:
                self._write = Writer(self._graph, self._names, f"{value.name}.output")
                output = self._form(view.tensor, view.form)
                self._graph.insert_after(producer, self._write.nodes)
                if output is not value:
                    bypass(self._graph, value, output)
        self._graph.sort()

    def _look(self, node: ir.Node) -> bool:
        """Take a node that only changes the form of a tensor for a look at it; nothing is written."""
        view = self._view(input_of(node, 0))
        form = None if view is None else _LOOKS.get((node.op_type, view.form))
        if view is None or form is None:
            return False
        if node.op_type == "Transpose":
            how = ints_of(node, "perm", [])
        elif (axes := constant_of(node, 1)) is not None:
            how = axes.tolist()
        else:
            how = ints_of(node, "axes", [])
        if how != (_TURN if node.op_type == "Transpose" else [ROW_AXIS]):
            return False
        self._views[node.outputs[0]] = _View(view.tensor, form)
        return True

    def _work(self, node: ir.Node) -> bool:
        """Let a node that treats each row alone work on rows."""
        constants = {k: each for k in range(len(node.inputs)) if (each := constant_of(node, k)) is not None}
        data = {k: value for k, value in enumerate(node.inputs) if value is not None and k not in constants}
        views = {k: view for k, value in data.items() if (view := self._view(value)) is not None}
        if not views or len(views) < len(data) or len(node.outputs) != 1:
            return False
        forms = {view.form for view in views.values()}
        inputs = list(node.inputs)
        if node.op_type in ELEMENTWISE and forms in ({"image"}, {"turned"}):
            axis = CHANNELS - 4 if forms == {"image"} else -1
            if forms == {"image"} and not self._belongs_to_rows(node, list(views.values())):
                return False
            for index, constant in constants.items():
                vector = _along_channels(constant, axis)
                if vector is None:
                    return False
                if vector.ndim and axis != -1:
                    inputs[index] = self._write.constant(vector)
        elif forms != {"turned"} or 0 not in views or not _is_of_rows(node, constants):
            return False
        for index, view in views.items():
            inputs[index] = self._form(view.tensor, "rows")
        made = self._write.clone(node, inputs, suffix=".rows").outputs[0]
        self._views[node.outputs[0]] = _View(_Tensor({"rows": made}), forms.pop())
        return True

    def _belongs_to_rows(self, node: ir.Node, views: Sequence[_View]) -> bool:
        # What is added to rows comes to them, by way of the convolution that it is of.
        users = [user for user, _ in node.outputs[0].uses() if user.op_type in ELEMENTWISE]
        others = [self._views.get(value) for user in users for value in user.inputs]
        return any(view is not None and "rows" in view.tensor.forms for view in (*views, *others))

    def _pad(self, node: ir.Node) -> bool:
        """Pad rows in time: nothing is to stand between a turn and a convolution."""
        view, pads = self._views.get(input_of(node, 0)), constant_of(node, 1)
        if node.op_type != "Pad" or view is None or "rows" not in view.tensor.forms or pads is None:
            return False
        if view.form not in ("plain", "image") or input_of(node, 3) is not None:
            return False
        before, behind = np.split(pads, 2)
        if any(before[:-1]) or any(behind[:-1]):
            return False
        amounts = self._write.ints(0, 0, int(before[-1]), 0, 0, 0, int(behind[-1]), 0)
        inputs = [view.tensor.forms["rows"], amounts, *node.inputs[2:]]
        made = self._write.clone(node, inputs, suffix=".rows").outputs[0]
        self._views[node.outputs[0]] = _View(_Tensor({"rows": made}), view.form)
        return True

    def _form(self, tensor: _Tensor, form: _Form) -> ir.Value:
        """Return a tensor in a form, written the first time that it is asked for."""
        if form not in tensor.forms:
            first, last = _SOURCES[form]
            source = first if first in tensor.forms and last not in tensor.forms else last
            op_type, how = _STEPS[source, form]
            value = self._form(tensor, source)
            turn = producer_of(value, "Transpose")
            if form == "rows" and turn is not None and turn.inputs[0] is not None and _is_to_image(turn):
                tensor.forms[form] = turn.inputs[0]
            elif op_type == "Transpose":
                tensor.forms[form] = self._write.one(op_type, value, perm=how)
            else:
                tensor.forms[form] = self._write.over_axes(op_type, value, *how)
        return tensor.forms[form]

    def _view(self, value: ir.Value | None) -> _View | None:
        """Return how a value is seen; of what comes from elsewhere, an image is seen as one."""
        shapes = self._shapes.get(name_of(value), ())
        is_image = shapes and all(len(each) == 4 and each[0] == each[ROW_AXIS] == 1 for each in shapes)
        if value is not None and value not in self._views and is_image:
            self._views[value] = _View(_Tensor({"image": value}), "image")
        return self._views.get(value)


def _is_to_image(turn: ir.Node) -> bool:
    return ints_of(turn, "perm", []) == TO_IMAGE


def _is_of_rows(node: ir.Node, constants: dict[int, AnyArray]) -> bool:
    """Whether a node mixes channels alone, of whatever stands before them."""
    if node.op_type == "MatMul":
        return constants[1].ndim == 2
    if node.op_type == "LayerNormalization":
        return node.attributes.get_int("axis", -1) == -1
    if node.op_type == "ReduceMean":
        axes = constants[1].tolist() if 1 in constants else ints_of(node, "axes", [])
        return axes == [-1] and node.attributes.get_int("keepdims", 1) == 1
    return False


def _along_channels(constant: AnyArray, axis: int) -> AnyArray | None:
    """Return a constant as a number or as a vector over channels; None if it is something else."""
    if constant.ndim > (3 if axis == -1 else 4):
        return None
    if constant.size == 1:
        return constant.reshape(())
    if constant.ndim < -axis or constant.shape[axis] != constant.size:
        return None
    return np.ascontiguousarray(constant.reshape(-1))
