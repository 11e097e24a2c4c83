"""What each operator becomes in a program: one function per operator, found by its name.

A function takes the node and gives a view for each output. Tensors are seen as channels with time: all axes
but time's, in their order, are the channels.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import NoReturn, TypeAlias, cast

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.analysis import Analysis
from balacoon_tk.graph.int8 import LayerRounding, Step, channel_axis, quantize_kernel
from balacoon_tk.graph.match import constant_of, ints_of, name_of
from balacoon_tk.runtime.native.program import Padding, Stage
from balacoon_tk.targets.native.builder import Builder, Operand, View, concatenate
from balacoon_tk.targets.native.errors import NotNativeError


class Context:
    """One node, and what is known of what it reads."""

    def __init__(
        self,
        node: ir.Node,
        analysis: Analysis,
        builder: Builder,
        views: dict[str, View],
        rounding: LayerRounding | None,
    ) -> None:
        self.node = node
        self.builder = builder
        self.rounding = rounding
        self._analysis = analysis
        self._views = views
        self.name = node.name or name_of(node.outputs[0])

    def refuse(self, reason: str) -> NoReturn:
        """Raise the error that says why the engine doesn't know this node."""
        raise NotNativeError(self.node, reason)

    def has(self, index: int) -> bool:
        """Whether an input is given."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def weights(self) -> tuple[AnyArray, str | None, Step | None]:
        """Return a kernel, the name of its scales if it is in int8, and how what it reads is rounded."""
        weights, rounding = self.constant(1), self.rounding
        if rounding is None or rounding.input is None:
            return weights.astype(np.float32), None, None
        axis = channel_axis(self.node)
        kernel, scales = quantize_kernel(np.moveaxis(weights, axis, 0), rounding.weight_scales)
        # Of a sum of bytes; what is read has a step of its own.
        worth = scales.reshape(-1) * np.float32(rounding.input.scale)
        name = self.builder.array(worth.astype(np.float32), f"{self.name}.scales")
        return np.ascontiguousarray(np.moveaxis(kernel, 0, axis)), name, rounding.input

    def is_constant(self, index: int) -> bool:
        """Whether an input is a constant."""
        return constant_of(self.node, index) is not None

    def constant(self, index: int) -> AnyArray:
        """Return an input that must be a constant."""
        array = constant_of(self.node, index)
        if array is None:
            self.refuse(f"its input {index} is not a constant")
        return array

    def ints(self, attribute: str, index: int) -> list[int] | None:
        """Return integers that older opsets hold in an attribute and newer ones in an input."""
        if attribute in self.node.attributes:
            return [int(n) for n in self.node.attributes[attribute].as_ints()]
        return [int(n) for n in self.constant(index).reshape(-1)] if self.has(index) else None

    def view(self, index: int, *, padded: bool = False) -> View:
        """Return an input that isn't a constant; only whoever reads a window takes a padded one."""
        found = self._views.get(name_of(self.node.inputs[index]))
        if found is None:
            self.refuse(f"its input {index} is neither a tensor with time nor a constant")
        if any(found.pads) and not padded:
            self.refuse("it reads what is padded, and is no convolution")
        return found

    def operand(self, index: int) -> Operand:
        """Return an input as a function reads it: constants as a number for each channel of the output."""
        if not self.is_constant(index):
            return self.view(index)
        array = self.constant(index).astype(np.float32)
        if array.size == 1:
            return float(array.reshape(-1)[0])
        out, axis = self.shape(self.node.outputs[0]), self.time_axis(self.node.outputs[0])
        if axis is not None:
            place = axis - len(out) + array.ndim
            if place >= 0 and array.shape[place] != 1:
                self.refuse(f"its constant of shape {array.shape} varies with time")
            out = (*out[:axis], 1, *out[axis + 1 :])
        return np.broadcast_to(array, out).reshape(-1)

    def shape(self, value: ir.Value | None) -> tuple[int, ...]:
        """Return the shape of a tensor at the probe's first length."""
        return self._analysis.inputs.probe.shape_of(value)

    def time_axis(self, value: ir.Value | None) -> int | None:
        """Return the axis of a tensor that is time; None if it has none."""
        timeline = self._analysis.timelines.get(name_of(value))
        return None if timeline is None else timeline.axis

    def rate(self, value: ir.Value | None) -> Fraction:
        """Return the steps of a tensor for a frame."""
        timeline = self._analysis.timelines.get(name_of(value))
        return Fraction(1) if timeline is None else timeline.rate

    def channel_shape(self, value: ir.Value | None) -> tuple[int, ...]:
        """Return the shape of a tensor without its time."""
        shape, axis = self.shape(value), self.time_axis(value)
        return shape if axis is None else (*shape[:axis], *shape[axis + 1 :])

    def channel_axis(self, value: ir.Value | None, axis: int) -> int:
        """Return which axis of `channel_shape` an axis of a tensor is."""
        time, rank = self.time_axis(value), len(self.shape(value))
        axis %= rank
        if axis == time:
            self.refuse("it works along time")
        return axis - (time is not None and axis > time)

    def check(self, value: ir.Value, view: View) -> None:
        """Refuse the node if what it has become isn't a tensor of the channels and the rate that it makes."""
        n_channels = int(np.prod(self.channel_shape(value)))
        timeless = self.time_axis(value) is None
        if (view.n_channels, view.timeless) != (n_channels, timeless) or (
            not timeless and view.rate != self.rate(value)
        ):
            self.refuse("its shapes are none that the native engine knows for it")

    def sized_by(self) -> tuple[View, int]:
        """Return a tensor, and how many times the output of this node is as long."""
        wanted = self._analysis.timelines[name_of(self.node.outputs[0])].lengths
        for value in self.node.inputs:
            root = self._analysis.sized_by.get(name_of(value))
            if root is not None and root in self._views:
                lengths = self._analysis.timelines[root].lengths
                times = wanted[0] // lengths[0]
                if times and wanted == tuple(times * n for n in lengths):
                    return self._views[root], times
        self.refuse("nothing says the length of what it makes")

    def window(self, index: int) -> int:
        """Check that a kernel has its channels on the axis behind the batch, and time behind that."""
        shape, axis = self.shape(self.node.inputs[index]), self.time_axis(self.node.inputs[index])
        if axis is None and len(shape) == 3 and shape[2] == 1:
            return 2
        if axis != 2 or len(shape) != 3 or shape[0] != 1:
            self.refuse(f"its input of shape {shape} isn't (1, channels, time)")
        return axis


