"""Keep the channels of a phoneme together: layer norms and products read them where they are.

An encoder is trained with channels before time, (1, C, T), and turned over for every layer norm and back.
Here a tensor stands as rows, (T, C), and in the other forms only where an operator wants them:

1. ``Conv`` of one step is a product with a matrix, ``Gemm``, which adds the bias while it multiplies.
2. ``Conv`` of several steps is a convolution of images (1, C, 1, T), for which the runtime has blocked
   kernels; it reads and writes rows, as (1, 1, T, C), while it blocks channels.
3. ``LayerNormalization`` of a tensor that was turned over is one of rows.
4. Pointwise operators, ``Split``, ``Slice`` and ``Concat`` of channels take the form that is there.
5. ``Reshape`` to the heads of an attention and back goes by way of (1, T, n_heads, C / n_heads);
   one of a tensor that was turned over takes rows, whose numbers have the same order.

Whatever else reads such a tensor gets it as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PassResult

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.edit import Names, Writer, bypass, constant_of, remove_unused
from balacoon_tk.graph.known import Shapes
from balacoon_tk.graph.rules import ELEMENTWISE
from balacoon_tk.graph.shaped import ShapedPass

_TURN, _TURN_HEADS = [0, 2, 1], [0, 1, 3, 2]
_OVER_CHANNELS = frozenset({"Concat", "Slice", "Split"})


@dataclass(slots=True)
class _Tensor:
    """One tensor in the forms that have been written so far."""

    plain: ir.Value | None = None
    """(1, C, T)"""
    turned: ir.Value | None = None
    """(1, T, C)"""
    rows: ir.Value | None = None
    """(T, C)"""
    image: ir.Value | None = None
    """(1, C, 1, T)"""


@dataclass(slots=True)
class _Heads:
    """One tensor of an attention's heads."""

    plain: ir.Value | None = None
    """(1, n_heads, C, T)"""
    turned: ir.Value | None = None
    """(1, n_heads, T, C)"""


@dataclass(frozen=True, slots=True)
class _View:
    """How a value of the graph sees a tensor."""

    tensor: _Tensor | _Heads
    is_turned: bool


