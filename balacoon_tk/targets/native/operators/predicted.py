"""Convolutions whose kernels are predicted for each frame.

As in Zeng et al. 2021, "LVCNet", and Jang et al. 2021, "UnivNet". Graphs write them as a product, of windows
of time, one for each frame, with the frame's kernel:

    windows (channel, frame, place, tap), kernels (channel, out, tap, frame) -> (out, frame, place)

A place is a step within the frame, so that the product is a tensor of many steps, whose frames each have a
kernel of their own. It is this tensor that is computed, without any windows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.runtime.native.program import Stage
from balacoon_tk.targets.native.operators.base import MOVING, Context, operator
from balacoon_tk.targets.native.operators.channels import read_once
from balacoon_tk.targets.native.views import View, Windows


@operator("Einsum")
def _einsum(ctx: Context) -> list[View]:
    equation = ctx.node.attributes.get_string("equation", "").replace(" ", "")
    given, arrow, result = equation.partition("->")
    windowed = [index for index in range(len(ctx.node.inputs)) if ctx.is_windowed(index)]
    if not arrow or "." in equation or len(ctx.node.inputs) != 2 or len(windowed) != 1:
        ctx.refuse("it isn't a product of windows of time with kernels that are predicted")
    (k,) = windowed
    terms = given.split(",")
    x, kernels = _Factor(ctx, k, terms[k]), _Factor(ctx, 1 - k, terms[1 - k])
    placed = [letter for letter in result if letter in x.letters]
    outs = [letter for letter in result if letter in kernels.letters]
    summed = [letter for letter in x.letters if letter not in result]
    if set(placed) & set(outs) or set(summed) != kernels.letters.keys() - set(outs):
        ctx.refuse("it multiplies in groups, or sums over one of its inputs alone")
    read = x.places(summed, placed)
    convolution = _Convolution(ctx, x.view, read)
    n_places, n_out = read.shape[1], kernels.size(outs)
    order = kernels.places(summed, outs)[convolution.order].reshape(-1)
    made = convolution.write(ctx, kernels.view.take(order), n_out)
    # What it makes is an edge of steps, of which the product has each frame's as channels.
    sizes = [kernels.letters[letter] for letter in outs] + [x.letters[letter] for letter in placed]
    letters = [*outs, *placed]
    axes = [letters.index(letter) for letter in result if letter in letters]
    places = np.arange(n_out * n_places).reshape(sizes).transpose(axes).reshape(-1)
    windows = Windows(n_places, n_places, places % n_places) if n_places > 1 else None
    return [View(made.bases, np.zeros(len(places), np.int64), places // n_places, windows=windows)]


class _Factor:
    """One input of a product: its letters but for time's, and those of a single element, with their sizes."""

    def __init__(self, ctx: Context, index: int, term: str) -> None:
        source = ctx.node.inputs[index]
        if ctx.time_axis(source) is None:
            ctx.refuse("its kernels are the same in every frame")
        self.view = ctx.view(index, windows=True)
        rest = [letter for axis, letter in enumerate(term) if axis != ctx.time_axis(source)]
        sizes = ctx.channel_shape(source)
        self.letters = {letter: n for letter, n in zip(rest, sizes, strict=True) if n > 1}

    def size(self, letters: Sequence[str]) -> int:
        return int(np.prod([self.letters[letter] for letter in letters]))

    def places(self, rows: Sequence[str], columns: Sequence[str]) -> AnyArray:
        """Return its channels by what they are of: (rows, columns)."""
        order = list(self.letters)
        axes = [order.index(letter) for letter in (*rows, *columns)]
        places = np.arange(self.view.n_channels).reshape([self.letters[letter] for letter in order])
        return places.transpose(axes).reshape(self.size(rows), self.size(columns))