Operator: TypeAlias = Callable[[Context], list[View]]
_OPERATORS: dict[str, Operator] = {}


def operator(*op_types: str) -> Callable[[Operator], Operator]:
    """Register what becomes of some operators."""

    def register(function: Operator) -> Operator:
        for op_type in op_types:
            _OPERATORS[op_type] = function
        return function

    return register


def find_operator(node: ir.Node) -> Operator:
    """Return what becomes of a node; `NotNativeError` if nobody knows."""
    found = _OPERATORS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if found is None:
        raise NotNativeError(node, "the native engine doesn't know this operator")
    return found


# ------------------------------------------------------------------------------------ functions of numbers

_BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Max": "max", "Min": "min", "Sum": "add"}
_UNARY = {
    "Abs": "abs",
    "Cos": "cos",
    "Erf": "erf",
    "Exp": "exp",
    "Log": "log",
    "Neg": "neg",
    "Reciprocal": "reciprocal",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Sin": "sin",
    "Softplus": "softplus",
    "Sqrt": "sqrt",
    "Tanh": "tanh",
}


@operator(*_BINARY)
def _binary(ctx: Context) -> list[View]:
    function = _BINARY[ctx.node.op_type]
    result = ctx.operand(0)
    for index in range(1, len(ctx.node.inputs)):
        result = _combine(ctx, function, result, ctx.operand(index))
    if not isinstance(result, View):
        ctx.refuse("it reads constants alone")
    return [result]


def _combine(ctx: Context, function: str, a: Operand, b: Operand) -> View:
    n_channels = int(np.prod(ctx.channel_shape(ctx.node.outputs[0])))
    if any(view.n_channels not in (1, n_channels) for view in (a, b) if isinstance(view, View)):
        ctx.refuse("it repeats some of the channels of an input")
    return ctx.builder.function(function, [a, b], ctx.name)


