"""Heads of spectra in standard operators: transforms, windows and overlaps as exporters give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tiny_graphs import TinyGraph

Inverse = Literal["irfft", "ifft", "mirrored", "matmul"]
Overlap = Literal["Col2Im", "column", "ConvTranspose", "ScatterND", "ScatterElements", "scattered by places"]
INVERSES: tuple[Inverse, ...] = ("irfft", "ifft", "mirrored", "matmul")
OVERLAPS: tuple[Overlap, ...] = (
    *("Col2Im", "column", "ConvTranspose", "ScatterND", "ScatterElements", "scattered by places"),
)
N = 4
"""Channels of the frames that go in."""


@dataclass(frozen=True)
class Head:
    """An inverse short-time Fourier transform; the window stays away from 0, so that its sums do."""

    n_fft: int = 16
    hop: int = 4
    n_more: int = 0
    """Samples behind the last frame."""

    @property
    def n_bins(self) -> int:
        return self.n_fft // 2 + 1

    @property
    def window(self) -> np.ndarray:
        return 0.6 - 0.5 * np.cos(2 * np.pi * np.arange(self.n_fft) / self.n_fft)

    def spectrum(self, g: TinyGraph) -> str:
        """A spectrum (1, n_bins, n_frames, 2)."""
        x = g.conv(g.frames(N), N, 2 * self.n_bins, 3, pads=[1, 1])
        return g.transpose(g.op("Reshape", x, g.const([1, 2, self.n_bins, -1])), 0, 2, 3, 1)

    def frames(self, g: TinyGraph, spectrum: str, inverse: Inverse) -> str:
        """Frames (1, n_fft, n_frames) of a spectrum, without the window."""
        if inverse == "matmul":
            units = np.eye(self.n_bins)
            waves = np.fft.irfft(np.concatenate([units, 1j * units]), self.n_fft).T
            parts = g.op("Reshape", g.transpose(spectrum, 0, 3, 1, 2), g.const([1, 2 * self.n_bins, -1]))
            return str(g.op("MatMul", g.const(waves, np.float32), parts))
        if inverse == "mirrored":
            # The other half of the bins: these backwards, with the sign of their imaginary part turned.
            rest = g.slice(spectrum, (self.n_fft - 1) // 2, -self.n_bins - 1 + 1, 1, -1)
            turned = g.op("Mul", rest, g.const([1.0, -1.0], np.float32))
            spectrum = g.op("Concat", spectrum, turned, axis=1)
        length = g.const(self.n_fft)
        attributes = {"inverse": 1, "onesided": int(inverse == "irfft")}
        if g.opset < 20:
            y = g.op("DFT", spectrum, length, axis=1, **attributes)
        else:
            y = g.op("DFT", spectrum, length, g.const(1), **attributes)
        return g.squeeze(y if inverse == "irfft" else g.slice(y, 0, 1, 3), 3)

    def windowed(self, g: TinyGraph, frames: str) -> str:
        return str(g.op("Mul", frames, g.const(self.window[None, :, None], np.float32)))

    def windows(self, g: TinyGraph, like: str) -> str:
        """Squared windows (1, n_fft, n_frames), as many as steps on axis 2 of another tensor."""
        shape = g.op("Concat", g.const([1]), g.length(like), g.const([self.n_fft]), axis=0)
        squared = g.const(self.window[None, None] ** 2, np.float32)
        return g.transpose(g.op("Expand", squared, shape), 0, 2, 1)

    def add_up(self, g: TinyGraph, frames: str, how: Overlap) -> str:
        """Add frames (1, n_fft, n_frames) up where they overlap, to (1, n_samples)."""
        if how == "ConvTranspose":
            identity = g.const(np.eye(self.n_fft)[:, None], np.float32)
            more = {"output_padding": [self.n_more]}
            return g.squeeze(g.op("ConvTranspose", frames, identity, strides=[self.hop], **more), 1)
        if how in ("Col2Im", "column"):
            return g.squeeze(self.col2im(g, frames, row=how == "Col2Im"), 1, 2 if how == "Col2Im" else 3)
        return self.scatter(g, frames, how)

    def col2im(self, g: TinyGraph, frames: str, *, row: bool = True, pads: tuple[int, int] = (0, 0)) -> str:
        """What fold becomes: frames (1, n_fft, n_frames) to a row or a column of samples."""
        order = (lambda *pair: [*pair]) if row else (lambda *pair: [*reversed(pair)])
        image = g.op("Concat", *order(g.const([1]), self._length(g, frames, -sum(pads))), axis=0)
        attributes = {"strides": order(1, self.hop)}
        if any(pads):
            attributes["pads"] = [*order(0, pads[0]), *order(0, pads[1])]
        return str(g.op("Col2Im", frames, image, g.const(order(1, self.n_fft)), **attributes))

    def scatter(
        self, g: TinyGraph, frames: str, how: Overlap, *, value: float = 0.0, hop: str = "", reduction="add"
    ) -> str:
        """Frames (1, n_fft, n_frames) added up at computed places, to (1, n_samples)."""
        by_frame = how != "scattered by places"
        ordered = g.transpose(frames, 0, 2, 1) if by_frame else frames
        n_frames = g.op("Squeeze", g.length(frames), g.const([0]))
        starts = g.op("Mul", g.op("Range", g.const(0), n_frames, g.const(1)), hop or g.const(self.hop))
        within = g.op("Range", g.const(0), g.const(self.n_fft), g.const(1))
        places = g.op(
            "Add", g.unsqueeze(starts, 1 if by_frame else 0), g.unsqueeze(within, 0 if by_frame else 1)
        )
        places = g.op("Reshape", places, g.const([-1]))
        length = self._length(g, frames, 0)
        if how == "ScatterElements":
            zeros = g.op("Expand", g.number(value), g.op("Concat", g.const([1]), length, axis=0))
            updates = g.op("Reshape", ordered, g.const([1, -1]))
            places = g.unsqueeze(places, 0)
            return str(g.op(how, zeros, places, updates, axis=1, reduction=reduction))
        zeros = g.op("Expand", g.number(value), length)
        updates = g.op("Reshape", ordered, g.const([-1]))
        return g.unsqueeze(g.op("ScatterND", zeros, g.unsqueeze(places, 1), updates, reduction=reduction), 0)

    def _length(self, g: TinyGraph, frames: str, n_more: int) -> str:
        length = g.op("Mul", g.op("Sub", g.length(frames), g.const([1])), g.const([self.hop]))
        return str(g.op("Add", length, g.const([self.n_fft + self.n_more + n_more])))
