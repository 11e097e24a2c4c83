"""From a plain decoder graph to a program: follow the analysed graph node by node.

What the analysis has proven about time (`balacoon_tk.graph.analysis`) is what makes streaming right; here it
is only written down for another runtime. A graph with one node that the engine doesn't know isn't compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any, TypeAlias

import onnx
import onnx_ir as ir

from balacoon_tk.graph.analysis import Analysis
from balacoon_tk.graph.half import fold_weight_casts
from balacoon_tk.graph.int8 import LayerRounding, read_qdq
from balacoon_tk.graph.match import constant_of, name_of
from balacoon_tk.graph.one_node import run_node
from balacoon_tk.graph.prepare import analyse_model
from balacoon_tk.graph.simplify.tidy import lift_constants
from balacoon_tk.graph.timeline import Timeline
from balacoon_tk.runtime.native.program import Program
from balacoon_tk.targets.fold_products import FoldProductsPass
from balacoon_tk.targets.native.builder import Builder
from balacoon_tk.targets.native.errors import NotNativeError
from balacoon_tk.targets.native.lengths import output_lengths, with_held_back, with_lags
from balacoon_tk.targets.native.operators import Context, find_operator
from balacoon_tk.targets.native.views import View

Specials: TypeAlias = Mapping[str, Callable[[Context], list[View]]]
NOTHING: Mapping[str, Any] = MappingProxyType({})

_ONE = Fraction(1)


def compile_native(
    model: onnx.ModelProto | ir.Model, *, time_inputs: dict[str, int] | None = None
) -> Program:
    """Compile a plain decoder graph for the native engine.

    Parameters
    ----------
    model : ModelProto
        A graph in float32 that turns frames (1, n_channels, n_frames) into samples, or one that
        `balacoon_tk.export.quantize` has rounded. Layers whose input and weights are rounded run in int8.
    time_inputs : dict of str to int, optional
        The time axis of each input that has one, where that isn't the only dynamic axis.

    Raises
    ------
    NotNativeError
        If the engine doesn't know a node of it; the message names the node and what is unknown.
    NotStreamableError
        If it can't be streamed exactly.
    """
    # Through the protocol buffer, so that nothing of the original changes.
    plain = ir.from_proto(model if isinstance(model, onnx.ModelProto) else ir.to_proto(model))
    rounding = read_qdq(plain)
    if not rounding.layers:  # a layer that is rounded makes what was calibrated
        fold_weight_casts(plain)
        lift_constants(plain)
        FoldProductsPass()(plain)
    analysis = analyse_model(plain, time_inputs=time_inputs)
    return write_program(analysis, rounding=rounding.layers)


def write_program(
    analysis: Analysis,
    *,
    rounding: Mapping[str, LayerRounding] = NOTHING,
    specials: Specials = NOTHING,
    whole_numbers: Collection[str] = (),
) -> Program:
    """Write down an analysed graph as a program.

    Parameters
    ----------
    analysis : Analysis
    rounding : mapping of str to LayerRounding
        Of layers that run in int8, by the node's name.
    specials : mapping of str to function
        By the node's name, what makes a node's stages where it isn't its operator that says it.
    whole_numbers : collection of str
        Outputs that are int64.

    Raises
    ------
    NotNativeError
        If the engine doesn't know a node of it; the message names the node and what is unknown.
    """
    builder = Builder()
    views = _inputs(analysis, builder)
    for node in analysis.model.graph:
        if all(name_of(value) in analysis.sized_by for value in node.outputs if value.name):
            continue  # arithmetic with lengths: whoever needs it is refused
        if _fold(node, analysis.model):
            continue
        context = Context(node, analysis, builder, views, rounding)
        write = specials.get(str(node.name)) or find_operator(node)
        for value, view in zip(node.outputs, write(context), strict=False):
            if value.name and (value.uses() or value.is_graph_output()):
                context.check(value, view)
                views[value.name] = view
    for value in analysis.model.graph.outputs:
        name = name_of(value)
        timeline = analysis.timelines.get(name)
        if name not in views:
            raise NotNativeError(_producer(analysis, name), "it is an output that nobody computes")
        shape = analysis.inputs.probe.shape_of(value)
        if timeline is not None:
            shape = _without(shape, timeline)
        axis = -1 if timeline is None or timeline.axis == len(shape) else timeline.axis
        builder.output(name, views[name], shape, axis=axis, symbols=name in whole_numbers)
    program = with_lags(with_held_back(builder.finish()))
    lengths = output_lengths(program, analysis.inputs.probe.n_frames)
    for value, found in zip(analysis.model.graph.outputs, lengths, strict=True):
        timeline = analysis.timelines.get(name_of(value))
        if timeline is not None and found != list(timeline.lengths):
            reason = f"its length would be {found}, and not {list(timeline.lengths)}"
            raise NotNativeError(_producer(analysis, name_of(value)), reason)
    return program


def _fold(node: ir.Node, model: ir.Model) -> bool:
    """Compute what constants alone say, as large models leave it in their graphs; False if it isn't that."""
    names = [name_of(value) for value in node.inputs]
    arrays = {name: constant_of(node, index) for index, name in enumerate(names)}
    if not names or len(node.outputs) != 1 or any(array is None for array in arrays.values()):
        return False
    known = {name: array for name, array in arrays.items() if array is not None}
    node.outputs[0].const_value = ir.tensor(run_node(node, known, model))
    return True


def _producer(analysis: Analysis, name: str) -> ir.Node:
    return next(node for node in analysis.model.graph if name in map(name_of, node.outputs))


def _without(shape: tuple[int, ...], timeline: Timeline) -> tuple[int, ...]:
    return shape[: timeline.axis] + shape[timeline.axis + 1 :]


def _inputs(analysis: Analysis, builder: Builder) -> dict[str, View]:
    views: dict[str, View] = {}
    for value in analysis.model.graph.inputs:
        name = name_of(value)
        timeline = analysis.timelines.get(name)
        shape = analysis.inputs.probe.shape_of(value)
        symbols = value.dtype in (ir.DataType.INT64, ir.DataType.INT32)
        if value.dtype != ir.DataType.FLOAT and not symbols:
            user = next((node for node, _ in value.uses()), next(iter(analysis.model.graph)))
            raise NotNativeError(user, f"its input {name!r} is {value.dtype}, not float32")
        if timeline is None:
            views[name] = builder.input(name, shape, _ONE, timeless=True, symbols=symbols)
        else:
            views[name] = builder.input(
                name, _without(shape, timeline), timeline.rate, timeless=False, symbols=symbols
            )
    return views
