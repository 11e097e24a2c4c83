"""Carry WaveNet's residual and skip signals in one tensor.

A layer's last convolution makes both at once, ``r`` in its first channels and ``s`` in the others;
exporters then split it, and add each part to its own running sum::

    x = x + r                  z = z + [r; s]        where  z = [x; skip]
    skip = skip + s      ->    x, skip = z[:H], z[H:]

The sums are the same, one is left instead of two, and a stream has to delay one tensor instead of two
([1] van den Oord et al., "WaveNet", 2016, section 2.4).
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir
from onnx_ir.passes import PassResult

from balacoon_tk.graph.edit import Names, Writer, remove_unused
from balacoon_tk.graph.match import bounds_of, name_of, only_user
from balacoon_tk.graph.shaped import ShapedPass
from balacoon_tk.targets.ort_cpu.passes.base import CHANNELS


class _Layer(NamedTuple):
    """One convolution for both signals."""

    both: ir.Value
    # Channels of the residual signal, which come first.
    n_residual: int
    skip: ir.Value
    residual_in: ir.Value
    residual_out: ir.Value


class _Sums(NamedTuple):
    """What has been added up after a layer."""

    residual: ir.Value
    skip: ir.Value
    # Both sums in one tensor, if there is one already.
    joined: ir.Value | None


class JoinResidualAndSkipPass(ShapedPass):
    """Join the two running sums from each stack's second layer on."""

    def call(self, model: ir.Model) -> PassResult:
        """Join all layers that follow one another."""
        names = Names(model.graph)
        # After each layer, by its residual sum, by which the next layer is known to be one.
        sums: dict[ir.Value, _Sums] = {}
        modified = False
        # One at a time: joining a layer changes what the next one reads.
        for layer in filter(None, map(self._layer, list(model.graph))):
            before = sums.pop(layer.residual_in, None)
            add = None if before is None else self._sum_of(before.skip, layer.skip)
            if before is None or add is None:
                # A first layer only says where its sums begin: the second makes the tensor that joins them.
                after = _Sums(layer.residual_out, layer.skip, None)
            else:
                after = _join(model.graph, layer, before, add, names)
                # The next layer asks for the shapes of values that nobody has seen run.
                self._shapes[name_of(after.residual)] = self.shapes_of(layer.residual_in)
                self._shapes[name_of(after.skip)] = self.shapes_of(layer.skip)
                modified = True
            sums[after.residual] = after
        if modified:
            model.graph.sort()
            remove_unused(model)
        return PassResult(model, modified)

    def _layer(self, node: ir.Node) -> _Layer | None:
        both = node.outputs[0]
        users = [user for user, _ in both.uses()]
        if node.op_type != "Conv" or both.is_graph_output() or len(users) != 2:
            return None
        n_channels = self.shapes_of(both)[0][CHANNELS]
        bounds = {user: bounds_of(user, CHANNELS) for user in users}
        parts = {slice(*b).indices(n_channels)[:2]: user.outputs[0] for user, b in bounds.items() if b}
        n_residual = next((stop for start, stop in parts if start == 0), 0)
        residual, skip = parts.get((0, n_residual)), parts.get((n_residual, n_channels))
        add = None if residual is None else only_user(residual)
        if residual is None or skip is None or add is None or add.op_type != "Add":
            return None
        residual_in = next((value for value in add.inputs if value is not residual), None)
        if residual_in is None or add.outputs[0].is_graph_output():
            return None
        # An addition that repeats what it adds is no sum of signals.
        if self.shapes_of(residual_in) != self.shapes_of(residual):
            return None
        return _Layer(both, n_residual, skip, residual_in, add.outputs[0])

    def _sum_of(self, a: ir.Value, b: ir.Value) -> ir.Node | None:
        """Return the node that adds two values of one shape, if it is the only one to read the second."""
        add = only_user(b)
        if add is None or add.op_type != "Add" or a not in add.inputs or add.outputs[0].is_graph_output():
            return None
        return add if self.shapes_of(a) == self.shapes_of(b) else None


def _join(graph: ir.Graph, layer: _Layer, before: _Sums, add: ir.Node, names: Names) -> _Sums:
    """Add a layer to both sums at once."""
    write = Writer(graph, names, str(layer.both.name))
    joined = before.joined
    if joined is None:
        joined = write.one("Concat", layer.residual_in, before.skip, axis=CHANNELS)
        # Whoever reads the sum so far reads it from here, so that a stream needs to keep only one.
        earlier = write.slice(joined, CHANNELS, 0, layer.n_residual)
        for user, index in list(layer.residual_in.uses()):
            if user is not write.nodes[0]:
                user.replace_input_with(index, earlier)
    total = write.one("Add", joined, layer.both)
    residual = write.slice(total, CHANNELS, 0, layer.n_residual)
    skip = write.after(total, CHANNELS, layer.n_residual)
    graph.extend(write.nodes)
    layer.residual_out.replace_all_uses_with(residual)
    add.outputs[0].replace_all_uses_with(skip)
    return _Sums(residual, skip, total)
