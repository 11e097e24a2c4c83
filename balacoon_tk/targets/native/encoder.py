"""From a plain encoder graph to a program, which runs whole: attention looks at all steps.

What lies between attentions is made of the same operators as a decoder, and is followed in the same way. So
each attention, and each spline of a duration predictor, is replaced by a sum of the tensors that it reads,
which has its shape and its time: the graph then looks like one that could be streamed, and the analysis says
of it what it says of a decoder. Such a stand-in becomes the stage that it stands for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk.graph.edit import Names, Writer, remove_unused
from balacoon_tk.graph.half import fold_weight_casts
from balacoon_tk.graph.int8 import read_qdq
from balacoon_tk.graph.known import Shapes
from balacoon_tk.graph.opset import raise_opset
from balacoon_tk.graph.prepare import analyse_model
from balacoon_tk.graph.probe import graph_inputs, probe
from balacoon_tk.graph.spelled_out.attention import Attention, find_attention
from balacoon_tk.graph.spelled_out.layer_norm import FuseLayerNormPass
from balacoon_tk.graph.spelled_out.spline import Spline, find_spline
from balacoon_tk.runtime.native.checks import MOST_BINS
from balacoon_tk.runtime.native.program import Program, Stage
from balacoon_tk.targets.native.compile import Specials, write_program
from balacoon_tk.targets.native.errors import NotNativeError
from balacoon_tk.targets.native.operators import Context
from balacoon_tk.targets.native.operators.attention import attention
from balacoon_tk.targets.native.views import View

_LENGTHS = ((5, 8, 13), (41, 48, 72))


def compile_encoder(model: onnx.ModelProto, *, time_axes: dict[str, int]) -> Program:
    """Compile a plain encoder graph for the native engine.

    Parameters
    ----------
    model : ModelProto
        A graph in float32, batch 1.
    time_axes : dict of str to int
        The axis of each input that is phonemes.

    Raises
    ------
    NotNativeError
        If the engine doesn't know a node of it; the message names the node and what is unknown.
    BalacoonError
        If the graph can't be run or read.
    """
    graph = ir.from_proto(model)
    raise_opset(graph)
    fold_weight_casts(graph)
    rounding = read_qdq(graph)
    if rounding.layers or rounding.dynamic:
        raise NotNativeError(next(iter(graph.graph)), "the graph is in int8")
    axes = {name: axis for name, axis in time_axes.items() if name in graph_inputs(graph)}
    seen = probe(graph, axes, dict.fromkeys(axes, 1), lengths=_LENGTHS)
    specials = _put_stand_ins(graph, seen.shapes)
    FuseLayerNormPass(seen.shapes)(graph)
    whole_numbers = _without_last_casts(graph)
    analysis = analyse_model(graph, time_inputs=axes, timeless_outputs=True)
    return write_program(analysis, specials=specials, whole_numbers=whole_numbers)


def _put_stand_ins(model: ir.Model, shapes: Shapes) -> Specials:
    """Replace attentions and splines; return what makes the stages of each stand-in, by its name."""
    graph, names = model.graph, Names(model.graph)
    specials: dict[str, Callable[[Context], list[View]]] = {}
    for node in list(graph):
        spline = find_spline(graph, node, shapes)
        if spline is not None:
            write = Writer(graph, names, f"{spline.x.name}.spline")
            parameters = _Noted()
            first = write.slice(node.outputs[0], 1, 0, 1)
            stand_in = write.one("Sum", spline.y, first)
            specials[str(write.nodes[0].name)] = parameters.note
            specials[str(write.nodes[1].name)] = partial(_invert, spline, parameters)
            _put(graph, spline.x, stand_in, write.nodes)
    for node in list(graph):
        found = find_attention(node)
        if found is not None and _is_of_one_sentence(found, shapes):
            write = Writer(graph, names, f"{found.result.name}.attention")
            keys = write.one("Transpose", found.keys, perm=[0, 1, 3, 2])
            stand_in = write.one("Sum", found.queries, keys, found.values)
            specials[str(write.nodes[1].name)] = partial(_attend, found)
            _put(graph, found.result, stand_in, write.nodes)
    remove_unused(model)
    return specials


def _put(graph: ir.Graph, value: ir.Value, stand_in: ir.Value, nodes: list[ir.Node]) -> None:
    producer = value.producer()
    assert producer is not None
    graph.insert_before(producer, nodes)
    value.replace_all_uses_with(stand_in)


def _is_of_one_sentence(found: Attention, shapes: Shapes) -> bool:
    """Whether queries, keys and values are of the same steps, for all heads, and as wide as each other."""
    queries, keys, values = (shapes.get(str(v.name), ()) for v in (found.queries, found.keys, found.values))
    return bool(queries) and all(
        len(q) == len(k) == 4 and q[0] == 1 and q == v and k == (*q[:2], q[3], q[2])
        for q, k, v in zip(queries, keys, values, strict=False)
    )


def _without_last_casts(model: ir.Model) -> frozenset[str]:
    """Let outputs of whole numbers be what is cast to them; return their names."""
    found = set()
    for value in model.graph.outputs:
        node = value.producer()
        if node is not None and node.op_type == "Cast" and value.dtype == ir.DataType.INT64:
            node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT))
            value.dtype = ir.DataType.FLOAT
            found.add(str(value.name))
    return frozenset(found)


class _Noted:
    """The tensor of which a stand-in reads a part."""

    def __init__(self) -> None:
        self.view: View | None = None

    def note(self, ctx: Context) -> list[View]:
        """Remember what a node reads, and let it be what it is."""
        self.view = ctx.view(0)
        return [self.view.take(np.arange(1))]


def _attend(found: Attention, ctx: Context) -> list[View]:
    _, n_heads, _, n_channels = ctx.shape(ctx.node.outputs[0])
    near = {}
    for name, array in (("near_keys", found.near_keys), ("near_values", found.near_values)):
        if array is not None:
            of_heads = np.broadcast_to(array, (n_heads, *array.shape[1:])).astype(np.float32)
            near[name] = ctx.builder.array(of_heads, f"{ctx.name}.{name}")
    shape = n_heads, n_channels, n_channels
    return [attention(ctx, shape, *(ctx.view(k) for k in range(3)), **near)]


def _invert(spline: Spline, parameters: _Noted, ctx: Context) -> list[View]:
    if spline.n_bins > MOST_BINS or parameters.view is None:
        ctx.refuse(f"its spline has {spline.n_bins} bins: must be <= {MOST_BINS}")
    divisors = np.ones(3 * spline.n_bins - 1, np.float32)
    divisors[: 2 * spline.n_bins] = spline.divisor
    given = ctx.builder.function("div", [parameters.view, divisors], ctx.name)
    stage = Stage(
        kind="spline",
        name=ctx.name,
        source=None,
        n_channels=1,
        n_in=spline.n_bins,
        value=spline.bound,
        others=(ctx.builder.place_of(given, ctx.name),),
    )
    return [ctx.builder.window(stage, ctx.builder.gathered(ctx.view(0), ctx.name), ctx.view(0).rate)]
