"""Noise as an input: a decoder that draws its own can't give the same samples in two runs.

A vocoder that adds noise (the noise blocks of SNAC, arXiv:2410.14411; the harmonic-plus-noise source of NSF
models, arXiv:1904.12088) becomes a function of its inputs once whoever runs it brings the noise. That is what
exact streaming needs: the stream and the whole run can be given the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.graph.edit import Names, Writer, bypass, remove_unused
from balacoon_tk.graph.match import is_standard, name_of
from balacoon_tk.graph.simplify.tidy import lift_constants
from balacoon_tk.graph.time_inputs import find_time_inputs

METADATA_KEY = "balacoon_tk.noise"
"""Under which a model's metadata hold what its noise inputs are to be drawn from, as JSON by their names."""


@dataclass(frozen=True, slots=True)
class _Distribution:
    """What an operator draws from, and the attributes that move and scale it."""

    name: str
    offset: str
    scale: str

    def moments(self, node: ir.Node) -> tuple[float, float]:
        """Return what a standard draw is multiplied by, and what is added then."""
        first = node.attributes.get_float(self.offset, 0.0)
        second = node.attributes.get_float(self.scale, 1.0)
        return (second - first if self.name == "uniform" else second), first

    @property
    def standard(self) -> dict[str, object]:
        """What the input is to be drawn from."""
        return {"distribution": self.name, self.offset: 0.0, self.scale: 1.0}


_NORMAL, _UNIFORM = _Distribution("normal", "mean", "scale"), _Distribution("uniform", "low", "high")
_DRAWS = {
    "RandomNormal": _NORMAL,
    "RandomNormalLike": _NORMAL,
    "RandomUniform": _UNIFORM,
    "RandomUniformLike": _UNIFORM,
}


def noise_inputs(model: onnx.ModelProto, *, time_inputs: Mapping[str, int] | None = None) -> onnx.ModelProto:
    """Turn the noise that a decoder draws into inputs.

    Every normal and uniform random operator is replaced by an input, ``noise``, ``noise_1`` and so on, of its
    shape. Time is a dynamic axis of it, at the rate of the noise: `make_streaming` finds how many
    steps it has for a frame. Noise of a fixed shape becomes an input without time, of which every push of an
    utterance is given the same. A mean or scale other than 0 and 1 stays in the graph.

    Parameters
    ----------
    model : ModelProto
        A decoder; it is not changed.
    time_inputs : mapping of str to int, optional
        The time axis of each input that has one, where it can't be found from the graph. To
        `make_streaming` the noise must then be named as well.

    Returns
    -------
    ModelProto
        The decoder with its noise as inputs. Its metadata say under `METADATA_KEY` which inputs are
        noise and what they are to be drawn from: a standard normal distribution, or a uniform one from
        0 to 1.

    Raises
    ------
    ModelError
        If the graph can't be run, has no time axis or several candidates for it, or noise varies along
        several axes, or is longer or shorter than a fixed number of steps for each frame.
    ParameterError
        If `model` is no ModelProto, or `time_inputs` doesn't fit.
    """
    if not isinstance(model, onnx.ModelProto):
        raise ParameterError(f"model must be an onnx.ModelProto, not {type(model).__name__}")
    copy = ir.from_proto(model)
    lift_constants(copy)
    graph, names = copy.graph, Names(copy.graph)
    noted: dict[str, object] = json.loads(copy.metadata_props.get(METADATA_KEY, "{}"))
    draws = [node for node in graph if node.op_type in _DRAWS and is_standard(node)]
    if not draws:
        return ir.to_proto(copy)
    probe = find_time_inputs(copy, time_inputs).probe
    for node in draws:
        shapes, dtype = probe.shapes[name_of(node.outputs[0])], probe.dtypes[name_of(node.outputs[0])]
        drawn = _input(names.take("noise"), node, shapes, dtype, probe.n_frames)
        graph.inputs.append(drawn)
        noted[name_of(drawn)] = _DRAWS[node.op_type].standard
        bypass(graph, node.outputs[0], _scaled(graph, names, node, drawn, dtype))
    copy.metadata_props[METADATA_KEY] = json.dumps(noted)
    remove_unused(copy)
    return ir.to_proto(copy)


def _input(
    name: str,
    node: ir.Node,
    shapes: Sequence[tuple[int, ...]],
    dtype: np.dtype[np.generic],
    n_frames: Sequence[int],
) -> ir.Value:
    columns = list(zip(*shapes, strict=True))
    varying = [axis for axis, sizes in enumerate(columns) if len(set(sizes)) > 1]
    if len(varying) > 1:
        raise ModelError(f"the noise of {node.op_type} node {node.name!r} varies along several axes")
    for axis in varying:
        if len({Fraction(size, n) for size, n in zip(columns[axis], n_frames, strict=True)}) > 1:
            raise ModelError(
                f"the noise of {node.op_type} node {node.name!r} has {columns[axis]} steps for {n_frames} "
                "frames: it must have as many for each frame, to be brought in with them"
            )
    shape = ir.Shape([f"n_{name}" if axis in varying else sizes[0] for axis, sizes in enumerate(columns)])
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.from_numpy(dtype)), shape=shape)


def _scaled(
    graph: ir.Graph, names: Names, node: ir.Node, drawn: ir.Value, dtype: np.dtype[np.generic]
) -> ir.Value:
    scale, offset = _DRAWS[node.op_type].moments(node)
    write = Writer(graph, names, name_of(drawn))
    out = drawn
    if scale != 1:
        out = write.one("Mul", out, write.constant(np.asarray(scale, dtype)))
    if offset != 0:
        out = write.one("Add", out, write.constant(np.asarray(offset, dtype)))
    if node.outputs[0].is_graph_output() and out is drawn:
        out = write.one("Identity", out)  # an output keeps its name, which an input can't take over
    graph.insert_before(node, write.nodes)
    return out
