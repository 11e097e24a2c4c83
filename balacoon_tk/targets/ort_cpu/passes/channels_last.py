"""Keep the channels of a phoneme together: layer norms and products read them where they are.

An encoder is trained with channels before time, (1, C, T), and turned over for every layer norm and back.
Here a tensor stands as rows, (T, C), and in the other forms only where an operator wants them:

1. ``Conv`` of one step is a product with a matrix, ``Gemm``, which adds the bias while it multiplies.
2. ``Conv`` of several steps is a convolution of images (1, C, 1, T), for which the runtime has blocked
   kernels; it reads and writes rows, as (1, 1, T, C), while it blocks channels.
3. ``LayerNormalization`` of a tensor that was turned over is one of rows.
4. Pointwise operators, ``Split``, ``Slice`` and ``Concat`` of channels take the form that is there.
5. ``Reshape`` to the heads of an attention and back goes by way of (T, 1, n_heads, C / n_heads), from which
   the runtime's products read heads without a copy; one of a tensor that was turned over takes rows, whose
   numbers have the same order.
6. ``Pad`` along time pads the form that is there: nothing stands between a transpose and a convolution.

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
from balacoon_tk.graph.match import constant_of, ints_of, is_standard, name_of
from balacoon_tk.graph.rules import ELEMENTWISE
from balacoon_tk.graph.shaped import ShapedPass
from balacoon_tk.targets.ort_cpu.passes.base import TO_IMAGE, TO_ROWS

_TURN, _TURN_HEADS = [0, 2, 1], [0, 1, 3, 2]

_Form = Literal["plain", "turned", "rows", "image"]
"""(1, C, T), (1, T, C), (T, C) and (1, C, 1, T); of heads, which are no image, (1, n_heads, C, T),
(1, n_heads, T, C) and (T, 1, n_heads, C)."""

# From which forms each is written, the first that is there. If none is, the last is written on the way.
_SOURCES: dict[_Form, tuple[_Form, ...]] = {
    "plain": ("image", "turned", "image"),
    "turned": ("rows", "plain", "rows"),
    "rows": ("turned", "image"),
    "image": ("plain", "rows"),
}
# By which operators, with a permutation or with axes.
_STEPS: dict[tuple[_Form, _Form], tuple[tuple[str, Sequence[int]], ...]] = {
    ("image", "plain"): (("Squeeze", [2]),),
    ("turned", "plain"): (("Transpose", _TURN),),
    ("rows", "turned"): (("Unsqueeze", [0]),),
    ("plain", "turned"): (("Transpose", _TURN),),
    ("turned", "rows"): (("Squeeze", [0]),),
    ("image", "rows"): (("Transpose", TO_ROWS), ("Squeeze", [0, 1])),
    ("plain", "image"): (("Unsqueeze", [2]),),
    ("rows", "image"): (("Unsqueeze", [0, 1]), ("Transpose", TO_IMAGE)),
}
# From the first form of heads that is there. Written so, a transpose becomes a flag of the product behind it.
_HEADS_STEPS: dict[_Form, dict[_Form, Sequence[int]]] = {
    "plain": {"rows": [1, 2, 3, 0], "turned": _TURN_HEADS},
    "turned": {"rows": [1, 2, 0, 3], "plain": _TURN_HEADS},
    "rows": {"turned": [2, 0, 1, 3], "plain": [3, 0, 1, 2]},
}


@dataclass(eq=False)
class _Tensor:
    """One tensor in the forms that have been written so far."""

    forms: dict[_Form, ir.Value]
    is_heads: bool = False


@dataclass(frozen=True)
class _View:
    """How a value of the graph sees a tensor."""

    tensor: _Tensor
    is_turned: bool = False


class ChannelsLastPass(ShapedPass):
    """Turn over everything between convolutions, layer norms and the projections of heads."""

    def call(self, model: ir.Model) -> PassResult:
        """Rewrite the graph from its first node to its last."""
        if not any(node.op_type == "LayerNormalization" for node in model.graph):
            return PassResult(model, modified=False)  # turning over would only add work
        rewriting = _Rewriting(model.graph, self._shapes)
        for node in list(model.graph):
            rewriting.node(node)
        rewriting.finish()
        remove_unused(model)
        return PassResult(model, modified=True)


class _Rewriting:
    def __init__(self, graph: ir.Graph, shapes: Shapes) -> None:
        self._graph, self._shapes, self._names = graph, shapes, Names(graph)
        self._views: dict[ir.Value | None, _View] = {}
        self._write = Writer(graph, self._names, "")

    def node(self, node: ir.Node) -> None:
        """Write a node anew, or give it its inputs as they were."""
        self._write = Writer(self._graph, self._names, node.outputs[0].name or node.op_type)
        if not is_standard(node) or not self._rewrite(node):
            for index, value in enumerate(node.inputs):
                if value in self._views:
                    node.replace_input_with(index, self._as_it_was(value))
        self._graph.insert_before(node, self._write.nodes)

    def finish(self) -> None:
        """Give the graph's outputs as they were."""
        for value in list(self._graph.outputs):
            producer = value.producer()
            if value in self._views and producer is not None:
                self._write = Writer(self._graph, self._names, f"{value.name}.output")
                output = self._as_it_was(value)
                self._graph.insert_after(producer, self._write.nodes)
                bypass(self._graph, value, output)
        self._graph.sort()

    def _rewrite(self, node: ir.Node) -> bool:
        methods = dict.fromkeys(ELEMENTWISE, self._pointwise)
        methods |= dict.fromkeys(("Concat", "Slice", "Split"), self._over_channels)
        methods |= {"Transpose": self._transpose, "Pad": self._pad, "Conv": self._conv}
        methods |= {"LayerNormalization": self._layer_norm, "Reshape": self._reshape}
        return node.op_type in methods and methods[node.op_type](node)

    # --- one method for each kind of operator; False of what it doesn't know --------------------------------

    def _transpose(self, node: ir.Node) -> bool:
        source, perm = node.inputs[0], ints_of(node, "perm", [])
        if source is None or perm not in (_TURN, _TURN_HEADS):
            return False
        if source not in self._views:
            if not self._has_rank(source, len(perm)):
                return False
            # Of a tensor that comes from elsewhere, what is turned over is taken as the usual order.
            tensor = _Tensor({"turned": source}, is_heads=perm == _TURN_HEADS)
            self._views[source] = _View(tensor, is_turned=True)
        view = self._views[source]
        # Nothing is written: whoever reads it chooses a form.
        self._views[node.outputs[0]] = _View(view.tensor, not view.is_turned)
        return True

    def _conv(self, node: ir.Node) -> bool:
        tensor, weight, bias = self._tensor(node.inputs[0]), constant_of(node, 1), constant_of(node, 2)
        if tensor is None or weight is None or weight.ndim != 3 or (bias is None and len(node.inputs) > 2):
            return False
        if node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
            return False
        group, pads = node.attributes.get_int("group", 1), ints_of(node, "pads", [0, 0])
        strides, dilations = (ints_of(node, name, [1]) for name in ("strides", "dilations"))
        if weight.shape[2] == group == strides[0] == 1 and not any(pads):
            self._views[node.outputs[0]] = _View(_Tensor({"rows": self._product(tensor, weight, bias)}))
            return True
        weights = [self._write.constant(weight[:, :, None])]
        if bias is not None:
            weights.append(self._write.constant(bias))
        # An image has one row more: of one step, and without padding.
        attributes = {"kernel_shape": [1, weight.shape[2]], "pads": [0, pads[0], 0, pads[1]]}
        attributes |= {"strides": [1, *strides], "dilations": [1, *dilations]}
        source = self._form(tensor, "image")
        image = self._write.one("Conv", source, *weights, group=group, **attributes)
        self._views[node.outputs[0]] = _View(_Tensor({"image": image}))
        return True

    def _product(self, tensor: _Tensor, weight: AnyArray, bias: AnyArray | None) -> ir.Value:
        if weight.shape[1] == 1 and "plain" in tensor.forms and "rows" not in tensor.forms:
            # A single channel lies in time as in rows: no number moves.
            tensor.forms["rows"] = self._write.one("Reshape", tensor.forms["plain"], self._write.ints(-1, 1))
        rows = self._form(tensor, "rows")
        matrix = self._write.constant(weight[:, :, 0].T)
        if bias is None:
            return self._write.one("MatMul", rows, matrix)
        return self._write.one("Gemm", rows, matrix, self._write.constant(bias))

    def _layer_norm(self, node: ir.Node) -> bool:
        view, axis = self._views.get(node.inputs[0]), node.attributes.get_int("axis", -1)
        if view is None or view.tensor.is_heads or not view.is_turned or axis not in (-1, 2):
            return False
        epsilon = node.attributes.get_float("epsilon", 1e-5)
        rows = self._form(view.tensor, "rows")
        rows = self._write.one("LayerNormalization", rows, *node.inputs[1:], axis=-1, epsilon=epsilon)
        self._views[node.outputs[0]] = _View(_Tensor({"rows": rows}), is_turned=True)
        return True

    def _reshape(self, node: ir.Node) -> bool:
        before, after = (self._shapes.get(name_of(value)) for value in (node.inputs[0], node.outputs[0]))
        view, shape = self._views.get(node.inputs[0]), constant_of(node, 1)
        if view is None or before is None or after is None or shape is None:
            return False
        if view.is_turned:
            # A zero would copy a size of the form that rows don't have.
            if view.tensor.is_heads or not shape.all():
                return False
            rows = self._form(view.tensor, "rows")
            node.replace_input_with(0, rows)
            if shape.tolist() == [-1, before[0][-1]] and not node.outputs[0].is_graph_output():
                node.outputs[0].replace_all_uses_with(rows)
            return True
        # Time must stay the last axis, at each length that was seen.
        rank = 3 if view.tensor.is_heads else 4
        if any(len(a) != rank or a[-1] != b[-1] for a, b in zip(after, before, strict=True)):
            return False
        if view.tensor.is_heads:
            rows = self._write.one(
                "Reshape", self._form(view.tensor, "rows"), self._write.ints(-1, after[0][1])
            )
            self._views[node.outputs[0]] = _View(_Tensor({"rows": rows}))
            return True
        if len({sizes[:-1] for sizes in after}) != 1:
            return False
        rows, sizes = self._form(view.tensor, "rows"), self._write.ints(-1, 1, *after[0][1:3])
        rows = self._write.one("Reshape", rows, sizes)
        self._views[node.outputs[0]] = _View(_Tensor({"rows": rows}, is_heads=True))
        return True

    def _over_channels(self, node: ir.Node) -> bool:
        """Split, slice or join along axis 1, which is the last of rows and the same of heads."""
        data = node.inputs if node.op_type == "Concat" else node.inputs[:1]
        views = [self._views[value] for value in data if value in self._views]
        if len(views) < len(data) or any(view.is_turned for view in views):
            return False
        if not views or len({view.tensor.is_heads for view in views}) != 1:
            return False
        arguments, attributes = list(node.inputs[len(data) :]), dict[str, int]()
        if node.op_type == "Slice":
            axes = constant_of(node, 3)
            if axes is None or axes.tolist() != [1]:
                return False
            arguments[2] = self._write.ints(1)
        elif node.attributes.get_int("axis", 0) != 1:
            return False
        else:
            attributes["axis"] = 1
        is_heads = views[0].tensor.is_heads
        form: _Form = "turned" if is_heads else "rows"
        values = [self._form(view.tensor, form) for view in views]
        made = self._write.op(node.op_type, *values, *arguments, n_outputs=len(node.outputs), **attributes)
        for old, new in zip(node.outputs, made, strict=True):
            self._views[old] = _View(_Tensor({form: new}, is_heads))
        return True

    def _pointwise(self, node: ir.Node) -> bool:
        constants = {k: each for k in range(len(node.inputs)) if (each := constant_of(node, k)) is not None}
        data = {k: value for k, value in enumerate(node.inputs) if value is not None and k not in constants}
        known = [value for value in data.values() if value in self._views]
        if len(data) == 1 and known and self._views[known[0]].tensor.is_heads:
            return self._scale_heads(node, constants)
        if not known or not all(value in known or self._has_rank(value, 3) for value in data.values()):
            return False
        views = {k: self._views.get(value) or _View(_Tensor({"plain": value})) for k, value in data.items()}
        is_turned = self._views[known[0]].is_turned
        if any(view.is_turned != is_turned or view.tensor.is_heads for view in views.values()):
            return False
        # Between convolutions of several steps a tensor stays an image; wherever rows are there, they win.
        forms = [view.tensor.forms for view in views.values()]
        as_image = all("image" in each and "rows" not in each for each in forms)
        form: _Form = "image" if as_image else "rows"
        inputs = list(node.inputs)
        for index, constant in constants.items():
            vector = _along_channels(constant, is_turned=is_turned)
            if vector is None:
                return False
            if vector.ndim:
                inputs[index] = self._write.constant(vector.reshape(-1, 1, 1) if as_image else vector)
        for index, view in views.items():
            inputs[index] = self._form(view.tensor, form)
        made = self._write.clone(node, inputs, suffix=".rows")
        self._views[node.outputs[0]] = _View(_Tensor({form: made.outputs[0]}), is_turned)
        return True

    def _scale_heads(self, node: ir.Node, constants: dict[int, AnyArray]) -> bool:
        """Scale heads as they are: a scale between a transpose and a product would keep them apart."""
        if any(constant.size > 1 for constant in constants.values()):
            return False
        inputs, (index,) = list(node.inputs), set(range(len(node.inputs))) - set(constants)
        view = self._views[inputs[index]]
        form, inputs[index] = next(iter(view.tensor.forms.items()))
        made = self._write.clone(node, inputs, suffix=".heads")
        tensor = _Tensor({form: made.outputs[0]}, is_heads=True)
        self._views[node.outputs[0]] = _View(tensor, view.is_turned)
        return True

    def _pad(self, node: ir.Node) -> bool:
        view, pads = self._views.get(node.inputs[0]), constant_of(node, 1)
        if view is None or view.is_turned or view.tensor.is_heads or pads is None or len(node.inputs) > 3:
            return False
        (batch, *before), (batch_behind, *behind) = np.split(pads, 2)
        if batch or batch_behind:
            return False
        form: _Form = "rows" if "rows" in view.tensor.forms else "image"
        # Of channels and time, as this form has them.
        own = [[t, c] if form == "rows" else [0, c, 0, t] for c, t in (before, behind)]
        amounts = self._write.ints(*own[0], *own[1])
        padded = self._write.clone(
            node, [self._form(view.tensor, form), amounts, *node.inputs[2:]], suffix=".pad"
        )
        self._views[node.outputs[0]] = _View(_Tensor({form: padded.outputs[0]}))
        return True

    # --- the forms of a tensor, each written once ----------------------------------------------------------

    def _tensor(self, value: ir.Value | None) -> _Tensor | None:
        """Return the tensor that a value sees as (1, C, T)."""
        if value is not None and value not in self._views and self._has_rank(value, 3):
            self._views[value] = _View(_Tensor({"plain": value}))
        view = self._views.get(value)
        return None if view is None or view.is_turned or view.tensor.is_heads else view.tensor

    def _has_rank(self, value: ir.Value, rank: int) -> bool:
        """Whether a value is a tensor of that rank whose batch is 1."""
        shapes = self._shapes.get(name_of(value), ())
        return bool(shapes) and all(len(shape) == rank and shape[0] == 1 for shape in shapes)

    def _as_it_was(self, value: ir.Value | None) -> ir.Value:
        view = self._views[value]
        return self._form(view.tensor, "turned" if view.is_turned else "plain")

    def _form(self, tensor: _Tensor, form: _Form) -> ir.Value:
        """Return a tensor in a form, written the first time that it is asked for."""
        if form in tensor.forms:
            return tensor.forms[form]
        if tensor.is_heads:
            steps = _HEADS_STEPS[form]
            source = next(each for each in steps if each in tensor.forms)
            tensor.forms[form] = self._write.one("Transpose", tensor.forms[source], perm=steps[source])
            return tensor.forms[form]
        sources = _SOURCES[form]
        source = next((each for each in sources if each in tensor.forms), sources[-1])
        value = self._form(tensor, source)
        for op_type, numbers in _STEPS[source, form]:
            if op_type == "Transpose":
                value = self._write.one(op_type, value, perm=numbers)
            else:
                value = self._write.one(op_type, value, self._write.ints(*numbers))
        tensor.forms[form] = value
        return value


def _along_channels(constant: AnyArray, *, is_turned: bool) -> AnyArray | None:
    """Return a constant as a number or as a vector over channels; None if it is something else."""
    if constant.size == 1:
        return constant.reshape(())
    axis = -1 if is_turned else -2
    if constant.ndim < -axis or constant.ndim > 3 or constant.shape[axis] != constant.size:
        return None
    return np.ascontiguousarray(constant.reshape(-1))
