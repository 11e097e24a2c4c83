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
from balacoon_tk.export.sources.files import private_copy
from balacoon_tk.graph.edit import Names, Writer
from balacoon_tk.stages.mel import MelPadding, centred_hann, frame_margin
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
        """Read the record ``istft`` of a vocoder's JSON."""
        n_fft = fields.integer("n_fft", minimum=2)
        found = cls(
            n_fft=n_fft,
            win_length=fields.integer("win_length", minimum=1),
            hop_length=fields.integer("hop_length", minimum=1),
            padding=cast(MelPadding, fields.choice("padding", get_args(MelPadding))),
        )
        # An odd n_fft would have as many bins as the even one below it. With less overlap than half a window
        # the sum of squared windows, by which samples are divided, would come near 0.
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
        return centred_hann(self.win_length, self.n_fft)

    @property
    def cut(self) -> tuple[int, int]:
        """Samples cut off at the beginning and at the end."""
        left = frame_margin(self.n_fft, self.hop_length, self.padding)
        return left, self.n_fft - self.hop_length - left


def istft(spectra: list[AnyArray], info: IstftInfo) -> FloatArray:
    """Return samples (n_samples,) of spectra (1, n_fft // 2 + 1, n_frames), by Fourier transforms.

    `spectra` are real and imaginary parts, or magnitudes and the cosines and sines of their phases.
    """
    # Three parts are a magnitude, and the cosine and sine of its phase, which are a number of length 1.
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
    """Let a graph that gives spectra, in two or three outputs, give samples."""
    result = private_copy(model.SerializeToString())
    graph = result.graph
    parts = list(graph.outputs)
    if len(parts) not in (2, 3):
        raise ModelError(
            f"istft needs real and imaginary parts, or magnitudes, cosines and sines; the graph gives "
            f"{', '.join(str(value.name) for value in parts)}"
        )
    write = Writer(graph, Names(graph), "istft")
    if len(parts) == 3:
        magnitude, cosine, sine = parts
        parts = [write.one("Mul", magnitude, cosine), write.one("Mul", magnitude, sine)]
    spectrum = write.concat(parts, 1)

    def overlap_add(frames: ir.Value, kernels: FloatArray) -> ir.Value:
        sizes = {"strides": [info.hop_length], "kernel_shape": [info.n_fft], "pads": list(info.cut)}
        return write.one("ConvTranspose", frames, write.constant(kernels), **sizes)

    # Ones as many as frames, made of the spectrum itself: its first bin times 0, plus 1. So they
    # arrive frame by frame in a stream, as the spectrum does.
    zeros = write.one("Mul", write.slice(spectrum, 1, 0, 1), write.floats(0.0))
    ones = write.one("Add", zeros, write.floats(1.0))
    windows = (info.window**2).astype(np.float32)[None, None]
    kernels = (inverse_waves(info.n_fft) * info.window)[:, None].astype(np.float32)
    samples = write.one("Div", overlap_add(spectrum, kernels), overlap_add(ones, windows))
    samples.type, samples.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([1, 1, "n_samples"])
    graph.extend(write.nodes)
    graph.outputs[:] = [samples]
    return ir.to_proto(result)


def inverse_waves(n_fft: int) -> NDArray[np.float64]:
    """Return the waves (2 * n_bins, n_fft) of every real part of a spectrum, then of every imaginary one."""
    # The transform is linear: its wave for a bin is what it makes of that bin alone.
    units = np.eye(n_fft // 2 + 1)
    return np.concatenate([np.fft.irfft(units, n_fft), np.fft.irfft(1j * units, n_fft)])
