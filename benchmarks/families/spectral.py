"""Decoders of torch that end in an inverse Fourier transform, or read a transform, with random weights.

Each is written as its authors publish it, complex numbers and all, only smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from families.family import Family, frames

N_MELS, N_FFT, HOP_LENGTH = 5, 16, 4
N_BINS = N_FFT // 2 + 1


class ConvNextBlock(nn.Module):
    """Liu et al. 2022, over time: a depthwise convolution, a norm over channels, two products, a residual."""

    def __init__(self, n_channels: int):
        super().__init__()
        self.dwconv = nn.Conv1d(n_channels, n_channels, 7, padding=3, groups=n_channels)
        self.norm = nn.LayerNorm(n_channels, eps=1e-6)
        self.pwconv1 = nn.Linear(n_channels, 3 * n_channels)
        self.pwconv2 = nn.Linear(3 * n_channels, n_channels)
        self.gamma = nn.Parameter(torch.full((n_channels,), 0.5))

    def forward(self, x):
        y = self.norm(self.dwconv(x).transpose(1, 2))
        y = self.gamma * self.pwconv2(functional.gelu(self.pwconv1(y)))
        return x + y.transpose(1, 2)


class VocosIstft(nn.Module):
    """The two paddings of Vocos (Siuzdak 2023): torch's own transform, and one whose frames fold adds up.

    With a third, as vocoders have it that are to give as many samples as their mel is of.
    """

    def __init__(self, n_fft: int, hop_length: int, win_length: int, padding: str):
        super().__init__()
        self.n_fft, self.hop_length, self.win_length, self.padding = n_fft, hop_length, win_length, padding
        self.register_buffer("window", torch.hann_window(win_length))

    def forward(self, spec):
        if self.padding == "center":
            return torch.istft(spec, self.n_fft, self.hop_length, self.win_length, self.window, center=True)
        if self.padding == "to a length":
            length = spec.shape[-1] * self.hop_length
            return torch.istft(spec, self.n_fft, self.hop_length, window=self.window, length=length)
        pad = (self.win_length - self.hop_length) // 2
        assert spec.dim() == 3, "Expected a 3D tensor as input"
        _, _, n_frames = spec.shape
        ifft = torch.fft.irfft(spec, self.n_fft, dim=1, norm="backward")
        ifft = ifft * self.window[None, :, None]
        output_size = (n_frames - 1) * self.hop_length + self.win_length
        sizes = {"kernel_size": (1, self.win_length), "stride": (1, self.hop_length)}
        y = functional.fold(ifft, output_size=(1, output_size), **sizes)[:, 0, 0, pad:-pad]
        window_sq = self.window.square().expand(1, n_frames, -1).transpose(1, 2)
        envelope = functional.fold(window_sq, output_size=(1, output_size), **sizes).squeeze()[pad:-pad]
        assert (envelope > 1e-11).all()
        return y / envelope


class Vocos(nn.Module):
    """Siuzdak 2023; `phase` says how the head makes its complex numbers."""

    def __init__(
        self,
        padding: str,
        *,
        phase: str = "sum",
        n_mels: int = N_MELS,
        n_fft: int = N_FFT,
        n_channels: int = 6,
        n_blocks: int = 2,
    ):
        super().__init__()
        self.phase = phase
        self.embed = nn.Conv1d(n_mels, n_channels, 7, padding=3)
        self.norm = nn.LayerNorm(n_channels, eps=1e-6)
        self.convnext = nn.ModuleList(ConvNextBlock(n_channels) for _ in range(n_blocks))
        self.final_layer_norm = nn.LayerNorm(n_channels, eps=1e-6)
        self.out = nn.Linear(n_channels, n_fft + 2)
        self.istft = VocosIstft(n_fft, n_fft // 4, n_fft, padding)

    def forward(self, mel):
        x = self.norm(self.embed(mel).transpose(1, 2)).transpose(1, 2)
        for block in self.convnext:
            x = block(x)
        x = self.out(self.final_layer_norm(x.transpose(1, 2))).transpose(1, 2)
        mag, p = x.chunk(2, dim=1)
        mag = torch.clip(torch.exp(mag), max=1e2)
        if self.phase == "sum":
            spectrum = mag * (torch.cos(p) + 1j * torch.sin(p))
        elif self.phase == "exp":
            spectrum = mag * torch.exp(1j * p)
        elif self.phase == "polar":
            spectrum = torch.polar(mag, p)
        else:
            spectrum = torch.view_as_complex(torch.stack([mag * torch.cos(p), mag * torch.sin(p)], -1))
        return self.istft(spectrum)


class ResBlock(nn.Module):
    def __init__(self, n_channels: int, dilation: int):
        super().__init__()
        self.conv = nn.Conv1d(n_channels, n_channels, 3, padding=dilation, dilation=dilation)
        self.alpha = nn.Parameter(torch.ones(1, n_channels, 1))

    def forward(self, x):
        return x + self.conv(x + torch.sin(x * self.alpha) ** 2 / (self.alpha + 1e-9))


class HiFTNet(nn.Module):
    """iSTFTNet (Kaneko et al. 2022), and with a source HiFTNet (Li et al. 2023), as in CosyVoice.

    The source is a signal at the samples' rate; its spectrum is added to the last layers' channels.
    """

    def __init__(
        self,
        *,
        with_source: bool,
        n_mels: int = N_MELS,
        n_channels: int = 4,
        n_fft: int = N_FFT,
        hop_length: int = HOP_LENGTH,
    ):
        super().__init__()
        self.n_fft, self.hop_length, self.with_source = n_fft, hop_length, with_source
        self.register_buffer("stft_window", torch.hann_window(n_fft), persistent=False)
        n = n_channels
        self.conv_pre = nn.Conv1d(n_mels, n + n // 2, 7, padding=3)
        self.up = nn.ConvTranspose1d(n + n // 2, n, 8, stride=4, padding=2)
        self.source_down = nn.Conv1d(n_fft + 2, n, 1)
        self.blocks = nn.ModuleList(ResBlock(n, dilation) for dilation in (1, 3))
        self.reflection_pad = nn.ReflectionPad1d((1, 0))
        self.conv_post = nn.Conv1d(n, n_fft + 2, 7, padding=3)

    def _stft(self, x):
        spec = torch.stft(
            x, self.n_fft, self.hop_length, self.n_fft, window=self.stft_window, return_complex=True
        )
        spec = torch.view_as_real(spec)
        return spec[..., 0], spec[..., 1]

    def _istft(self, magnitude, phase):
        magnitude = torch.clip(magnitude, max=1e2)
        real, img = magnitude * torch.cos(phase), magnitude * torch.sin(phase)
        return torch.istft(
            torch.complex(real, img), self.n_fft, self.hop_length, self.n_fft, window=self.stft_window
        )

    def forward(self, mel, source=None):
        x = functional.leaky_relu(self.conv_pre(mel), 0.1)
        x = self.reflection_pad(self.up(x))
        if self.with_source:
            x = x + self.source_down(torch.cat(self._stft(source.squeeze(1)), dim=1))
        for block in self.blocks:
            x = block(x)
        x = self.conv_post(functional.leaky_relu(x))
        magnitude = torch.exp(x[:, : self.n_fft // 2 + 1, :])
        phase = torch.sin(x[:, self.n_fft // 2 + 1 :, :])
        return self._istft(magnitude, phase)


class HarmonicHiFTNet(nn.Module):
    """HiFTNet with its neural source filter (Wang et al. 2019): harmonics of a pitch that is predicted."""

    def __init__(self, n_harmonics: int = 3, *, n_mels: int = N_MELS, n_channels: int = 4):
        super().__init__()
        self.decoder = HiFTNet(with_source=True, n_mels=n_mels, n_channels=n_channels)
        self.f0_predictor = nn.Conv1d(n_mels, 1, 3, padding=1)
        self.f0_upsamp = nn.Upsample(scale_factor=16)
        self.register_buffer("harmonics", torch.arange(1.0, n_harmonics + 1)[None, :, None])
        self.l_linear = nn.Linear(n_harmonics, 1)

    def forward(self, mel):
        f0 = self.f0_upsamp(torch.abs(self.f0_predictor(mel)))
        turns = torch.cumsum(f0 * self.harmonics / 50, dim=-1)
        sines = 0.1 * torch.sin(2 * torch.pi * turns)
        source = torch.tanh(self.l_linear(sines.transpose(1, 2))).transpose(1, 2)
        return self.decoder(mel, source)


class MultiBandIstft(nn.Module):
    """The end of MB-iSTFT-VITS (Kawamura et al. 2023): a transform for each band, then a filter bank."""

    def __init__(self, n_bands: int = 4, n_taps: int = 14):
        super().__init__()
        self.n_bands = n_bands
        self.subband_conv_post = nn.Conv1d(N_MELS, n_bands * 2 * N_BINS, 7, padding=3)
        self.register_buffer("window", torch.hann_window(N_FFT))
        self.register_buffer("synthesis_filter", torch.randn(1, n_bands, n_taps + 1))
        self.register_buffer("updown_filter", torch.eye(n_bands).unsqueeze(-1))
        self.pad = nn.ConstantPad1d(n_taps // 2, 0.0)

    def forward(self, mel):
        x = self.subband_conv_post(mel)
        x = torch.reshape(x, (x.shape[0], self.n_bands, x.shape[1] // self.n_bands, x.shape[-1]))
        magnitude, phase = torch.exp(x[:, :, :N_BINS]), torch.pi * torch.sin(x[:, :, N_BINS:])
        shape = (magnitude.shape[0] * self.n_bands, N_BINS, magnitude.shape[-1])
        magnitude, phase = torch.reshape(magnitude, shape), torch.reshape(phase, shape)
        bands = torch.istft(magnitude * torch.exp(phase * 1j), N_FFT, HOP_LENGTH, N_FFT, window=self.window)
        bands = torch.reshape(bands.unsqueeze(-2), (mel.shape[0], self.n_bands, 1, bands.shape[-1])).squeeze(
            -2
        )
        up = functional.conv_transpose1d(bands, self.updown_filter * self.n_bands, stride=self.n_bands)
        return functional.conv1d(self.pad(up), self.synthesis_filter)[:, 0]


def head(name: str, what: str, padding: str, sizes: Mapping[str, int]) -> Family:
    """Return a family of heads of spectra behind ConvNeXt blocks, of those sizes where they are published."""

    def build(full: bool) -> nn.Module:
        return Vocos(padding, **(sizes if full else {}))

    return Family(name, what, build, partial(frames, n_channels=sizes["n_mels"], tiny=N_MELS))


def hiftnet(full: bool) -> nn.Module:
    """Return one with its harmonic source, as large as published or tiny."""
    return HarmonicHiFTNet(9, n_mels=80, n_channels=256) if full else HarmonicHiFTNet()


_MEL = {"n_fft": 1024, "n_mels": 100, "n_channels": 512, "n_blocks": 8}
_CODES = {"n_fft": 1280, "n_mels": 128, "n_channels": 384, "n_blocks": 8}
_TOKENS = {"n_fft": 1280, "n_mels": 512, "n_channels": 768, "n_blocks": 12}

SPECTRAL = (
    head("Vocos (mel)", "ConvNeXt, torch.istft", "center", _MEL),
    head("Vocos (EnCodec)", "ConvNeXt, spectra added up by fold", "same", _CODES),
    head("WavTokenizer's head", "ConvNeXt, spectra added up by fold", "same", _TOKENS),
    Family(
        "HiFTNet",
        "harmonics of a pitch, their spectra, torch.istft",
        hiftnet,
        partial(frames, n_channels=80, tiny=N_MELS),
    ),
)
