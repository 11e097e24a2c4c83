"""Fourier transforms of torch in real arithmetic, so that a module that uses them can be exported.

Within `RealTransforms` the transforms are constant matrices, the short-time ones convolutions, and complex
numbers are pairs of real tensors (`balacoon_tk.export.sources.complex_pairs`). So what comes out of an export
is a plain graph of real operators, which also streams: frames are added up by a transposed convolution over
windowed waves, and the sum of windows that they are divided by is another one over as many ones. Both ends
are right at any length, which no constant of fixed length would be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.complex_pairs import ComplexPair, as_pair, compute, is_complex, name_of
from balacoon_tk.export.sources.istft import inverse_waves

_MAKES_COMPLEX = frozenset({"complex", "polar", "view_as_complex"})


class RealTransforms(TorchFunctionMode):  # type: ignore[misc]  # torch is not read by mypy
    """A context in which torch transforms, and computes with complex numbers, in real tensors.

    A module's results are the same within rounding. What has no real form here raises a ModelError that
    names torch's function: transforms of several axes, of complex signals, and two-sided ones.

    Examples
    --------
    >>> import torch
    >>> with RealTransforms():
    ...     spectrum = torch.polar(torch.ones(1, 3, 5), torch.zeros(1, 3, 5))
    ...     samples = torch.istft(spectrum, 4, 1, window=torch.ones(4))
    >>> samples.shape, samples.dtype
    (torch.Size([1, 4]), torch.float32)
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, or what stands in for it."""
        given, name = kwargs or {}, name_of(func)
        if name in _TRANSFORMS:
            return _TRANSFORMS[name](*args, **given)
        to_complex = any(isinstance(a, torch.dtype) and a.is_complex for a in (*args, *given.values()))
        if name in _MAKES_COMPLEX or to_complex or is_complex([*args, *given.values()]):
            return compute(func, args, given)
        return func(*args, **given)


def istft(
    input: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """Return the samples of a spectrum (..., n_bins, n_frames): ``torch.istft``."""
    spectrum = as_pair(input)
    n_bins = n_fft // 2 + 1
    if onesided is False or return_complex or spectrum.shape[-2] != n_bins:
        raise ModelError(
            f"torch.istft of {int(spectrum.shape[-2])} bins can't be exported: must be onesided, "
            f"{n_bins} bins for n_fft={n_fft}, and give real samples"
        )
    real, imag = (part if spectrum.ndim == 3 else part[None] for part in (spectrum.real, spectrum.imag))
    hop_length = n_fft // 4 if hop_length is None else hop_length
    shape = _window(window, win_length, n_fft)
    waves = torch.from_numpy(inverse_waves(n_fft) * (math.sqrt(n_fft) if normalized else 1.0))[:, None]
    left = n_fft // 2 if center else 0
    crop = left if length is None else 0

    def overlap_add(frames: Tensor, kernels: Tensor) -> Tensor:
        weight = _values(kernels.to(frames.dtype))
        return functional.conv_transpose1d(frames, weight, stride=hop_length, padding=crop)

    windows = overlap_add(torch.ones_like(real[:, :1]), (shape * shape)[None, None])
    samples = (overlap_add(torch.cat([real, imag], 1), waves * shape) / windows)[:, 0]
    if length is not None:
        samples = samples[:, left : left + length]
        missing = _count(length) - _count(samples.shape[-1])
        samples = functional.pad(samples, (0, missing)) if missing > 0 else samples
    return samples if spectrum.ndim == 3 else samples[0]


def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> ComplexPair | Tensor:
    """Return the spectrum (..., n_bins, n_frames) of a real signal (..., n_samples): ``torch.stft``."""
    if onesided is False or align_to_window or is_complex(input):
        raise ModelError("torch.stft can't be exported: must be onesided, and of a real signal")
    signal = input.reshape(-1, 1, input.shape[-1])
    if center:
        signal = functional.pad(signal, (n_fft // 2, n_fft // 2), pad_mode)
    scale = 1 / math.sqrt(n_fft) if normalized else 1.0
    kernels = torch.from_numpy(_spectra(n_fft) * scale).T[:, None] * _window(window, win_length, n_fft)
    hop_length = n_fft // 4 if hop_length is None else hop_length
    parts = functional.conv1d(signal, _values(kernels.to(input.dtype)), stride=hop_length)
    parts = parts if input.ndim > 1 else parts[0]
    n_bins = n_fft // 2 + 1
    pair = ComplexPair(parts[..., :n_bins, :], parts[..., n_bins:, :])
    return pair if return_complex else torch.view_as_real(pair)


def irfft(
    input: Any, n: int | None = None, dim: int = -1, norm: str | None = None, *, out: None = None
) -> Tensor:
    """Return the signal of one half of its spectrum: ``torch.fft.irfft``."""
    spectrum = as_pair(input)
    n = 2 * (int(spectrum.shape[dim]) - 1) if n is None else int(n)
    n_bins = min(n // 2 + 1, int(spectrum.shape[dim]))
    real, imag = (part.narrow(dim, 0, n_bins) for part in (spectrum.real, spectrum.imag))
    waves = inverse_waves(n) * {"ortho": math.sqrt(n), "forward": n}.get(norm or "backward", 1.0)
    kept = np.concatenate([waves[:n_bins], waves[n // 2 + 1 :][:n_bins]])
    return _multiply_along(dim, torch.cat([real, imag], dim), kept)


def rfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *, out: None = None
) -> ComplexPair:
    """Return one half of the spectrum of a real signal: ``torch.fft.rfft``."""
    n = int(input.shape[dim]) if n is None else int(n)
    n_given = min(n, int(input.shape[dim]))
    waves = _spectra(n)[:n_given] * {"ortho": 1 / math.sqrt(n), "forward": 1 / n}.get(norm or "backward", 1.0)
    parts = _multiply_along(dim, input.narrow(dim, 0, n_given), waves)
    n_bins = n // 2 + 1
    return ComplexPair(parts.narrow(dim, 0, n_bins), parts.narrow(dim, n_bins, n_bins))


def fold(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """Add up overlapping blocks (batch, n_channels * n_kernel, n_blocks): ``torch.nn.functional.fold``."""
    given = (output_size, kernel_size, dilation, padding, stride)
    columns = list(zip(*((n, n) if isinstance(n, int) else n for n in given), strict=True))
    for axis, (size, kernel, _, pad, _) in enumerate(columns):
        # One row of blocks: the other axis is time, and a block of it is a column of an identity matrix.
        if input.ndim == 3 and (_count(size), kernel, pad) == (1, 1, 0):
            length, kernel, dilation, pad, stride = columns[1 - axis]
            full = (_count(input.shape[-1]) - 1) * stride + dilation * (kernel - 1) + 1 - 2 * pad
            n_channels = int(input.shape[1]) // kernel
            weight = torch.from_numpy(np.tile(np.eye(kernel)[:, None], (n_channels, 1, 1))).to(input.dtype)
            more = _count(length) - full
            return functional.conv_transpose1d(
                input, _values(weight), None, stride, pad, more, n_channels, dilation
            ).unsqueeze(2 + axis)
    return functional.fold(input, output_size, kernel_size, dilation, padding, stride)


_TRANSFORMS: dict[str, Callable[..., Any]] = {
    "fft_irfft": irfft,
    "fft_rfft": rfft,
    "fold": fold,
    "istft": istft,
    "stft": stft,
}


def _count(n: Any) -> Any:
    # A tensor while an example is traced. Of the newer exporter's symbols int() makes the example's number.
    return n if isinstance(n, torch.SymInt) else int(n)


def _spectra(n_fft: int) -> NDArray[np.float64]:
    """Return the matrix (n_fft, 2 * n_bins) from samples to real parts, then imaginary ones."""
    spectra = np.fft.rfft(np.eye(n_fft))
    return np.concatenate([spectra.real, spectra.imag], 1)


def _multiply_along(axis: int, x: Tensor, matrix: NDArray[np.float64]) -> Tensor:
    weight = torch.from_numpy(matrix).to(x.dtype)
    if axis % x.ndim == x.ndim - 2:
        return _values(weight.T.contiguous()) @ x
    return (x.movedim(axis, -1) @ _values(weight)).movedim(-1, axis)


def _window(window: Tensor | None, win_length: int | None, n_fft: int) -> Tensor:
    """Return a window in the middle of n_fft samples, as torch puts it there."""
    if window is None:
        window = torch.ones(n_fft if win_length is None else win_length)
    left = (n_fft - len(window)) // 2
    return functional.pad(window.detach().cpu().double(), (left, n_fft - len(window) - left))


def _values(tensor: Tensor) -> Tensor:
    # What was computed of constants alone, as a constant: a trace would hold the arithmetic. The newer
    # exporter has no values to take.
    return tensor if torch.compiler.is_exporting() else torch.from_numpy(tensor.numpy().copy())
