"""One transposed convolution in place of linear steps and the one that adds their frames up.

A head that ends in an inverse Fourier transform takes each frame's spectrum through a ``DFT`` or a product
with a matrix, multiplies by a window, turns axes, and adds the frames up where they overlap. All of that is
linear, and each frame is treated alike. So it is a transposed convolution whose kernel for a channel of the
spectrum is what comes out for one of that channel alone: the graph itself is run on such units to find it.

A constant that is repeated for every frame (the window, whose overlap the samples are divided by) becomes the
same of a single channel of ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.graph.edit import Writer
from balacoon_tk.graph.match import constant_of, is_standard, name_of, only_user, producer_of, scalar_of
from balacoon_tk.graph.probe import Probe
from balacoon_tk.graph.simplify.replace_nodes import replace_nodes
from balacoon_tk.runtime.session import Session

_MOVES = frozenset({"Gather", "Identity", "Neg", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
_COMPUTES = frozenset({"DFT", "Div", "MatMul", "Mul"})


def merge_overlap_add(model: ir.Model, probe: Probe) -> bool:
    """Merge linear steps into the transposed convolutions behind them; as `replace_nodes`."""
    return replace_nodes(model, probe, {"ConvTranspose": _write_merged})


def _write_merged(node: ir.Node, graph: ir.Graph, probe: Probe, write: Writer) -> ir.Value | None:
    kernels = constant_of(node, 1)
    if kernels is None or kernels.ndim != 3 or node.attributes.get_int("group", 1) != 1:
        return None
    merged = _merge(node, kernels, probe, write)
    if merged is None:
        return None
    # Under a name of its own: how a layer is rounded is known by its name, and this is another.
    return write.clone(node, [*merged, *node.inputs[2:]], suffix=".merged").outputs[0]


def _merge(node: ir.Node, kernels: AnyArray, probe: Probe, write: Writer) -> tuple[ir.Value, ir.Value] | None:
    """Return what the merged convolution reads: its frames and its kernels."""
    frames = source = node.inputs[0]
    steps: list[ir.Node] = []
    while (step := _linear_step(source, probe)) is not None:
        steps.insert(0, step)
        source = step.inputs[_varying_input(step)]
    axis = probe.varying_axis(source)
    if source is None or axis is None:
        return None
    shape = probe.shape_of(source)
    n_channels, dtype = prod(shape) // shape[axis], kernels.dtype
    repeated = _repeated(source, axis, probe)
    if repeated is not None and n_channels > 1:
        units = np.broadcast_to(repeated, (*shape[:axis], 1, *shape[axis + 1 :]))
    elif any(step.op_type in _COMPUTES for step in steps) and _is_cheaper(n_channels, kernels):
        units = np.moveaxis(np.eye(n_channels).reshape(n_channels, *np.delete(shape, axis)), 0, axis)
    else:
        return None
    of_units = _run(steps, name_of(source), name_of(frames), units)
    if of_units is None or of_units.shape != (1, len(kernels), units.shape[axis]):
        return None
    merged = np.einsum("ju,jok->uok", of_units[0], kernels.astype(np.float64)).astype(dtype)
    order = [*(k for k in range(len(shape)) if k != axis), axis]
    channels = source if order == sorted(order) else write.one("Transpose", source, perm=order)
    if [shape[k] for k in order[:-1]] != [1, n_channels]:
        channels = write.one("Reshape", channels, write.ints(1, n_channels, -1))
    if repeated is not None:
        zeros = write.one("Mul", write.slice(channels, 1, 0, 1), write.constant(np.zeros((), dtype)))
        channels = write.one("Add", zeros, write.constant(np.ones((), dtype)))
    return channels, write.constant(merged)


def _is_cheaper(n_channels: int, kernels: AnyArray) -> bool:
    # Multiply-adds for a frame: what is saved is at most a product of both sizes.
    n_samples = int(kernels[0].size)
    return n_channels * n_samples <= len(kernels) * (n_samples + n_channels)


def _linear_step(value: ir.Value | None, probe: Probe) -> ir.Node | None:
    """Return the node that makes a value, if it treats each step alone, and linearly, and for nobody else."""
    node = None if value is None else value.producer()
    if value is None or node is None or not is_standard(node) or only_user(value) is None:
        return None
    if node.op_type not in _MOVES | _COMPUTES or len(node.outputs) != 1:
        return None
    index = _varying_input(node)
    if index < 0 or (index and node.op_type not in ("MatMul", "Mul")):
        return None
    source = node.inputs[index]
    before, after = probe.varying_axis(source), probe.varying_axis(value)
    if before is None or after is None or before in _axes_of(node, probe):
        return None
    shapes = probe.shapes[name_of(source)], probe.shapes[name_of(value)]
    if any(a[before] != b[after] for a, b in zip(*shapes, strict=True)):
        return None
    # Time must not be mixed with the axes before it; that it isn't with those behind it, its length says.
    mixed = node.op_type == "Reshape" and prod(shapes[0][0][:before]) != prod(shapes[1][0][:after])
    return None if mixed else node


def _varying_input(node: ir.Node) -> int:
    """Return the one input that is no constant, -1 if there isn't exactly one."""
    found = [k for k, v in enumerate(node.inputs) if v is not None and constant_of(node, k) is None]
    return found[0] if len(found) == 1 else -1


