"""BigVGAN (Lee et al. 2023): each activation is made at a higher rate, between low-pass filters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from families.family import Family, frames


def low_pass(n_taps: int) -> np.ndarray:
    """Return a filter that leaves the lower half of the band."""
    taps = np.sinc((np.arange(n_taps) - (n_taps - 1) / 2) / 2) * np.hamming(n_taps)
    return (taps / taps.sum()).astype(np.float32)


class Activation(nn.Module):
    """Snake between two rates, padded with what stands at the ends."""

    def __init__(self, n_channels: int, ratio: int = 2, n_taps: int = 12) -> None:
        super().__init__()
        self.n_channels, self.ratio, self.n_taps = n_channels, ratio, n_taps
        self.register_buffer("taps", torch.from_numpy(low_pass(n_taps)).view(1, 1, -1))
        self.alpha = nn.Parameter(torch.rand(1, n_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Go up, bend, and come down again."""
        taps, groups = self.taps.expand(self.n_channels, -1, -1), self.n_channels
        ratio, n_taps = self.ratio, self.n_taps
        pad = n_taps // ratio - 1
        x = functional.pad(x, (pad, pad), mode="replicate")
        x = ratio * functional.conv_transpose1d(x, taps, stride=ratio, groups=groups)
        left = pad * ratio + (n_taps - ratio) // 2
        x = x[..., left : -(pad * ratio + (n_taps - ratio + 1) // 2)]
        x = x + torch.sin(self.alpha * x) ** 2 / (self.alpha + 1e-9)
        x = functional.pad(x, (n_taps // 2 - int(n_taps % 2 == 0), n_taps // 2), mode="replicate")
        return functional.conv1d(x, taps, stride=ratio, groups=groups)


class BigVgan(nn.Module):
    """A mel spectrogram to samples."""

    def __init__(self, n_mels: int, n_channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        n = n_channels
        self.first = nn.Conv1d(n_mels, n, 7, padding=3)
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        for stride in strides:
            self.ups.append(nn.ConvTranspose1d(n, n // 2, 2 * stride, stride, stride // 2))
            n //= 2
            self.blocks.append(nn.ModuleList(self._block(n, dilation) for dilation in (1, 3)))
        self.last = nn.Conv1d(n, 1, 7, padding=3)

    @staticmethod
    def _block(n: int, dilation: int) -> nn.Module:
        wide = nn.Conv1d(n, n, 3, padding=dilation, dilation=dilation)
        return nn.Sequential(Activation(n), wide, Activation(n), nn.Conv1d(n, n, 3, padding=1))

    def forward(self, frames: Tensor) -> Tensor:
        """Decode."""
        x = self.first(frames)
        for up, blocks in zip(self.ups, self.blocks, strict=True):
            x = up(x)
            for block in blocks:
                x = x + block(x)
        return torch.clamp(self.last(x), -1, 1)


def bigvgan(full: bool) -> nn.Module:
    """Return one with the strides of that for 22 kHz and a third of its channels, or a tiny one."""
    return BigVgan(80, 512, (4, 4, 2, 2, 2, 2)) if full else BigVgan(3, 8, (4,))


ANTI_ALIASED = (Family("BigVGAN", "anti-aliased Snake", bigvgan, partial(frames, n_channels=80, tiny=3)),)
