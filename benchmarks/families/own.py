"""Decoders that no package of ours has, built as their papers and public code describe them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from families.family import Family

N_CODES = 16

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

    def __init__(self, n_channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        n = n_channels
        self.strides = (4, 2, 1)
        self.codebooks = nn.ModuleList(nn.Embedding(N_CODES, 8) for _ in self.strides)
        self.projections = nn.ModuleList(nn.Conv1d(8, n, 1) for _ in self.strides)
        parts: list[nn.Module] = [nn.Conv1d(n, n, 7, padding=3, groups=n), nn.Conv1d(n, n, 1)]
        for stride in strides:
            up = nn.ConvTranspose1d(
                n, n // 2, 2 * stride, stride, padding=math.ceil(stride / 2), output_padding=stride % 2
            )
            n //= 2
            parts += [Snake(2 * n), up, NoiseBlock(n), *(ResidualUnit(n, d, n) for d in (1, 3, 9))]
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


def snac(full: bool) -> nn.Module:
    """Return one, as large as that of 24 kHz or tiny."""
    return Snac(1024, (8, 8, 4, 2)) if full else Snac(16, (4, 2))


def snac_codes(n_frames: int, full: bool) -> Mapping[str, Tensor]:
    """Return codes (1, k * n_frames) for k = 1, 2, 4."""
    return {f"codes_{k}": torch.randint(0, N_CODES, (1, k * n_frames)) for k in (1, 2, 4)}


# --- XTTS (Casanova et al. 2024): latents stretched by interpolation, then HiFi-GAN with a speaker -------


class Xtts(nn.Module):
    """Latents of a language model to samples."""

    def __init__(self, n_latents: int, n_channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        n = n_channels
        self.pre = nn.Conv1d(n_latents, n, 7, padding=3)
        self.speaker = nn.Conv1d(4, n, 1)
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        for stride in strides:
            self.ups.append(nn.ConvTranspose1d(n, n // 2, 2 * stride, stride, stride // 2))
            n //= 2
            kernels = ((k, d) for k in (3, 7, 11) for d in (1, 3, 5))
            layers = (nn.Conv1d(n, n, k, dilation=d, padding=d * (k - 1) // 2) for k, d in kernels)
            self.blocks.append(nn.ModuleList(layers))
        self.post = nn.Conv1d(n, 1, 7, padding=3)

    def forward(self, frames: Tensor, speaker_embedding: Tensor) -> Tensor:
        """Stretch twice, then decode."""
        x = functional.interpolate(frames, scale_factor=[4.0], mode="linear")
        x = functional.interpolate(x, scale_factor=[1.5], mode="linear")
        x = self.pre(x) + self.speaker(speaker_embedding)
        for up, block in zip(self.ups, self.blocks, strict=True):
            x = up(functional.leaky_relu(x, 0.1))
            for layer in block:
                x = x + layer(functional.leaky_relu(x, 0.1))
        return torch.tanh(self.post(functional.leaky_relu(x)))


def xtts(full: bool) -> nn.Module:
    """Return one, as large as published or tiny."""
    return Xtts(1024, 512, (8, 8, 2, 2)) if full else Xtts(6, 16, (4, 2))


def xtts_latents(n_frames: int, full: bool) -> Mapping[str, Tensor]:
    """Return latents, and the speaker's embedding."""
    frames = torch.randn(1, 1024 if full else 6, n_frames)
    return {"frames": frames, "speaker_embedding": torch.randn(1, 4, 1)}


# --- multi-band MelGAN (Yang et al. 2021): bands, joined by a bank of filters ----------------------------


class Stack(nn.Module):
    """MelGAN's residual stack, which reflects the ends of its input."""

    def __init__(self, n_channels: int, dilation: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.LeakyReLU(0.2),
            nn.ReflectionPad1d(dilation),
            nn.Conv1d(n_channels, n_channels, 3, dilation=dilation),
            nn.LeakyReLU(0.2),
            nn.Conv1d(n_channels, n_channels, 1),
        )
        self.shortcut = nn.Conv1d(n_channels, n_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return self.shortcut(x) + self.block(x)


class MultiBandMelGan(nn.Module):
    """A mel spectrogram to four bands, and these to samples by a pseudo quadrature mirror filter bank."""

    def __init__(
        self, n_mels: int, n_channels: int, strides: Sequence[int], *, n_bands: int = 4, taps: int = 62
    ) -> None:
        super().__init__()
        self.n_bands, n = n_bands, n_channels
        parts: list[nn.Module] = [nn.ReflectionPad1d(3), nn.Conv1d(n_mels, n, 7)]
        for stride in strides:
            up = nn.ConvTranspose1d(n, n // 2, 2 * stride, stride, stride // 2)
            n //= 2
            parts += [nn.LeakyReLU(0.2), up, *(Stack(n, dilation) for dilation in (1, 3, 9, 27))]
        end = (nn.LeakyReLU(0.2), nn.ReflectionPad1d(3), nn.Conv1d(n, n_bands, 7), nn.Tanh())
        self.body = nn.Sequential(*parts, *end)
        time = torch.arange(taps + 1, dtype=torch.float32) - taps / 2
        prototype = torch.hann_window(taps + 1, periodic=False) * torch.sinc(time / n_bands) / n_bands
        phases = (2 * torch.arange(n_bands)[:, None] + 1) * math.pi / (2 * n_bands)
        signs = (-1.0) ** torch.arange(n_bands)[:, None] * math.pi / 4
        self.register_buffer("bank", (2 * prototype * torch.cos(phases * time - signs))[None])
        self.register_buffer(
            "spread", n_bands * torch.eye(n_bands)[:, :, None] * (torch.arange(n_bands) == 0)
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Decode the bands, put zeros between their samples, and filter them."""
        bands = functional.conv_transpose1d(self.body(frames), self.spread, stride=self.n_bands)
        return functional.conv1d(functional.pad(bands, (31, 31)), self.bank)


def multi_band_melgan(full: bool) -> nn.Module:
    """Return one, as large as published or tiny."""
    return MultiBandMelGan(80, 384, (8, 4, 2)) if full else MultiBandMelGan(5, 16, (4, 2))


def mel(n_frames: int, full: bool) -> Mapping[str, Tensor]:
    """Return a mel spectrogram."""
    return {"frames": torch.randn(1, 80 if full else 5, n_frames)}


OWN = (
    Family(
        "SNAC",
        "codes at three rates, depthwise convolutions, noise",
        snac,
        snac_codes,
        {"codes_1": 1, "codes_2": 1, "codes_4": 1},
    ),
    Family("XTTS", "linear interpolation, a speaker's embedding", xtts, xtts_latents),
    Family("multi-band MelGAN", "reflection, a bank of filters", multi_band_melgan, mel),
)