def _axes_of(node: ir.Node, probe: Probe) -> list[int]:
    """Return the axes along which a node mixes elements, or picks some, where its operator has such."""
    rank = len(probe.shape_of(node.inputs[0]))
    given: Sequence[int] = ()
    if node.op_type == "Gather":
        given = [node.attributes.get_int("axis", 0)]
    elif node.op_type == "DFT":
        axis = scalar_of(node, 2)
        # An attribute before opset 20, with another default.
        default = node.attributes.get_int("axis", 1 if _opset_of(node) < 20 else -2)
        given = [default if axis is None else int(axis)]
    elif node.op_type == "Slice":
        axes = constant_of(node, 3)
        given = range(rank) if axes is None else axes.tolist()
    return [axis % rank for axis in given]


def _opset_of(node: ir.Node) -> int:
    return 0 if node.graph is None else node.graph.opset_imports.get("", 0)


def _repeated(value: ir.Value, axis: int, probe: Probe) -> AnyArray | None:
    """Return the constant that a value repeats for every step, with all of the value's axes."""
    node = producer_of(value, "Expand")
    constant = None if node is None else constant_of(node, 0)
    # Times 0 it must be 0.
    if constant is None or only_user(value) is None or not np.isfinite(constant).all():
        return None
    n_new = len(probe.shape_of(value)) - constant.ndim
    # Axes that it has no length for come first.
    return constant.reshape((1,) * n_new + constant.shape) if n_new >= 0 else None


def _run(steps: Sequence[ir.Node], source: str, target: str, units: AnyArray) -> AnyArray | None:
    """Run linear steps alone, in double precision, on units that follow each other in time."""
    graph = onnx.GraphProto(name="steps")
    graph.input.append(onnx.helper.make_tensor_value_info(source, onnx.TensorProto.DOUBLE, units.shape))
    constants: dict[str, AnyArray] = {}
    for step in steps:
        graph.node.append(ir.to_proto(step))
        arrays = ((name_of(value), constant_of(step, k)) for k, value in enumerate(step.inputs))
        constants |= {name: array for name, array in arrays if array is not None}
    for name, array in constants.items():
        wide = array.astype(np.float64) if array.dtype.kind == "f" else array
        graph.initializer.append(onnx.numpy_helper.from_array(wide, name))
    if not steps:
        return units.astype(np.float64)
    graph.output.append(onnx.ValueInfoProto(name=target))
    opsets = [onnx.helper.make_opsetid("", _opset_of(steps[0]))]
    try:
        session = Session(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10))
        return session.run({source: units.astype(np.float64)})[target]
    except ModelError:
        return None  # a step that is fixed to a length, or has no double precision
