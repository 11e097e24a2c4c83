"""Anti-aliased activations: up in rate, bent, and down again, each with a low-pass filter (BigVGAN, arXiv:2206.04658).

Every step of the way pads with what stands at the ends and cuts its own margin off again.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import pytest

from streaming_laws import Streamed, assert_streams
from tiny_graphs import TinyGraph

torch = pytest.importorskip("torch", reason='needs pip install "balacoon_tk[export]"')

N = 4
"""Channels."""


def low_pass(n_taps: int) -> np.ndarray:
    taps = np.hanning(n_taps + 2)[1:-1] * np.sinc((np.arange(n_taps) - (n_taps - 1) / 2) / 2)
    return (taps / taps.sum()).astype(np.float32)


def snake(g: TinyGraph, x: str) -> str:
    alpha = g.weight(1, N, 1)
    return str(g.op("Add", x, g.op("Pow", g.op("Sin", g.op("Mul", x, alpha)), g.number(2))))


def anti_aliased(g: TinyGraph, x: str, *, ratio: int, n_taps: int) -> str:
    """The activation as BigVGAN writes it, its paddings as numbers."""
    taps = g.const(np.tile(low_pass(n_taps), (N, 1, 1)), np.float32)
    pad = n_taps // ratio - 1
    left = pad * ratio + (n_taps - ratio) // 2
    right = pad * ratio + (n_taps - ratio + 1) // 2
    y = g.op("ConvTranspose", g.pad(x, pad, pad, mode="edge"), taps, strides=[ratio], group=N)
    y = snake(g, g.slice(g.op("Mul", y, g.number(ratio)), left, -right, 2))
    y = g.pad(y, n_taps // 2 - int(n_taps % 2 == 0), n_taps // 2, mode="edge")
    return str(g.op("Conv", y, taps, strides=[ratio], group=N))


@pytest.mark.parametrize(("ratio", "n_taps"), [(2, 12), (3, 9), (4, 16)])
def test_an_anti_aliased_activation_streams(ratio: int, n_taps: int) -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    x = anti_aliased(g, x, ratio=ratio, n_taps=n_taps)
    assert_streams(g.model(g.conv(x, N, 2, 5, pads=[2, 2])), tolerance=1e-5)


def test_a_segment_runs_over_a_rate_that_falls_as_far_as_it_rose() -> None:
    g = TinyGraph()
    x = anti_aliased(g, g.conv(g.frames(), N, N, 3, pads=[1, 1]), ratio=2, n_taps=12)
    pair = Streamed(g.model(x), "longest segments")
    (step,) = pair.plan.steps
    assert step.segment is not None
    assert pair.spec.outputs[0].lag == 1 + 5  # what the convolution looks ahead, and half of both filters
    # Of a rate that falls below that of the input, where a piece begins would decide.
    g = TinyGraph()
    pair = Streamed(g.model(g.conv(g.frames(), N, N, 4, strides=[2])), "longest segments")
    assert all(step.segment is None for step in pair.plan.steps)


def test_residual_blocks_of_anti_aliased_activations_stream() -> None:
    g = TinyGraph()
    x = g.up(g.conv(g.frames(), N, N, 7, pads=[3, 3]), N, N, 4, 2, pads=[1, 1])
    for dilation in (1, 3):
        y = anti_aliased(g, x, ratio=2, n_taps=12)
        y = g.conv(y, N, N, 3, pads=[dilation] * 2, dilations=[dilation])
        x = g.op("Add", x, g.conv(anti_aliased(g, y, ratio=2, n_taps=12), N, N, 3, pads=[1, 1]))
    assert_streams(g.model(g.op("Tanh", g.conv(x, N, 1, 7, pads=[3, 3]))), tolerance=1e-5)


class Activation(torch.nn.Module):
    """The same in torch."""

    def __init__(self, ratio: int = 2, n_taps: int = 12) -> None:
        super().__init__()
        self.ratio, self.n_taps = ratio, n_taps
        self.register_buffer("taps", torch.from_numpy(low_pass(n_taps)).view(1, 1, -1))
        self.alpha = torch.nn.Parameter(torch.rand(1, N, 1))

    def forward(self, x):
        functional, taps = torch.nn.functional, self.taps.expand(N, -1, -1)
        ratio, n_taps = self.ratio, self.n_taps
        pad = n_taps // ratio - 1
        x = functional.pad(x, (pad, pad), mode="replicate")
        x = ratio * functional.conv_transpose1d(x, taps, stride=ratio, groups=N)
        left = pad * ratio + (n_taps - ratio) // 2
        x = x[..., left : -(pad * ratio + (n_taps - ratio + 1) // 2)]
        x = x + torch.sin(self.alpha * x) ** 2 / (self.alpha + 1e-9)
        x = functional.pad(x, (n_taps // 2 - int(n_taps % 2 == 0), n_taps // 2), mode="replicate")
        return functional.conv1d(x, taps, stride=ratio, groups=N)


class Generator(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv1d(3, N, 7, padding=3)
        self.up = torch.nn.ConvTranspose1d(N, N, 8, 4, padding=2)
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(Activation(), torch.nn.Conv1d(N, N, 3, padding=d, dilation=d), Activation(),
                                torch.nn.Conv1d(N, N, 3, padding=1))
            for d in (1, 3)
        )  # fmt: skip
        self.last = torch.nn.Conv1d(N, 1, 7, padding=3)

    def forward(self, x):
        x = self.up(self.first(x))
        for block in self.blocks:
            x = x + block(x)
        return torch.clamp(self.last(x), -1, 1)


def exported(module) -> onnx.ModelProto:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), (torch.zeros(1, 3, 20),), file, dynamo=False, opset_version=17,
            input_names=["frames"], output_names=["samples"], dynamic_axes={"frames": {2: "n"}},
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


def test_a_generator_of_anti_aliased_activations_streams_as_torch_writes_it() -> None:
    torch.manual_seed(0)
    assert_streams(exported(Generator()), tolerance=1e-5)
