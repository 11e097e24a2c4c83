"""Random graphs of random operators: each streams exactly, or is refused. Nothing in between."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import numpy as np
import onnx
from hypothesis import HealthCheck, Phase, event, given, note, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from balacoon_tk.errors import ModelError
from balacoon_tk.export import NotStreamableError
from balacoon_tk.runtime.session import Session
from streaming_laws import PLANS, Streamed, assert_same, stream
from tiny_graphs import TO_THE_END, TinyGraph

N_EXAMPLES = int(os.environ.get("STREAMING_FUZZ_EXAMPLES", "0"))
"""Graphs to try, others in each run; without it the same 150 always."""

LARGEST = int(os.environ.get("STREAMING_FUZZ_NODES", "10"))
"""Operators in the largest of them."""

TOLERANCE = 2e-5
"""Rounding grows along a graph; a mistake of one step anywhere is a thousand times as large."""

_COUNTS = tuple(range(145))
"""Numbers of frames at which lengths are compared: tensors that agree on the larger of them may meet."""


_MAX_CHANNELS = 8


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor (1, channels, time) of the graph that is being made."""

    name: str
    channels: int
    lengths: tuple[int, ...]

    @property
    def rate(self) -> float:
        return self.lengths[-1] / _COUNTS[-1]


class Maker:
    """Draws one node after the other."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.g = TinyGraph(opset=draw(st.sampled_from([11, 13, 17, 20])), seed=draw(st.integers(0, 5)))
        self.tensors = [Tensor(self.g.frames(2), 2, _COUNTS)]
        if self.int(0, 4) == 0:
            rate = self.int(1, 3)
            self.tensors.append(Tensor(self.g.frames(2, "second"), 2, tuple(rate * n for n in _COUNTS)))

    def int(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def flag(self) -> bool:
        return self.draw(st.booleans())

    def pick(self) -> Tensor:
        """One of the tensors, rather a late one."""
        return self.tensors[-1 - min(self.int(0, 3), len(self.tensors) - 1)]

    def add(self, name: str, channels: int, lengths: tuple[int, ...]) -> None:
        if channels > _MAX_CHANNELS:
            name, channels = self.g.conv(name, channels, 2, 1), 2
        self.tensors.append(Tensor(name, channels, lengths))

    # Each operator takes one tensor and adds another, or nothing if it doesn't fit.

    def conv(self, x: Tensor) -> None:
        kernel, dilation = self.int(1, 5), self.int(1, 3)
        span = (kernel - 1) * dilation
        groups = x.channels if self.int(0, 3) == 0 else 1
        n_out = x.channels if groups > 1 else self.int(1, 3)
        attributes: dict[str, object] = {"dilations": [dilation], "groups": groups, "bias": self.flag()}
        stride = self.int(2, 4) if self.int(0, 5) == 0 and x.rate >= 0.5 else 1
        how = self.int(0, 4)
        if how == 0 and stride == 1 and dilation == 1:
            attributes["auto_pad"] = self.draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))
            left, right = 0, span
        elif how == 1:
            left, right = self.int(0, span + 2), self.int(0, span + 2)
            attributes["pads"] = [left, right]
        else:
            left = self.draw(st.sampled_from([0, span // 2, span]))
            right = span - left
            attributes["pads"] = [left, right]
        lengths = tuple((n + left + right - span - 1) // stride + 1 for n in x.lengths)
        name = self.g.conv(x.name, x.channels, n_out, kernel, strides=[stride], **attributes)  # type: ignore[arg-type]
        self.add(name, n_out, lengths)

    def up(self, x: Tensor) -> None:
        if x.rate > 8:
            return
        stride, kernel, dilation = self.int(1, 4), self.int(1, 6), self.int(1, 2)
        span = (kernel - 1) * dilation
        more = self.int(0, stride - 1) if self.flag() else 0
        surplus = max(0, span + 1 - stride + more)
        left = self.int(0, surplus + 1) if self.flag() else surplus // 2
        right = self.int(0, surplus + 1) if self.flag() else max(0, surplus - left)
        n_out = self.int(1, 3)
        name = self.g.up(x.name, x.channels, n_out, kernel, stride, dilations=[dilation], pads=[left, right],
                         output_padding=[more])  # fmt: skip
        self.add(name, n_out, tuple((n - 1) * stride + span + 1 + more - left - right for n in x.lengths))

    def pad(self, x: Tensor) -> None:
        mode = self.draw(st.sampled_from(["constant", "reflect", "edge"]))
        low = -2 if mode == "constant" else 0
        left, right = self.int(low, 4), self.int(low, 4)
        value = 0.5 if mode == "constant" and self.flag() else None
        name = self.g.pad(x.name, left, right, mode=mode, value=value)
        self.add(name, x.channels, tuple(n + left + right for n in x.lengths))

    def cut(self, x: Tensor) -> None:
        start, end = self.int(0, 4), self.int(0, 4)
        name = self.g.slice(x.name, start, -end if end else TO_THE_END, 2)
        self.add(name, x.channels, tuple(n - start - end for n in x.lengths))

    def shift(self, x: Tensor) -> None:
        """Move in time, keep the length."""
        n = self.int(1, 3)
        if self.flag():
            name = self.g.slice(self.g.pad(x.name, n, 0), 0, -n, 2)
        else:
            name = self.g.slice(self.g.pad(x.name, 0, n), n, TO_THE_END, 2)
        self.add(name, x.channels, x.lengths)

    def pool(self, x: Tensor) -> None:
        kernel = self.int(1, 4)
        stride = self.int(2, 3) if self.int(0, 4) == 0 and x.rate >= 0.5 else 1
        left, right = (self.int(0, kernel - 1), self.int(0, kernel - 1)) if stride == 1 else (0, 0)
        op_type = self.draw(st.sampled_from(["AveragePool", "MaxPool"]))
        name = self.g.op(op_type, x.name, kernel_shape=[kernel], strides=[stride], pads=[left, right])
        self.add(name, x.channels, tuple((n + left + right - kernel) // stride + 1 for n in x.lengths))

    def repeat(self, x: Tensor) -> None:
        if x.rate > 8:
            return
        factor = self.int(1, 3)
        scales = self.g.const([1, 1, factor], np.float32)
        name = self.g.op("Resize", x.name, "", scales, mode="nearest", nearest_mode="floor",
                         coordinate_transformation_mode="asymmetric")  # fmt: skip
        self.add(name, x.channels, tuple(factor * n for n in x.lengths))

    def stretch(self, x: Tensor) -> None:
        """Linear interpolation by a whole rate or a fraction."""
        up, down = self.draw(st.sampled_from([(2, 1), (3, 1), (3, 2), (4, 3), (1, 2), (2, 3)]))
        if x.rate > 8 or x.rate * up / down < 0.5:
            return
        scales = self.g.const([1, 1, up / down], np.float32)
        transform = self.draw(st.sampled_from(["half_pixel", "pytorch_half_pixel", "asymmetric"]))
        name = self.g.op(
            "Resize", x.name, "", scales, mode="linear", coordinate_transformation_mode=transform
        )
        self.add(name, x.channels, tuple(n * up // down for n in x.lengths))

    def every(self, x: Tensor) -> None:
        start, end, step = self.int(0, 3), self.int(0, 2), self.int(2, 3)
        if x.rate / step < 0.3:
            return
        name = self.g.slice(x.name, start, -end if end else TO_THE_END, 2, step)
        self.add(name, x.channels, tuple((n - start - end - 1) // step + 1 for n in x.lengths))

    def joined(self, x: Tensor) -> None:
        """Steps that are the same in every run, before and behind."""
        g, (left, right) = self.g, (self.int(0, 3), self.int(0, 3))
        before, behind = ([g.weight(1, x.channels, n)] if n else [] for n in (left, right))
        name = g.op("Concat", *before, x.name, *behind, axis=2)
        self.add(name, x.channels, tuple(n + left + right for n in x.lengths))

    def bent(self, x: Tensor) -> None:
        """Up in rate and down again, as anti-aliased activations are."""
        g, n = self.g, x.channels
        left, right, *pads = (self.int(0, 3) for _ in range(4))
        y = g.up(g.pad(x.name, 1, 1, mode="edge"), n, n, 4, 2, groups=n, bias=False, pads=[left, right])
        y = g.conv(g.op("Tanh", y), n, n, 4, strides=[2], groups=n, pads=pads)
        steps = ((2 * (m + 2) + 2 - left - right + sum(pads) - 4) // 2 + 1 for m in x.lengths)
        self.add(y, n, tuple(steps))

    def unary(self, x: Tensor) -> None:
        op_type = self.draw(st.sampled_from(["Tanh", "LeakyRelu", "Sigmoid", "Sin", "Abs"]))
        self.add(self.g.op(op_type, x.name), x.channels, x.lengths)

    def meet(self, x: Tensor) -> None:
        """Join with another tensor of the same length, preferring an early one: it is far ahead."""
        others = [y for y in self.tensors if y.lengths[60:] == x.lengths[60:] and y.name != x.name]
        if not others:
            return
        y = others[self.int(0, len(others) - 1)]
        if self.flag() or (x.channels != y.channels and 1 not in (x.channels, y.channels)):
            name = self.g.op("Concat", x.name, y.name, axis=1)
            self.add(name, x.channels + y.channels, x.lengths)
        else:
            op_type = self.draw(st.sampled_from(["Add", "Mul", "Sub", "Max"]))
            self.add(self.g.op(op_type, x.name, y.name), max(x.channels, y.channels), x.lengths)

    def residual(self, x: Tensor) -> None:
        kernel, dilation = self.int(1, 5), self.int(1, 3)
        span = (kernel - 1) * dilation
        left = self.draw(st.sampled_from([span // 2, span, 0]))
        y = self.g.conv(
            x.name, x.channels, x.channels, kernel, dilations=[dilation], pads=[left, span - left]
        )
        self.add(self.g.op("Add", x.name, y), x.channels, x.lengths)

    def fold(self, x: Tensor) -> None:
        """Time into channels; only multiples of the factor can be run whole."""
        factor = self.int(2, 3)
        if x.rate < 0.5 or self.int(0, 2):
            return
        g = self.g
        y = g.op("Reshape", x.name, g.const([1, x.channels, -1, factor]))
        y = g.op("Reshape", g.transpose(y, 0, 1, 3, 2), g.const([1, x.channels * factor, -1]))
        self.add(y, x.channels * factor, tuple(n // factor for n in x.lengths))

    def unfold(self, x: Tensor) -> None:
        if x.channels % 2 or x.rate > 8:
            return
        g = self.g
        y = g.op("Reshape", x.name, g.const([1, x.channels // 2, 2, -1]))
        y = g.op("Reshape", g.transpose(y, 0, 1, 3, 2), g.const([1, x.channels // 2, -1]))
        self.add(y, x.channels // 2, tuple(2 * n for n in x.lengths))

    def running_sum(self, x: Tensor) -> None:
        y = self.g.op("Mul", x.name, self.g.number(0.1))
        y = self.g.op("CumSum", y, self.g.const(2), exclusive=self.int(0, 1))
        self.add(y, x.channels, x.lengths)

    def recurrence(self, x: Tensor) -> None:
        g = self.g
        weights = [g.weight(1, 6, x.channels), g.weight(1, 6, 2)]
        y = g.op("GRU", g.transpose(x.name, 2, 0, 1), *weights, n_outputs=2, hidden_size=2)[0]
        self.add(g.transpose(g.squeeze(y, 1), 1, 2, 0), 2, x.lengths)

    def ones(self, x: Tensor) -> None:
        """A tensor of ones as long as another, as window envelopes are made."""
        g = self.g
        shape = g.op("Concat", g.const([1, 1]), g.length(x.name), axis=0)
        one = numpy_helper.from_array(np.array([1], np.float32))
        self.add(g.op("ConstantOfShape", shape, value=one), 1, x.lengths)

    def normed(self, x: Tensor) -> None:
        g = self.g
        y = g.op("Sub", x.name, g.reduce("ReduceMean", x.name, 1))
        self.add(
            g.op("Add", y, g.op("Softmax", x.name, axis=1) if g.opset >= 13 else y), x.channels, x.lengths
        )

    def turned(self, x: Tensor) -> None:
        g = self.g
        y = g.op("MatMul", g.transpose(x.name, 0, 2, 1), g.weight(x.channels, 2))
        self.add(g.transpose(y, 0, 2, 1), 2, x.lengths)

    def global_view(self, x: Tensor) -> None:
        """What must be refused."""
        if self.int(0, 9) == 0:
            g = self.g
            y = g.op("Sub", x.name, g.reduce("ReduceMean", x.name, 2))
            self.add(y, x.channels, x.lengths)

    OPERATORS = (
        conv, up, pad, cut, shift, pool, repeat, unary, meet, residual, fold, unfold, running_sum,
        recurrence, ones, normed, turned, global_view, conv, up, residual, meet, meet,
        stretch, every, joined, bent, meet,
    )  # fmt: skip

    def shortest(self) -> int:
        """The smallest number of frames from which on no tensor is empty.

        ONNX Runtime 1.31 ends the process when it runs a recurrence over no steps.
        """
        return 1 + max((n for n in _COUNTS for x in self.tensors if x.lengths[n] < 1), default=0)

    def model(self) -> onnx.ModelProto:
        for _ in range(self.int(1, LARGEST)):
            operator = self.draw(st.sampled_from(self.OPERATORS))
            operator(self, self.pick())
        outputs = [self.tensors[-1].name]
        if len(self.tensors) > 2 and self.int(0, 4) == 0:
            outputs.append(self.pick().name)
        model = self.g.model(*outputs, names=[f"out_{k}" for k in range(len(outputs))])
        needed = {value.name for value in model.graph.output}
        for node in reversed(model.graph.node):  # a branch that nothing reads may fail in the whole run only
            if needed.isdisjoint(node.output):
                model.graph.node.remove(node)
            else:
                needed.update(node.input)
        return model


@st.composite
def models(draw: st.DrawFn) -> tuple[onnx.ModelProto, int]:
    """A graph, and the shortest utterance that it is to be run with."""
    maker = Maker(draw)
    model = maker.model()
    recurrent = any(node.op_type == "GRU" for node in model.graph.node)
    return model, maker.shortest() if recurrent else 1


def described(model: onnx.ModelProto) -> str:
    """The graph in a few lines, for the report of a failure."""
    lines = [f"opset {model.opset_import[0].version}, outputs {[value.name for value in model.graph.output]}"]
    for node in model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if a.name != "value"}
        lines.append(f"{node.op_type}({', '.join(node.input)}) {attributes}")
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    lines += [f"{k} {v.tolist() if v.size < 7 else v.shape}" for k, v in constants.items()]
    return "\n".join(lines)


def loads(model: onnx.ModelProto) -> bool:
    try:
        Session(model)
    except ModelError:
        return False
    return True


@settings(
    max_examples=N_EXAMPLES or 150,
    derandomize=not N_EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    print_blob=True,
)
@given(models(), st.sampled_from([*PLANS, "mixed"]), st.booleans(), st.data())
def test_a_random_graph_streams_exactly_or_is_refused(made, kind, optimize, data: st.DataObject) -> None:
    model, shortest = made
    note(described(model))
    try:
        pair = Streamed(model, kind, optimize=optimize)
    except NotStreamableError as error:
        event(f"refused: {error.op_type}: {error.reason[:60]}")
        return
    except ModelError as error:
        event(f"error: {str(error)[:60]}")
        # Only graphs that ONNX Runtime itself can't take: folds by 7, optional inputs of old opsets.
        assert "runs at none of the lengths" in str(error) or not loads(model), error
        return
    event(f"streamed {kind}{' optimized' if optimize else ''}")
    lag = pair.spec.min_first_frames
    lengths = [data.draw(st.integers(1, lag + 3)), lag + data.draw(st.integers(0, 30))]
    lengths = [max(n_frames, shortest) for n_frames in lengths]
    for n_frames in lengths:
        feeds = pair.feeds(n_frames, seed=n_frames)
        pushes: list[int] = []
        while (left := n_frames - sum(pushes)) > 0:
            pushes.append(min(left, data.draw(st.sampled_from([1, 2, 3, 5, 0, 8, 13, lag]))))
        pushes += [0] if data.draw(st.booleans()) else []
        wanted = None
        with contextlib.suppress(ModelError):
            wanted = pair.run_whole(feeds)
        if wanted is None:
            for way in ([n_frames], pushes):
                try:
                    got = stream(pair, feeds, way)
                except ModelError:
                    continue
                # Of a cut that leaves no steps a transposed convolution makes none in a stream, and an error else.
                assert not any(array.size for array in got.values()), (
                    f"whole run of {n_frames} fails, {way} gives {got}"
                )
            continue
        for way in ([n_frames], pushes, [1] * n_frames):
            got = stream(pair, feeds, way)
            assert_same(got, wanted, tolerance=TOLERANCE, note=(kind, n_frames, way))