@operator(*_UNARY)
def _unary(ctx: Context) -> list[View]:
    return [ctx.builder.function(_UNARY[ctx.node.op_type], [ctx.view(0)], ctx.name)]


@operator("LeakyRelu")
def _leaky_relu(ctx: Context) -> list[View]:
    slope = ctx.node.attributes.get_float("alpha", 0.01)
    return [ctx.builder.function("leaky_relu", [ctx.view(0), slope], ctx.name)]


@operator("Elu")
def _elu(ctx: Context) -> list[View]:
    return [ctx.builder.function("elu", [ctx.view(0), ctx.node.attributes.get_float("alpha", 1.0)], ctx.name)]


@operator("PRelu")
def _prelu(ctx: Context) -> list[View]:
    below = ctx.builder.function("min", [ctx.view(0), 0.0], ctx.name)
    above = ctx.builder.function("max", [ctx.view(0), 0.0], ctx.name)
    scaled = ctx.builder.function("mul", [below, ctx.operand(1)], ctx.name)
    return [ctx.builder.function("add", [above, scaled], ctx.name)]


@operator("Gelu")
def _gelu(ctx: Context) -> list[View]:
    x = ctx.view(0)
    function = ctx.builder.function
    if ctx.node.attributes.get_string("approximate", "none") == "tanh":
        # x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), Hendrycks and Gimpel, "Gaussian error linear
        # units", section 2.
        cube = function("mul", [function("mul", [x, x], ctx.name), x], ctx.name)
        inner = function("add", [x, function("mul", [cube, 0.044715], ctx.name)], ctx.name)
        risen = function("tanh", [function("mul", [inner, (2 / np.pi) ** 0.5], ctx.name)], ctx.name)
    else:
        risen = function("erf", [function("mul", [x, 0.5**0.5], ctx.name)], ctx.name)
    half = function("mul", [x, 0.5], ctx.name)
    return [function("mul", [half, function("add", [risen, 1.0], ctx.name)], ctx.name)]


@operator("Pow")
def _pow(ctx: Context) -> list[View]:
    exponent = ctx.operand(1)
    if exponent == 2.0:
        return [ctx.builder.function("mul", [ctx.view(0), ctx.view(0)], ctx.name)]
    if exponent == 0.5:
        return [ctx.builder.function("sqrt", [ctx.view(0)], ctx.name)]
    return [_combine(ctx, "pow", ctx.operand(0), exponent)]


@operator("Clip")
def _clip(ctx: Context) -> list[View]:
    result = ctx.view(0)
    for index, attribute, function in ((1, "min", "max"), (2, "max", "min")):
        if attribute in ctx.node.attributes:
            bound = ctx.node.attributes.get_float(attribute, 0.0)
        elif ctx.has(index):
            bound = float(ctx.constant(index).reshape(-1)[0])
        else:
            continue
        result = ctx.builder.function(function, [result, bound], ctx.name)
    return [result]


@operator("Identity", "Dropout")
def _identity(ctx: Context) -> list[View]:
    return [ctx.view(0, padded=True)]


@operator("Cast")
def _cast(ctx: Context) -> list[View]:
    # Whole numbers are held in float32 as well, which has room for the symbols of any table.
    source, to = ctx.node.inputs[0], ctx.node.attributes.get_int("to", 1)
    kinds = {None if source is None else source.dtype, to}
    if not kinds <= {None, ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.INT32} or (
        to != ir.DataType.FLOAT and ir.DataType.FLOAT in kinds
    ):
        ctx.refuse("it casts to something else than float32")
    return [ctx.view(0)]


# ---------------------------------------------------------------------------------- channels and their order