class _Convolution:
    """What a product sums up, as the taps and channels of a convolution."""

    def __init__(self, ctx: Context, view: View, read: AnyArray) -> None:
        windows = view.windows
        assert windows is not None
        channels, steps = view.channels[read], windows.steps[read]
        n_places = read.shape[1]
        if (
            len(view.bases) > 1
            or n_places != windows.stride
            or (channels != channels[:, :1]).any()
            or (steps - steps[:, :1] != np.arange(n_places)).any()
        ):
            ctx.refuse("its windows aren't those of one step after the other")
        taps, tap = np.unique(steps[:, 0], return_inverse=True)
        inputs, channel = np.unique(channels[:, 0], return_inverse=True)
        self.dilation = int(taps[1] - taps[0]) if len(taps) > 1 else 1
        ranks = tap * len(inputs) + channel
        self.order = np.argsort(ranks)
        if (
            len(read) != len(taps) * len(inputs)
            or (ranks[self.order] != np.arange(len(read))).any()
            or (np.diff(taps) != self.dilation).any()
            or (np.diff(inputs) != 1).any()
        ):
            ctx.refuse("what it sums up are no taps of channels that lie in one piece")
        self.n_taps, self.n_places = len(taps), n_places
        self.source = View.of(view.bases[0]).take(inputs)
        span = (self.n_taps - 1) * self.dilation
        left, right = view.pads
        # So many that the last window's steps are all there; how many windows there are, the kernels say.
        self.pads = left - int(taps[0]), right + int(taps[0]) + span - (windows.size - windows.stride)
        if min(self.pads) < 0:
            ctx.refuse(f"its windows begin or end within the utterance, {self.pads}")

    def write(self, ctx: Context, kernels: View, n_out: int) -> View:
        """Begin the stage; `kernels` are [tap][channel][out]."""
        laid = ctx.builder.laid_out(kernels, ctx.name, alone=_is_read_by_products(ctx, kernels))
        edge, first = ctx.builder.place_of(laid, ctx.name)
        stage = Stage(
            kind="predicted",
            name=ctx.name,
            source=None,
            n_channels=n_out,
            n_in=self.source.n_channels,
            n_taps=self.n_taps,
            dilation=self.dilation,
            pad_left=self.pads[0],
            pad_right=self.pads[1],
            kernels=edge,
            kernel_channel=first,
            kernel_steps=self.n_places,
        )
        return ctx.builder.window(stage, self.source, self.source.rate)


def _is_read_by_products(ctx: Context, kernels: View) -> bool:
    """Whether nothing reads what makes the kernels but products of this kind, each its own part."""
    value = ctx.node.inputs[1 if ctx.is_windowed(0) else 0]
    while value is not None and (node := value.producer()) is not None:
        if node.op_type not in MOVING or len(kernels.bases) > 1:
            return ctx.readers(value, MOVING) == {"Einsum"}
        value = node.inputs[0]
    return False


def add_bias(ctx: Context) -> View:
    """Add a number for each frame and channel to what predicted kernels have made."""
    (index, *others) = [k for k in range(len(ctx.node.inputs)) if ctx.is_windowed(k)]
    made, other = ctx.node.outputs[0], ctx.node.inputs[1 - index]
    if others or len(ctx.node.inputs) != 2 or ctx.is_constant(1 - index):
        ctx.refuse("it adds windows of time to something else than a bias for each frame")
    view, bias = ctx.view(index, windows=True), ctx.view(1 - index)
    assert view.windows is not None
    time, own = ctx.time_axis(made), ctx.time_axis(other)
    if time is None or own is None or len(ctx.shape(made)) - time != len(ctx.shape(other)) - own:
        ctx.refuse("it adds windows of time to something else than a bias for each frame")
    places = np.arange(bias.n_channels).reshape(ctx.channel_shape(other))
    places = np.broadcast_to(places, ctx.channel_shape(made)).reshape(-1)
    n_out = int(view.channels.max()) + 1
    order = np.zeros(n_out, np.int64)
    order[view.channels] = places
    if (order[view.channels] != places).any():
        ctx.refuse("its second input varies within a frame")
    if not read_once(ctx.node.inputs[index], "Einsum"):
        ctx.refuse("what it adds a bias to is read without that as well")
    if not ctx.builder.add_biases(view, bias.take(order), ctx.name):
        ctx.refuse("its bias is made behind what it is added to, or has channels that lie apart")
    return view
