"""Carry WaveNet's residual and skip signals in one tensor.

A layer's last convolution makes both at once, ``r`` in its first channels and ``s`` in the others;
exporters then split it, and add each part to its own running sum::

    x = x + r                  z = z + [r; s]        where  z = [x; skip]
    skip = skip + s      ->    x, skip = z[:H], z[H:]

The sums are the same, one is left instead of two, and a stream has to delay one tensor instead of two
([1] van den Oord et al., "WaveNet", 2016, section 2.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import PassResult

from balacoon_tk.graph.edit import Names, Writer, constant_of, only_user, remove_unused
from balacoon_tk.graph.shaped import ShapedPass

_CHANNELS = 1
_TO_THE_END = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Layer:
    """One convolution for both signals."""

    both: ir.Value
    n_residual: int
    """Channels of the residual signal, which come first."""
    skip: ir.Value
    residual_in: ir.Value
    residual_out: ir.Value


@dataclass(frozen=True, slots=True)
class _Sums:
    """What has been added up after a layer."""

    skip: ir.Value
    joined: ir.Value | None
    """Both sums in one tensor, if there is one already."""


class JoinResidualAndSkipPass(ShapedPass):
    """Join the two running sums from each stack's second layer on."""

    def call(self, model: ir.Model) -> PassResult:
        """Join all layers that follow one another."""
        names = Names(model.graph)
        sums: dict[ir.Value, _Sums] = {}
        """After each layer, by its residual sum."""
        modified = False
        for node in list(model.graph):
            layer = self._layer(node)
            if layer is None:
                continue
            before = sums.pop(layer.residual_in, None)
            if before is not None and self._shape(before.skip) != self._shape(layer.skip):
                before = None
            add = None if before is None else _sum_of(before.skip, layer.skip)
            if before is None or add is None:
                sums[layer.residual_out] = _Sums(layer.skip, None)
                continue
            residual, skip, joined = _join(model.graph, layer, before, add, names)
            self._shapes[str(residual.name)] = self._shape(layer.residual_in)
            self._shapes[str(skip.name)] = self._shape(layer.skip)
            sums[residual] = _Sums(skip, joined)
            modified = True
        if modified:
            model.graph.sort()
            remove_unused(model)
        return PassResult(model, modified)

    def _layer(self, node: ir.Node) -> _Layer | None:
        both = node.outputs[0]
        users = [user for user, _ in both.uses()]
        if node.op_type != "Conv" or both.is_graph_output() or len(users) != 2:
            return None
        n_channels = self._shape(both)[0][_CHANNELS]
        parts = {_channels(user, n_channels): user.outputs[0] for user in users}
        n_residual = next((stop for start, stop in parts if start == 0), 0)
        residual, skip = parts.get((0, n_residual)), parts.get((n_residual, n_channels))
        add = None if residual is None else only_user(residual)
        if residual is None or skip is None or add is None or add.op_type != "Add":
            return None
        if add.outputs[0].is_graph_output():
            return None
        residual_in = next((value for value in add.inputs if value is not residual), None)
        if residual_in is None or self._shape(residual_in) != self._shape(residual):
            return None
        return _Layer(both, n_residual, skip, residual_in, add.outputs[0])

    def _shape(self, value: ir.Value) -> Sequence[tuple[int, ...]]:
        return self._shapes[str(value.name)]


def _channels(node: ir.Node, n_channels: int) -> tuple[int, int]:
    """Return from where to where a node cuts out channels; (-1, -1) if it does something else."""
    bounds = [constant_of(node, index) for index in range(1, 5)]
    starts, ends, axes, steps = bounds
    if node.op_type != "Slice" or starts is None or ends is None or axes is None:
        return -1, -1
    if axes.tolist() != [_CHANNELS] or (steps is not None and steps.tolist() != [1]):
        return -1, -1
    start, stop, _ = slice(int(starts[0]), int(ends[0])).indices(n_channels)
    return start, stop


def _sum_of(a: ir.Value, b: ir.Value) -> ir.Node | None:
    """Return the node that adds two values, if it is the only one to read the second."""
    add = only_user(b)
    fits = add is not None and add.op_type == "Add" and a in add.inputs
    return add if fits and add is not None and not add.outputs[0].is_graph_output() else None


def _join(
    graph: ir.Graph, layer: _Layer, before: _Sums, add: ir.Node, names: Names
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Add a layer to both sums at once; return the residual sum, the skip sum, and both in one."""
    write = Writer(graph, names, str(layer.both.name))

    def cut(value: ir.Value, start: int, stop: int) -> ir.Value:
        return write.one("Slice", value, *(write.ints(n) for n in (start, stop, _CHANNELS)))

    n_residual = layer.n_residual
    joined = before.joined
    if joined is None:
        joined = write.one("Concat", layer.residual_in, before.skip, axis=_CHANNELS)
        # Whoever reads the sum so far reads it from here, so that a stream needs to keep only one.
        earlier = cut(joined, 0, n_residual)
        for user, index in list(layer.residual_in.uses()):
            if user is not write.nodes[0]:
                user.replace_input_with(index, earlier)
    total = write.one("Add", joined, layer.both)
    residual, skip = cut(total, 0, n_residual), cut(total, n_residual, _TO_THE_END)
    graph.extend(write.nodes)
    layer.residual_out.replace_all_uses_with(residual)
    add.outputs[0].replace_all_uses_with(skip)
    return residual, skip, total
