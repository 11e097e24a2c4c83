"""Decoders that no package of ours has, built as their papers and public code describe them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from families.family import Family

# --- SNAC (Siuzdak, Grötschla, Lanzendörfer 2024): codes at three rates, depthwise convolutions, noise ---


class Snake(nn.Module):
    """x + sin(a x)**2 / a, a channel's own a (Ziyin, Hartwig, Ueda 2020)."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.rand(1, n_channels, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return x + (self.alpha + 1e-9).reciprocal() * torch.sin(self.alpha * x).pow(2)


class NoiseBlock(nn.Module):
    """Adds noise, as loud as a projection says."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(n_channels, n_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        noise = torch.randn((x.shape[0], 1, x.shape[2]), dtype=x.dtype)
        return x + noise * self.linear(x)


class ResidualUnit(nn.Module):
    """A dilated convolution and one of one step, beside what they are given."""

    def __init__(self, n_channels: int, dilation: int, groups: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Snake(n_channels),
            nn.Conv1d(n_channels, n_channels, 7, dilation=dilation, padding=3 * dilation, groups=groups),
            Snake(n_channels),
            nn.Conv1d(n_channels, n_channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return x + self.block(x)


class Snac(nn.Module):
    """Codes at a rate of 1, 2 and 4 to samples."""

    def __init__(self) -> None:
        super().__init__()
        n, strides = 16, (4, 2)
        self.strides = (4, 2, 1)
        self.codebooks = nn.ModuleList(nn.Embedding(16, 4) for _ in self.strides)
        self.projections = nn.ModuleList(nn.Conv1d(4, n, 1) for _ in self.strides)
        parts: list[nn.Module] = [nn.Conv1d(n, n, 7, padding=3, groups=n), nn.Conv1d(n, n, 1)]
        for stride in strides:
            up = nn.ConvTranspose1d(
                n, n // 2, 2 * stride, stride, padding=math.ceil(stride / 2), output_padding=stride % 2
            )
            n //= 2
            parts += [Snake(2 * n), up, NoiseBlock(n), *(ResidualUnit(n, d, n) for d in (1, 3))]
        self.decoder = nn.Sequential(*parts, Snake(n), nn.Conv1d(n, 1, 7, padding=3), nn.Tanh())

    def forward(self, *codes: Tensor) -> Tensor:
        """Sum the projected codes at the fastest rate, and decode them."""
        total: Tensor | None = None
        for stride, book, project, ids in zip(
            self.strides, self.codebooks, self.projections, codes, strict=True
        ):
            part = project(book(ids).transpose(1, 2)).repeat_interleave(stride, dim=-1)
            total = part if total is None else total + part
        return self.decoder(total)


def snac_codes(n_frames: int) -> Mapping[str, Tensor]:
    """Return codes (1, k * n_frames) for k = 1, 2, 4."""
    return {f"codes_{k}": torch.randint(0, 16, (1, k * n_frames)) for k in (1, 2, 4)}


# --- XTTS (Casanova et al. 2024): latents stretched by interpolation, then HiFi-GAN with a speaker -------


class Xtts(nn.Module):
    """Latents of a language model to samples."""

    def __init__(self) -> None:
        super().__init__()
        n = 16
        self.pre = nn.Conv1d(6, n, 7, padding=3)
        self.speaker = nn.Conv1d(4, n, 1)
        self.ups = nn.ModuleList([nn.ConvTranspose1d(16, 8, 8, 4, 2), nn.ConvTranspose1d(8, 4, 4, 2, 1)])
        self.blocks = nn.ModuleList(nn.Conv1d(n, n, 3, padding=d, dilation=d) for n, d in ((8, 1), (4, 3)))
        self.post = nn.Conv1d(4, 1, 7, padding=3)

    def forward(self, frames: Tensor, speaker_embedding: Tensor) -> Tensor:
        """Stretch twice, then decode."""
        x = F.interpolate(frames, scale_factor=[4.0], mode="linear")
        x = F.interpolate(x, scale_factor=[1.5], mode="linear")
        x = self.pre(x) + self.speaker(speaker_embedding)
        for up, block in zip(self.ups, self.blocks, strict=True):
            x = up(F.leaky_relu(x, 0.1))
            x = x + block(F.leaky_relu(x, 0.1))
        return torch.tanh(self.post(F.leaky_relu(x)))


# --- multi-band MelGAN (Yang et al. 2021): bands, joined by a bank of filters ----------------------------


class MultiBandMelGan(nn.Module):
    """A mel spectrogram to four bands, and these to samples by a pseudo quadrature mirror filter bank."""

    def __init__(self, n_bands: int = 4, taps: int = 62) -> None:
        super().__init__()
        self.n_bands = n_bands
        self.body = nn.Sequential(
            nn.ReflectionPad1d(3),
            nn.Conv1d(5, 16, 7),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose1d(16, 8, 8, 4, 2),
            nn.LeakyReLU(0.2),
            nn.ReflectionPad1d(3),
            nn.Conv1d(8, n_bands, 7),
            nn.Tanh(),
        )
        time = torch.arange(taps + 1, dtype=torch.float32) - taps / 2
        prototype = torch.hann_window(taps + 1, periodic=False) * torch.sinc(time / n_bands) / n_bands
        phases = (2 * torch.arange(n_bands)[:, None] + 1) * math.pi / (2 * n_bands)
        signs = (-1.0) ** torch.arange(n_bands)[:, None] * math.pi / 4
        self.register_buffer("bank", (2 * prototype * torch.cos(phases * time - signs))[None])
        self.register_buffer("spread", n_bands * torch.eye(n_bands)[:, :, None] * (torch.arange(n_bands) == 0))

    def forward(self, frames: Tensor) -> Tensor:
        """Decode the bands, put zeros between their samples, and filter them."""
        bands = F.conv_transpose1d(self.body(frames), self.spread, stride=self.n_bands)
        return F.conv1d(F.pad(bands, (31, 31)), self.bank)


def _mel(n_frames: int) -> Mapping[str, Tensor]:
    return {"frames": torch.randn(1, 5, n_frames)}


OWN = (
    Family(
        "SNAC",
        "codes at three rates, depthwise convolutions, noise",
        Snac,
        snac_codes,
        {"codes_1": 1, "codes_2": 1, "codes_4": 1},
    ),
    Family(
        "XTTS",
        "linear interpolation, a speaker's embedding",
        Xtts,
        lambda n: {"frames": torch.randn(1, 6, n), "speaker_embedding": torch.randn(1, 4, 1)},
    ),
    Family("multi-band MelGAN", "reflection, a bank of filters", MultiBandMelGan, _mel),
)
