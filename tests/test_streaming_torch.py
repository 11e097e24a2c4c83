"""Parts of codec decoders as torch writes them: recurrences, interpolation, repetition, padding by joining."""

from __future__ import annotations

import io
import warnings

import onnx
import pytest

from balacoon_tk.export import noise_inputs
from streaming_laws import assert_streams

torch = pytest.importorskip("torch", reason='needs pip install "balacoon_tk[export]"')
functional, nn = torch.nn.functional, torch.nn

N = 4
"""Channels."""


class Between(nn.Module):
    """An operation between two convolutions."""

    def __init__(self, part, n_after: int = N) -> None:
        super().__init__()
        self.part = part
        self.before, self.after = nn.Conv1d(N, N, 3, padding=1), nn.Conv1d(n_after, 2, 5, padding=2)

    def forward(self, x):
        return self.after(self.part(self.before(x)))


def exported(part, *, n_after: int = N) -> onnx.ModelProto:
    torch.manual_seed(0)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Between(part, n_after).eval(), (torch.randn(1, N, 24),), file, dynamo=False, opset_version=18,
            input_names=["frames"], output_names=["samples"], dynamic_axes={"frames": {2: "n"}},
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


class Recurrence(nn.Module):
    """With the residual connection around it that EnCodec has."""

    def __init__(self, kind: str, *, batch_first: bool, zeros: bool) -> None:
        super().__init__()
        self.layers = getattr(nn, kind)(N, N, 2, batch_first=batch_first)
        self.batch_first, self.zeros = batch_first, zeros

    def forward(self, x):
        order = (0, 2, 1) if self.batch_first else (2, 0, 1)
        x = x.permute(*order)
        first = ()
        if self.zeros:  # as made for the batch that comes
            n_batch = x.shape[0 if self.batch_first else 1]
            state = torch.zeros(2, n_batch, N, dtype=x.dtype)
            first = ((state, state) if isinstance(self.layers, nn.LSTM) else state,)
        y, _ = self.layers(x, *first)
        return (x + y).permute(0, 2, 1) if self.batch_first else (x + y).permute(1, 2, 0)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_recurrence_of_several_layers_streams(kind: str, batch_first: bool, zeros: bool) -> None:
    assert_streams(exported(Recurrence(kind, batch_first=batch_first, zeros=zeros)), tolerance=1e-5)


@pytest.mark.parametrize("rate", [2, 3, 4, 1.5, 24000 / 22050])
def test_linear_interpolation_streams(rate: float) -> None:
    class Stretch(nn.Module):
        def forward(self, x):
            return functional.interpolate(x, scale_factor=rate, mode="linear", align_corners=False)

    assert_streams(exported(Stretch()), tolerance=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_interpolation_of_an_image_in_time_streams(mode: str) -> None:
    class Stretch(nn.Module):
        def forward(self, x):
            return functional.interpolate(x[:, None], scale_factor=(1, 4), mode=mode)[:, 0]

    assert_streams(exported(Stretch()), tolerance=1e-5)


def test_a_harmonic_source_streams_that_sums_its_phase_at_the_rate_of_frames() -> None:
    """The sine generator of NSF vocoders (arXiv:1904.12088) as StyleTTS 2 has it: down, summed, and up again."""

    class Source(nn.Module):
        def forward(self, f0):
            f0 = functional.interpolate(f0, scale_factor=24.0, mode="nearest")
            turns = (f0.abs() * 0.05) % 1
            turns = functional.interpolate(turns, scale_factor=1 / 24, mode="linear")
            phase = functional.interpolate(torch.cumsum(turns, dim=2) * 24, scale_factor=24.0, mode="linear")
            return torch.sin(phase * 2 * torch.pi)

    assert_streams(exported(Source()), tolerance=2e-4)


class Repeated(nn.Module):
    def forward(self, x):
        return x.repeat_interleave(3, dim=2)


class Expanded(nn.Module):
    def forward(self, x):
        return x[..., None].expand(-1, -1, -1, 3).reshape(x.shape[0], x.shape[1], -1)


class Tiled(nn.Module):
    def forward(self, x):
        return x.unsqueeze(3).repeat(1, 1, 1, 3).view(x.shape[0], N, x.shape[2] * 3)


class Joined(nn.Module):
    """Causal padding by zeros made from shapes, and an ending that was learned."""

    def __init__(self) -> None:
        super().__init__()
        self.end = nn.Parameter(torch.randn(1, N, 2))

    def forward(self, x):
        return torch.cat([torch.zeros(x.shape[0], x.shape[1], 3), x, self.end], dim=2)


class Decimated(nn.Module):
    def forward(self, x):
        return functional.interpolate(x, scale_factor=4, mode="nearest")[..., 1::2]


class Frames(nn.Module):
    """A group norm over each frame alone: time is its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, N)

    def forward(self, x):
        return self.norm(x[0].T).T[None]


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(N, N))

    def forward(self, x):
        return torch.einsum("...ct,dc->...dt", x, self.weight)


class Shuffled(nn.Module):
    """Channels into time, as an image that is one pixel high."""

    def forward(self, x):
        return functional.pixel_shuffle(x.unsqueeze(3).repeat(1, 1, 1, 2), 2)[:, :, :, 0]


PARTS = {
    "repeat_interleave": (Repeated, N),
    "expand and reshape": (Expanded, N),
    "repeat and view": (Tiled, N),
    "cat with zeros and a weight": (Joined, N),
    "every second step": (Decimated, N),
    "group norm by frames": (Frames, N),
    "einsum with an ellipsis": (Mixed, N),
    "pixel_shuffle": (Shuffled, 1),
}


@pytest.mark.parametrize("name", PARTS)
def test_what_codec_decoders_are_put_together_of_streams(name: str) -> None:
    part, n_after = PARTS[name]
    torch.manual_seed(0)
    assert_streams(exported(part(), n_after=n_after), tolerance=1e-5)


def test_a_noise_block_streams_with_its_noise_as_an_input() -> None:
    class NoiseBlock(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Conv1d(N, N, 1, bias=False)

        def forward(self, x):
            noise = torch.randn((x.shape[0], 1, x.shape[2]), device=x.device, dtype=x.dtype)
            return x + noise * self.linear(x)

    model = noise_inputs(exported(NoiseBlock()))
    assert [value.name for value in model.graph.input] == ["frames", "noise"]
    assert_streams(model, tolerance=1e-5)