@operator("Reshape", "Squeeze", "Unsqueeze", "Flatten")
def _reshape(ctx: Context) -> list[View]:
    source, made = ctx.node.inputs[0], ctx.node.outputs[0]
    before, after = ctx.time_axis(source), ctx.time_axis(made)
    if before is not None and after is not None:
        shape, wanted = ctx.shape(source), ctx.shape(made)
        # Channels in front of time and behind it stay there, or numbers move through time.
        if np.prod(shape[:before]) != np.prod(wanted[:after]):
            ctx.refuse("it moves numbers between time and channels")
        times = wanted[after] // shape[before]
        if wanted[after] != times * shape[before]:
            ctx.refuse("it moves channels into time that aren't whole steps")
        if times > 1:
            # What lies right behind a step becomes steps.
            view = ctx.builder.gathered(ctx.view(0), ctx.name)
            places = np.arange(view.n_channels).reshape(int(np.prod(shape[:before])), times, -1)
            return [ctx.builder.phases([view.take(places[:, k].reshape(-1)) for k in range(times)], ctx.name)]
    return [ctx.view(0, padded=True)]


@operator("Transpose")
def _transpose(ctx: Context) -> list[View]:
    source = ctx.node.inputs[0]
    shape, axis = ctx.shape(source), ctx.time_axis(source)
    order = ints_of(ctx.node, "perm", list(range(len(shape)))[::-1])
    # A length of 1 where time is, so that channels are all that is left.
    places = [n for k, n in enumerate(shape) if k != axis]
    if axis is not None:
        places.insert(axis, 1)
    moved = np.arange(int(np.prod(places))).reshape(places).transpose(order).reshape(-1)
    return [ctx.view(0, padded=True).take(moved)]


def _places(ctx: Context, index: int) -> AnyArray:
    shape = ctx.channel_shape(ctx.node.inputs[index])
    return np.arange(int(np.prod(shape))).reshape(shape)


