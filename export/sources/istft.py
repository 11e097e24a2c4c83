"""Spectra to samples: the inverse short-time Fourier transform that vocoders such as Vocos end with.

Most are published without it, because ONNX has none: their graph gives spectra. It is put behind them as a
transposed convolution, whose kernels are the windowed waves; the sum of the overlapping windows, by which it
is divided, is another one over a track of ones. So both ends of an utterance come out right, and it streams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, cast, get_args

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.errors import ModelError
from balacoon_tk.graph.edit import Names, add_constant
from balacoon_tk.stages.mel import MelPadding
from balacoon_tk.voice.json_fields import JsonFields


@dataclass(frozen=True, slots=True)
class IstftInfo:
    """How spectra become samples."""

    n_fft: int
    win_length: int
    """Samples of the periodic Hann window, which stands in the middle of the `n_fft` samples of a frame."""
    hop_length: int
    """Samples from frame to frame."""
    padding: MelPadding
    """What is cut off at the beginning: ``same``, ``(n_fft - hop_length) / 2`` samples; ``center``,
    ``n_fft / 2``. Either gives ``n_frames * hop_length`` samples."""

    @classmethod
    def read(cls, fields: JsonFields) -> Self:
        """Read the record ``istft`` of a vocoder's JSON.

        Raises
        ------
        VoiceError
            If a field is missing, of a wrong type or out of its range; the message names it.
        """
        n_fft = fields.integer("n_fft", minimum=2)
        found = cls(
            n_fft=n_fft,
            win_length=fields.integer("win_length", minimum=1),
            hop_length=fields.integer("hop_length", minimum=1),
            padding=cast(MelPadding, fields.choice("padding", get_args(MelPadding))),
        )
        if n_fft % 2:
            raise fields.error("n_fft", "must be even")
        if found.win_length > n_fft:
            raise fields.error("win_length", f"must be <= n_fft={n_fft}")
        if 2 * found.hop_length > found.win_length:
            raise fields.error("hop_length", f"must be at most half of win_length={found.win_length}")
        return found

    @property
    def window(self) -> NDArray[np.float64]:
        """The window, of n_fft samples."""
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.win_length) / self.win_length)
        left = (self.n_fft - self.win_length) // 2
        return np.pad(hann, (left, self.n_fft - self.win_length - left))

    @property
    def cut(self) -> tuple[int, int]:
        """Samples cut off at the beginning and at the end."""
        left = (self.n_fft - self.hop_length) // 2 if self.padding == "same" else self.n_fft // 2
        return left, self.n_fft - self.hop_length - left


def istft(spectra: list[AnyArray], info: IstftInfo) -> FloatArray:
    """Return samples (n_samples,) of spectra (1, n_fft // 2 + 1, n_frames), by Fourier transforms.

    Parameters
    ----------
    spectra : list of ndarray
        Real and imaginary parts, or magnitudes and the cosines and sines of their phases.
    info : IstftInfo
    """
    *scale, real, imaginary = (part[0].astype(np.float64) for part in spectra)
    spectrum = (real + 1j * imaginary) * (scale[0] if scale else 1.0)
    waves = np.fft.irfft(spectrum.T, info.n_fft) * info.window
    n_frames, n = len(waves), info.hop_length
    samples, overlap = np.zeros((2, (n_frames - 1) * n + info.n_fft))
    for k, wave in enumerate(waves):
        samples[k * n : k * n + info.n_fft] += wave
        overlap[k * n : k * n + info.n_fft] += info.window**2
    left, right = info.cut
    kept = slice(left, len(samples) - right)
    whole: FloatArray = (samples[kept] / overlap[kept]).astype(np.float32)
    return whole


def append_istft(model: onnx.ModelProto, info: IstftInfo) -> onnx.ModelProto:
    """Let a graph that gives spectra give samples.

    Raises
    ------
    ModelError
        If it doesn't give two or three outputs.
    """
    result = ir.from_proto(onnx.ModelProto.FromString(model.SerializeToString()))
    graph = result.graph
    parts = list(graph.outputs)
    if len(parts) not in (2, 3):
        raise ModelError(
            f"istft needs real and imaginary parts, or magnitudes, cosines and sines; the graph gives "
            f"{', '.join(str(value.name) for value in parts)}"
        )
    names = Names(graph)

    def node(op_type: str, inputs: list[ir.Value], **attributes: int | list[int]) -> ir.Value:
        new = ir.node(op_type, inputs, attributes)
        new.outputs[0].name = new.name = names.take(f"istft_{op_type.lower()}")
        graph.append(new)
        return new.outputs[0]

    def constant(array: AnyArray) -> ir.Value:
        return add_constant(graph, array, names.take("istft_constant"))

    if len(parts) == 3:
        magnitude, cosine, sine = parts
        parts = [node("Mul", [magnitude, cosine]), node("Mul", [magnitude, sine])]
    spectrum = node("Concat", parts, axis=1)
    sizes = {"strides": [info.hop_length], "kernel_shape": [info.n_fft], "pads": list(info.cut)}
    waves = node("ConvTranspose", [spectrum, constant(_waves(info))], **sizes)
    zero, one = (constant(np.array(value, np.float32)) for value in (0.0, 1.0))
    first = node("Slice", [spectrum, *(constant(np.array([value])) for value in (0, 1, 1))])
    ones = node("Add", [node("Mul", [first, zero]), one])
    windows = constant((info.window**2).astype(np.float32)[None, None])
    samples = node("Div", [waves, node("ConvTranspose", [ones, windows], **sizes)])
    samples.type = ir.TensorType(ir.DataType.FLOAT)
    samples.shape = ir.Shape([1, 1, "n_samples"])
    graph.outputs.clear()
    graph.outputs.append(samples)
    proto: onnx.ModelProto = ir.to_proto(result)
    return proto


def _waves(info: IstftInfo) -> FloatArray:
    """Return the windowed waves (2 * n_bins, 1, n_fft): of every real part, then of every imaginary one."""
    n_bins = info.n_fft // 2 + 1
    units = np.eye(n_bins)
    waves = np.concatenate([np.fft.irfft(units, info.n_fft), np.fft.irfft(1j * units, info.n_fft)])
    kernels: FloatArray = (waves * info.window)[:, None].astype(np.float32)
    return kernels