class ChannelsLastPass(ShapedPass):
    """Turn over everything between convolutions, layer norms and the projections of heads.

    Parameters
    ----------
    shapes : mapping of str to sequence of tuple
        The shape of every tensor, at two lengths or more; what is turned over has none afterwards.
    """

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
        self._graph, self._shapes = graph, shapes
        self._names = Names(graph)
        self._views: dict[ir.Value, _View] = {}
        self._write = Writer(graph, self._names, "")

    def node(self, node: ir.Node) -> None:
        """Write a node anew, or give it its inputs as they were."""
        self._write = Writer(self._graph, self._names, node.outputs[0].name or node.op_type)
        if node.domain not in ("", "ai.onnx") or not self._rewrite(node):
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
        if node.op_type == "Transpose":
            return self._transpose(node)
        if node.op_type == "Conv":
            return self._conv(node)
        if node.op_type == "LayerNormalization":
            return self._layer_norm(node)
        if node.op_type == "Reshape":
            return self._reshape(node)
        if node.op_type in _OVER_CHANNELS:
            return self._over_channels(node)
        return node.op_type in ELEMENTWISE and self._pointwise(node)

    # --- one method for each kind of operator ------------------------------------------------------------

    def _transpose(self, node: ir.Node) -> bool:
        source = node.inputs[0]
        perm = list(node.attributes["perm"].as_ints()) if "perm" in node.attributes else []
        if source is None or perm not in (_TURN, _TURN_HEADS):
            return False
        if source not in self._views:
            tensor = _Tensor(turned=source) if perm == _TURN else _Heads(turned=source)
            if not self._has_rank(source, len(perm)):
                return False
            self._views[source] = _View(tensor, is_turned=True)
        view = self._views[source]
        self._views[node.outputs[0]] = _View(view.tensor, is_turned=not view.is_turned)
        return True

    def _conv(self, node: ir.Node) -> bool:
        tensor, weight = self._tensor(node.inputs[0]), constant_of(node, 1)
        bias = constant_of(node, 2) if len(node.inputs) > 2 else None
        if tensor is None or weight is None or weight.ndim != 3 or (bias is None and len(node.inputs) > 2):
            return False
        if "auto_pad" in node.attributes and node.attributes["auto_pad"].as_string() != "NOTSET":
            return False
        group = node.attributes["group"].as_int() if "group" in node.attributes else 1
        pads, strides, dilations = (
            list(node.attributes[name].as_ints()) if name in node.attributes else default
            for name, default in (("pads", [0, 0]), ("strides", [1]), ("dilations", [1]))
        )
        if weight.shape[2] == group == strides[0] == 1 and not any(pads):
            self._views[node.outputs[0]] = _View(_Tensor(rows=self._product(tensor, weight, bias)), False)
            return True
        weights = [self._write.constant(weight[:, :, None])]
        if bias is not None:
            weights.append(self._write.constant(bias))
        image = self._write.one(
            "Conv",
            self._image(tensor),
            *weights,
            group=group,
            kernel_shape=[1, weight.shape[2]],
            pads=[0, pads[0], 0, pads[1]],
            strides=[1, *strides],
            dilations=[1, *dilations],
        )
        self._views[node.outputs[0]] = _View(_Tensor(image=image), is_turned=False)
        return True

    def _product(self, tensor: _Tensor, weight: AnyArray, bias: AnyArray | None) -> ir.Value:
        if weight.shape[1] == 1 and tensor.plain is not None and tensor.rows is None:
            tensor.rows = self._write.one("Reshape", tensor.plain, self._write.ints(-1, 1))
        rows = self._rows(tensor)
        matrix = self._write.constant(weight[:, :, 0].T)
        if bias is None:
            return self._write.one("MatMul", rows, matrix)
        return self._write.one("Gemm", rows, matrix, self._write.constant(bias))

    def _layer_norm(self, node: ir.Node) -> bool:
        view = self._views.get(node.inputs[0]) if node.inputs[0] is not None else None
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
        if view is None or not isinstance(view.tensor, _Tensor) or not view.is_turned or axis not in (-1, 2):
            return False
        epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
        rows = self._write.one(
            "LayerNormalization", self._rows(view.tensor), *node.inputs[1:], axis=-1, epsilon=epsilon
        )
        self._views[node.outputs[0]] = _View(_Tensor(rows=rows), is_turned=True)
        return True

    def _reshape(self, node: ir.Node) -> bool:
        source, shapes = node.inputs[0], self._shapes.get(node.outputs[0].name or "")
        before = None if source is None else self._shapes.get(source.name or "")
        view = None if source is None else self._views.get(source)
        shape = constant_of(node, 1)
        if view is None or before is None or shapes is None or shape is None:
            return False
        if view.is_turned:
            if not isinstance(view.tensor, _Tensor) or not shape.all():
                return False
            to_rows = shape.tolist() == [-1, before[0][-1]]
            return self._reshape_turned(node, view.tensor, to_rows=to_rows)
        if isinstance(view.tensor, _Tensor):
            heads = {shape[:-1] for shape in shapes}
            if len(heads) != 1 or any(
                len(s) != 4 or s[3] != b[2] for s, b in zip(shapes, before, strict=True)
            ):
                return False
            _, n_heads, n_channels = heads.pop()
            rows = self._write.one(
                "Reshape", self._rows(view.tensor), self._write.ints(1, -1, n_heads, n_channels)
            )
            turned = self._write.one("Transpose", rows, perm=[0, 2, 1, 3])
            self._views[node.outputs[0]] = _View(_Heads(turned=turned), is_turned=False)
            return True
        if any(len(s) != 3 or s[2] != b[3] for s, b in zip(shapes, before, strict=True)):
            return False
        rows = self._write.one("Transpose", self._turned(view.tensor), perm=[0, 2, 1, 3])
        rows = self._write.one("Reshape", rows, self._write.ints(-1, shapes[0][1]))
        self._views[node.outputs[0]] = _View(_Tensor(rows=rows), is_turned=False)
        return True

    def _reshape_turned(self, node: ir.Node, tensor: _Tensor, *, to_rows: bool) -> bool:
        """Reshape rows, whose numbers have the order of the turned tensor."""
        node.replace_input_with(0, self._rows(tensor))
        if to_rows and not node.outputs[0].is_graph_output():
            node.outputs[0].replace_all_uses_with(self._rows(tensor))
        return True

    def _over_channels(self, node: ir.Node) -> bool:
        """Split, slice or join along axis 1, which is the last of rows."""
        data = node.inputs if node.op_type == "Concat" else node.inputs[:1]
        views = [self._views.get(value) for value in data if value is not None]
        if any(view is None or view.is_turned for view in views) or not views:
            return False
        known = [view.tensor for view in views if view is not None]
        arguments = list(node.inputs[len(data) :])
        attributes: dict[str, int] = {}
        if node.op_type == "Slice":
            axes = constant_of(node, 3)
            if axes is None or axes.tolist() != [1]:
                return False
            arguments[2] = self._write.ints(1)
        elif (node.attributes["axis"].as_int() if "axis" in node.attributes else 0) != 1:
            return False
        else:
            attributes["axis"] = 1
        if all(isinstance(tensor, _Tensor) for tensor in known):
            values = [self._rows(tensor) for tensor in known if isinstance(tensor, _Tensor)]
        elif all(isinstance(tensor, _Heads) for tensor in known):
            values = [self._turned(tensor) for tensor in known if isinstance(tensor, _Heads)]
        else:
            return False
        made = self._write.op(node.op_type, *values, *arguments, n_outputs=len(node.outputs), **attributes)
        for old, new in zip(node.outputs, made, strict=True):
            tensor = _Tensor(rows=new) if isinstance(known[0], _Tensor) else _Heads(turned=new)
            self._views[old] = _View(tensor, is_turned=False)
        return True

    def _pointwise(self, node: ir.Node) -> bool:
        views: dict[int, _View] = {}
        constants: dict[int, AnyArray] = {}
        for index, value in enumerate(node.inputs):
            constant = constant_of(node, index)
            if constant is not None:
                constants[index] = constant
            elif value is not None:
                if value not in self._views and not self._has_rank(value, 3):
                    return False
                views[index] = self._views.get(value) or _View(_Tensor(plain=value), is_turned=False)
        if (
            not any(value in self._views for value in node.inputs)
            or len({v.is_turned for v in views.values()}) != 1
        ):
            return False
        tensors = {index: view.tensor for index, view in views.items() if isinstance(view.tensor, _Tensor)}
        is_turned = next(iter(views.values())).is_turned
        if len(tensors) != len(views):
            return False
        as_image = all(tensor.image is not None and tensor.rows is None for tensor in tensors.values())
        inputs: list[ir.Value | None] = [None] * len(node.inputs)
        for index, constant in constants.items():
            vector = _along_channels(constant, is_turned=is_turned)
            if vector is None:
                return False
            shaped = vector.reshape(-1, 1, 1) if as_image and vector.ndim else vector
            inputs[index] = self._write.constant(shaped) if vector.ndim else node.inputs[index]
        for index, tensor in tensors.items():
            inputs[index] = self._image(tensor) if as_image else self._rows(tensor)
        made = ir.node(node.op_type, inputs, dict(node.attributes))
        made.outputs[0].name = self._names.take(f"{node.outputs[0].name}.rows")
        made.name = self._names.take(f"{node.name}.rows")
        self._write.nodes.append(made)
        tensor = _Tensor(image=made.outputs[0]) if as_image else _Tensor(rows=made.outputs[0])
        self._views[node.outputs[0]] = _View(tensor, is_turned)
        return True

    # --- the forms of a tensor, each written once ----------------------------------------------------------

    def _tensor(self, value: ir.Value | None) -> _Tensor | None:
        """Return the tensor that a value sees as (1, C, T)."""
        if value is None:
            return None
        if value not in self._views:
            if not self._has_rank(value, 3):
                return None
            self._views[value] = _View(_Tensor(plain=value), is_turned=False)
        view = self._views[value]
        return None if view.is_turned or not isinstance(view.tensor, _Tensor) else view.tensor

    def _has_rank(self, value: ir.Value, rank: int) -> bool:
        """Whether a value is a tensor of that rank whose batch is 1."""
        shapes = self._shapes.get(value.name or "")
        return bool(shapes) and all(len(shape) == rank and shape[0] == 1 for shape in shapes or ())

    def _as_it_was(self, value: ir.Value) -> ir.Value:
        view = self._views[value]
        if isinstance(view.tensor, _Heads):
            return self._turned(view.tensor) if view.is_turned else self._plain_heads(view.tensor)
        tensor = view.tensor
        if view.is_turned:
            if tensor.turned is None:
                if tensor.rows is None and tensor.plain is not None:
                    tensor.turned = self._write.one("Transpose", tensor.plain, perm=_TURN)
                else:
                    tensor.turned = self._write.one("Unsqueeze", self._rows(tensor), self._write.ints(0))
            return tensor.turned
        if tensor.plain is None:
            if tensor.image is None and tensor.turned is not None:
                tensor.plain = self._write.one("Transpose", tensor.turned, perm=_TURN)
            else:
                tensor.plain = self._write.one("Squeeze", self._image(tensor), self._write.ints(2))
        return tensor.plain

    def _rows(self, tensor: _Tensor) -> ir.Value:
        if tensor.rows is None:
            if tensor.turned is not None:
                tensor.rows = self._write.one("Squeeze", tensor.turned, self._write.ints(0))
            else:
                line = self._write.one("Transpose", self._image(tensor), perm=[0, 2, 3, 1])
                tensor.rows = self._write.one("Squeeze", line, self._write.ints(0, 1))
        return tensor.rows

    def _image(self, tensor: _Tensor) -> ir.Value:
        if tensor.image is None:
            if tensor.plain is not None:
                tensor.image = self._write.one("Unsqueeze", tensor.plain, self._write.ints(2))
            else:
                line = self._write.one("Unsqueeze", self._rows(tensor), self._write.ints(0, 1))
                tensor.image = self._write.one("Transpose", line, perm=[0, 3, 1, 2])
        return tensor.image

    def _turned(self, heads: _Heads) -> ir.Value:
        if heads.turned is None:
            heads.turned = self._write.one("Transpose", heads.plain, perm=_TURN_HEADS)
        return heads.turned

    def _plain_heads(self, heads: _Heads) -> ir.Value:
        if heads.plain is None:
            heads.plain = self._write.one("Transpose", heads.turned, perm=_TURN_HEADS)
        return heads.plain


def _along_channels(constant: AnyArray, *, is_turned: bool) -> AnyArray | None:
    """Return a constant as a number or as a vector over channels; None if it is something else."""
    if constant.size == 1:
        return constant.reshape(())
    axis = -1 if is_turned else -2
    if constant.ndim < -axis or constant.ndim > 3 or constant.shape[axis] != constant.size:
        return None
    return np.ascontiguousarray(constant.reshape(-1))