@operator("Split")
def _split(ctx: Context) -> list[View]:
    source, view = ctx.node.inputs[0], ctx.view(0, padded=True)
    axis = ctx.channel_axis(source, ctx.node.attributes.get_int("axis", 0))
    places, n_parts = _places(ctx, 0), len(ctx.node.outputs)
    equal = -(-places.shape[axis] // n_parts)
    # Nothing is known of an output that nobody reads, its shape neither.
    sizes = ctx.ints("split", 1) or [equal] * n_parts
    parts = np.split(places, np.cumsum(sizes)[:-1], axis=axis)
    return [view.take(part.reshape(-1)) for part in parts]


@operator("Slice")
def _slice(ctx: Context) -> list[View]:
    source = ctx.node.inputs[0]
    starts, ends = ctx.ints("starts", 1) or [], ctx.ints("ends", 2) or []
    axes = ctx.ints("axes", 3) or list(range(len(starts)))
    steps = (ctx.ints("steps", 4) if ctx.has(4) else None) or [1] * len(starts)
    view, places = ctx.view(0), _places(ctx, 0)
    rank, cropped = len(ctx.shape(source)), (0, 0)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis % rank == ctx.time_axis(source):
            if step != 1:
                ctx.refuse("it takes every other step of time")
            if start < 0 or 0 <= end < 2**31 - 1:
                ctx.refuse("it keeps a number of steps that doesn't grow with the utterance")
            cropped = start, max(0, -end)
            continue
        along = [slice(None)] * places.ndim
        along[ctx.channel_axis(source, axis)] = _bounds(start, end, step)
        places = places[tuple(along)]
    view = view.take(places.reshape(-1))
    if any(cropped):
        if not _is_read_once(source):
            view = ctx.builder.gathered(view, ctx.name)
            view = ctx.builder.function("copy", [view], ctx.name, alone=True)
        view = ctx.builder.cropped(view, *cropped, ctx.name)
    return [view]


def _is_read_once(value: ir.Value | None) -> bool:
    """Whether all that a transposed convolution makes goes to one reader alone, through views."""
    while value is not None and value.producer() is not None:
        if len(value.uses()) > 1 or value.is_graph_output():
            return False
        node = value.producer()
        if node is None or node.op_type == "ConvTranspose":
            return True
        value = node.inputs[0]
    return True


def _bounds(start: int, end: int, step: int) -> slice:
    # Python takes -1 for the last; ONNX says the start by a number far below that.
    return slice(start, None if step < 0 and end < -(2**31) else end, step)


@operator("Gather")
def _gather(ctx: Context) -> list[View]:
    if ctx.is_constant(0):
        table, view = ctx.constant(0), ctx.view(1)
        if table.ndim != 2 or ctx.node.attributes.get_int("axis", 0) != 0 or view.n_channels != 1:
            ctx.refuse("it isn't a row of a table for one number of each step")
        return [ctx.builder.look_up(view, table, ctx.name)]
    axis = ctx.channel_axis(ctx.node.inputs[0], ctx.node.attributes.get_int("axis", 0))
    return [ctx.view(0).take(np.take(_places(ctx, 0), ctx.constant(1), axis=axis).reshape(-1))]


@operator("Expand", "Tile")
def _expand(ctx: Context) -> list[View]:
    source, made = ctx.node.inputs[0], ctx.node.outputs[0]
    axis, time = ctx.time_axis(source), ctx.time_axis(made)
    shape, wanted = list(ctx.shape(source)), list(ctx.shape(made))
    if axis is None and time is not None:
        return [_filled(ctx, ctx.constant(0))]
    if axis is None or time is None or len(wanted) - time != len(shape) - axis or wanted[time] != shape[axis]:
        ctx.refuse("it repeats time")
    shape = [1] * (len(wanted) - len(shape)) + shape
    del shape[time], wanted[time]
    places = np.arange(int(np.prod(shape))).reshape(shape)
    repeats = [n // old for n, old in zip(wanted, shape, strict=True)]
    return [ctx.view(0).take(np.tile(places, repeats).reshape(-1))]


@operator("ConstantOfShape")
def _constant_of_shape(ctx: Context) -> list[View]:
    value = ctx.node.attributes.get_tensor("value", None)
    return [_filled(ctx, np.zeros(1, np.float32) if value is None else value.numpy())]


def _filled(ctx: Context, constant: AnyArray) -> View:
    """Return a constant for as many steps as another tensor has, or some times as many."""
    made = ctx.node.outputs[0]
    axis, wanted = ctx.time_axis(made), list(ctx.shape(made))
    if axis is None:
        ctx.refuse("it makes a tensor that nothing says the length of")
    source, times = ctx.sized_by()
    place = axis - len(wanted) + constant.ndim
    if place >= 0 and constant.shape[place] != 1:
        ctx.refuse(f"its constant of shape {constant.shape} varies with time")
    wanted[axis] = 1
    values = np.broadcast_to(constant, wanted).astype(np.float32).reshape(-1)
    return ctx.builder.filled(source, values, times, ctx.name)


@operator("Concat")
def _concat(ctx: Context) -> list[View]:
    made = ctx.node.outputs[0]
    axis = ctx.channel_axis(made, ctx.node.attributes.get_int("axis", 0))
    views = [ctx.view(index) for index in range(len(ctx.node.inputs))]
    if len({view.timeless for view in views}) > 1:
        ctx.refuse("it joins what has time with what has none")
    start, places = 0, []
    for value in ctx.node.inputs:
        shape = ctx.channel_shape(value)
        n = int(np.prod(shape))
        places.append(np.arange(start, start + n).reshape(shape))
        start += n
    return [concatenate(views).take(np.concatenate(places, axis=axis).reshape(-1))]


# -------------------------------------------------------------------------------------------- windows of time


@operator("Pad")
def _pad(ctx: Context) -> list[View]:
    view = ctx.view(0, padded=True)
    pads = ctx.ints("pads", 1) or []
    rank, axis = len(ctx.shape(ctx.node.inputs[0])), ctx.time_axis(ctx.node.inputs[0])
    if ctx.has(3):
        axes = [int(n) % rank for n in ctx.constant(3).reshape(-1)]
        whole = [0] * 2 * rank
        for k, place in enumerate(axes):
            whole[place], whole[place + rank] = pads[k], pads[k + len(axes)]
        pads = whole
    if axis is None or any(n for k, n in enumerate(pads) if k % rank != axis):
        ctx.refuse("it pads channels")
    left, right = pads[axis], pads[axis + rank]
    if left == right == 0:
        return [view]
    mode = ctx.node.attributes.get_string("mode", "constant")
    value = float(ctx.constant(2).reshape(-1)[0]) if ctx.has(2) else 0.0
    if mode not in ("constant", "reflect", "edge") or (min(left, right) < 0 and mode != "constant"):
        ctx.refuse("it pads time in a way that isn't known")
    users = {node.op_type for node, _ in ctx.node.outputs[0].uses()}
    if ctx.node.outputs[0].is_graph_output():
        users.add("output")
    if mode == "constant" and value == 0 and min(left, right) >= 0 and users == {"Conv"}:
        return [ctx.builder.padded(view, left, right)]
    view = ctx.builder.gathered(ctx.view(0), ctx.name)
    stage = Stage(
        kind="pad",
        name=ctx.name,
        source=None,
        n_channels=view.n_channels,
        pad_left=left,
        pad_right=right,
        padding=cast(Padding, mode),
        value=value,
    )
    return [ctx.builder.window(stage, view, ctx.rate(ctx.node.outputs[0]))]


def _kernel_pads(ctx: Context, span: int) -> tuple[int, int]:
    auto = ctx.node.attributes.get_string("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        if ints_of(ctx.node, "strides", [1]) != [1]:
            ctx.refuse("its padding depends on the length")
        left = span // 2 if auto == "SAME_UPPER" else span - span // 2
        return left, span - left
    left, right = [0, 0] if auto == "VALID" else ints_of(ctx.node, "pads", [0, 0])
    return left, right


# So few are summed up by a kernel of their own, which reads little enough.
_FEW_FILTERS = 4


def can_round(node: ir.Node) -> bool:
    """Return whether a node is a convolution that gets faster in int8: dense, of more than a few filters."""
    if node.op_type not in ("Conv", "ConvTranspose") or node.attributes.get_int("group", 1) != 1:
        return False
    weights = constant_of(node, 1)
    if weights is None or weights.ndim != 3 or weights.dtype != np.float32:
        return False
    return int(weights.shape[channel_axis(node)]) > _FEW_FILTERS


@operator("Conv")
def _conv(ctx: Context) -> list[View]:
    ctx.window(0)
    weights, scales, step = ctx.weights()
    (stride,) = ints_of(ctx.node, "strides", [1])
    (dilation,) = ints_of(ctx.node, "dilations", [1])
    n_groups = ctx.node.attributes.get_int("group", 1)
    n_out, n_in, n_taps = weights.shape
    view = ctx.view(0, padded=True)
    left, right = _kernel_pads(ctx, (n_taps - 1) * dilation)
    left, right = left + view.pads[0], right + view.pads[1]
    if min(left, right) < 0:
        ctx.refuse(f"its padding {left, right} is negative")
    if view.timeless and (n_taps > 1 or stride > 1 or left or right):
        ctx.refuse("it reads a window of what has no time")
    depthwise = n_groups > 1 and n_groups == n_out == view.n_channels and n_in == 1
    if depthwise and step is not None:  # few sums, which bytes make no faster
        weights, scales, step = ctx.constant(1).astype(np.float32), None, None
    if n_groups == 1:
        view, weights = _in_one_piece(ctx, view, weights)
    else:
        view = ctx.builder.gathered(view, ctx.name)
    stage = Stage(
        kind="depthwise" if depthwise else "convolve",
        name=ctx.name,
        source=None,
        n_channels=n_out,
        n_groups=1 if depthwise else n_groups,
        n_taps=n_taps,
        dilation=dilation,
        stride=stride,
        pad_left=left,
        pad_right=right,
        weights=ctx.builder.array(weights, f"{ctx.name}.weights"),
        bias=_bias(ctx, 2),
        scales=scales,
    )
    return [ctx.builder.window(stage, view, ctx.rate(ctx.node.outputs[0]), step)]


def _bias(ctx: Context, index: int) -> str | None:
    if not ctx.has(index):
        return None
    return ctx.builder.array(ctx.constant(index).astype(np.float32), f"{ctx.name}.bias")


def _in_one_piece(ctx: Context, view: View, weights: AnyArray) -> tuple[View, AnyArray]:
    """Return a view whose channels lie in order, and weights (out, in, taps) for them in that order."""
    order = np.argsort(view.channels, kind="stable")
    moved = view.take(order)
    first = int(moved.channels[0])
    in_order = np.array_equal(moved.channels, np.arange(first, first + view.n_channels))
    if len(view.bases) == 1 and in_order:
        same = np.array_equal(order, np.arange(len(order)))
        return moved, weights if same else np.ascontiguousarray(weights[:, order])
    return ctx.builder.gathered(view, ctx.name), weights


@operator("ConvTranspose")
def _conv_transpose(ctx: Context) -> list[View]:
    ctx.window(0)
    weights, scales, step = ctx.weights()
    (stride,) = ints_of(ctx.node, "strides", [1])
    (dilation,) = ints_of(ctx.node, "dilations", [1])
    (extra,) = ints_of(ctx.node, "output_padding", [0])
    if "output_shape" in ctx.node.attributes:
        ctx.refuse("its output_shape is given")
    view = ctx.view(0)
    if dilation > 1:
        spread = np.zeros((*weights.shape[:2], (weights.shape[2] - 1) * dilation + 1), weights.dtype)
        spread[..., ::dilation] = weights
        weights = spread
    width = weights.shape[2]
    left, right = _kernel_pads(ctx, max(0, width - stride))
    if min(left, right) < 0:
        ctx.refuse(f"its padding {left, right} is negative")
    n_groups = ctx.node.attributes.get_int("group", 1)
    n_taps = -(-width // stride)
    # Steps behind the last that any tap reaches, of a bias alone.
    n_behind = max(0, -(-(width + extra - right - n_taps * stride) // stride))
    stage = Stage(
        kind="convolve",
        name=ctx.name,
        source=None,
        n_channels=weights.shape[1] * n_groups,
        n_groups=n_groups,
        n_taps=n_taps,
        pad_left=n_taps - 1,
        pad_right=n_taps - 1 + n_behind,
        n_phases=stride,
        crop=left,
        n_extra=width - stride + extra - left - right,
        weights=ctx.builder.array(weights, f"{ctx.name}.weights"),
        bias=_bias(ctx, 2),
        scales=scales,
        transposed=True,
    )
    view = ctx.builder.gathered(view, ctx.name)
    return [ctx.builder.window(stage, view, ctx.rate(ctx.node.outputs[0]), step)]


@operator("MatMul", "Gemm")
def _matmul(ctx: Context) -> list[View]:
    attributes = ctx.node.attributes
    source, made = ctx.node.inputs[0], ctx.node.outputs[0]
    if any(attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        ctx.refuse("it has factors")
    if attributes.get_int("transA", 0):
        ctx.refuse("it transposes its first input")
    weights = ctx.constant(1).astype(np.float32)
    shape = ctx.shape(source)
    if weights.ndim != 2 or ctx.time_axis(source) == len(shape) - 1:
        ctx.refuse("it isn't a product of each step's channels with a matrix")
    if int(np.prod(ctx.channel_shape(source))) != shape[-1]:
        ctx.refuse("it multiplies channels in groups")
    if ctx.rounding is not None and ctx.rounding.input is not None:
        ctx.refuse("it is a product in int8, which only convolutions are here")
    # (n_in, n_out) as a kernel of one step: (n_out, n_in, 1).
    kernel = (weights if attributes.get_int("transB", 0) else weights.T)[..., np.newaxis]
    view, kernel = _in_one_piece(ctx, ctx.view(0), np.ascontiguousarray(kernel))
    stage = Stage(
        kind="convolve",
        name=ctx.name,
        source=None,
        n_channels=len(kernel),
        weights=ctx.builder.array(kernel, f"{ctx.name}.weights"),
        bias=_bias(ctx, 2) if ctx.node.op_type == "Gemm" else None,
    )
    return [ctx.builder.window(stage, view, ctx.rate(made))]


@operator("AveragePool")
def _average_pool(ctx: Context) -> list[View]:
    ctx.window(0)
    (n_taps,) = ints_of(ctx.node, "kernel_shape", [1])
    (stride,) = ints_of(ctx.node, "strides", [1])
    view = ctx.view(0)
    left, right = _kernel_pads(ctx, n_taps - 1)
    if view.timeless or ints_of(ctx.node, "dilations", [1]) != [1]:
        ctx.refuse("it reads a window of what has no time, or with gaps")
    if (left or right) and not ctx.node.attributes.get_int("count_include_pad", 0):
        ctx.refuse("it leaves its padding out of the mean")
    if ctx.node.attributes.get_int("ceil_mode", 0):
        ctx.refuse("it counts windows that aren't whole")
    view = ctx.builder.gathered(view, ctx.name)
    weights = np.full((view.n_channels, 1, n_taps), 1 / n_taps, np.float32)
    stage = Stage(
        kind="depthwise",
        name=ctx.name,
        source=None,
        n_channels=view.n_channels,
        n_taps=n_taps,
        stride=stride,
        pad_left=left,
        pad_right=right,
        weights=ctx.builder.array(weights, f"{ctx.name}.weights"),
    )
    return [ctx.builder.window(stage, view, ctx.rate(ctx.node.outputs[0]))]


@operator("Resize", "Upsample")
def _resize(ctx: Context) -> list[View]:
    source, made = ctx.node.inputs[0], ctx.node.outputs[0]
    attributes = ctx.node.attributes
    times = ctx.rate(made) / ctx.rate(source)
    if attributes.get_string("mode", "nearest") != "nearest" or times.denominator != 1:
        ctx.refuse("it isn't a repetition of each step")
    if times > 1 and ctx.node.op_type == "Resize":
        form = (
            attributes.get_string("coordinate_transformation_mode", "half_pixel"),
            attributes.get_string("nearest_mode", "round_prefer_floor"),
        )
        # With these, and a whole factor, the step that is nearest is the one that the step falls into.
        if form not in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")):
            ctx.refuse("it isn't a repetition of each step")
    if ctx.channel_shape(source) != ctx.channel_shape(made):
        ctx.refuse("it changes the number of channels")
    return [ctx.builder.phases([ctx.builder.gathered(ctx.view(0), ctx.name)] * int(times), ctx.name)]


# --------------------------------------------------------------------------------------- sums over channels


@operator("LayerNormalization", "RMSNormalization")
def _layer_normalization(ctx: Context) -> list[View]:
    source = ctx.node.inputs[0]
    axis = ctx.node.attributes.get_int("axis", -1)
    shape = ctx.shape(source)
    normed = shape[axis % len(shape) :]
    time = ctx.time_axis(source)
    if time is not None and time >= axis % len(shape):
        ctx.refuse("it takes a mean over time")
    if int(np.prod(normed)) != int(np.prod(ctx.channel_shape(source))):
        ctx.refuse("it takes means over groups of channels")
    view = ctx.builder.gathered(ctx.view(0), ctx.name)
    stage = Stage(
        kind="normalise",
        name=ctx.name,
        source=None,
        n_channels=view.n_channels,
        epsilon=ctx.node.attributes.get_float("epsilon", 1e-5),
        centre=ctx.node.op_type == "LayerNormalization",
    )
    result = ctx.builder.window(stage, view, ctx.rate(ctx.node.outputs[0]))
    for index, function in ((1, "mul"), (2, "add")):
        if ctx.has(index):
            result = ctx.builder.function(function, [result, ctx.operand(index)], ctx.name)
    return [result]


@operator("ReduceMean", "ReduceSum")
def _reduce(ctx: Context) -> list[View]:
    source = ctx.node.inputs[0]
    axes = ctx.ints("axes", 1) or []
    rank, time = len(ctx.shape(source)), ctx.time_axis(source)
    n_reduced = int(np.prod([ctx.shape(source)[axis] for axis in axes]))
    if not axes or time in [axis % rank for axis in axes]:
        ctx.refuse("it takes a sum over time")
    view = ctx.builder.gathered(ctx.view(0), ctx.name)
    if n_reduced != view.n_channels:
        ctx.refuse("it takes sums over groups of channels")
    # A convolution of one step with equal weights is a sum.
    weight = 1 / n_reduced if ctx.node.op_type == "ReduceMean" else 1.0
    kernel = np.full((1, view.n_channels, 1), weight, np.float32)
    stage = Stage("convolve", ctx.name, None, 1, weights=ctx.builder.array(kernel, f"{ctx.name}.weights"))
    return [ctx.builder.window(stage, view, ctx.rate(ctx.node.outputs[0]))]
