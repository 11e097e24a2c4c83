"""Log mel spectrograms of recordings, as a vocoder was trained on them: with NumPy alone.

Trained vocoders differ in every number of theirs, so all of them stand in `MelInfo`, which a vocoder's
manifest holds. Windows are Hann's, periodic; the triangles follow either of two scales:

- ``slaney``: Slaney, "Auditory Toolbox", 1998; linear below 1 kHz (3 mels for 200 Hz), logarithmic above
  (27 mels for a factor of 6.4), as in librosa
- ``htk``: ``2595 log10(1 + f / 700)``, as in torchaudio
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from balacoon_tk._typing import FloatArray
from balacoon_tk.errors import ParameterError
from balacoon_tk.voice.json_fields import JsonFields

MelScale = Literal["slaney", "htk"]
MelLog = Literal["ln", "log10"]
MelPadding = Literal["same", "center"]

_MOST_N_FFT, _MOST_MELS = 2**16, 2**12  # the matrix of triangles has as many numbers as their product / 2
_BLOCK_FRAMES = 2048  # transformed at once: memory stays the same for an hour and for a second


@dataclass(frozen=True, slots=True)
class MelInfo:
    """How the mel spectrogram was made that a vocoder learnt to turn back into sound."""

    n_fft: int
    win_length: int
    """Samples of the window, which stands in the middle of the `n_fft` samples of a frame."""
    hop_length: int
    """Samples from frame to frame."""
    n_mels: int
    f_min: float
    """Hz; where the lowest triangle begins."""
    f_max: float
    """Hz; where the highest triangle ends."""
    scale: MelScale = "slaney"
    unit_area: bool = True
    """Whether triangles have area 1 over frequency, as in librosa, or height 1."""
    power: float = 1.0
    """Exponent of the magnitudes before they are summed: 1 or 2."""
    log: MelLog = "ln"
    floor: float = 1e-5
    """What is below it is raised to it before the logarithm."""
    padding: MelPadding = "same"
    """``same``: ``(n_fft - hop_length) / 2`` samples are mirrored at each end, so that
    ``n_frames = n_samples // hop_length``; ``center``: ``n_fft / 2``, and one frame more."""

    @classmethod
    def read(cls, mel: JsonFields) -> Self:
        """Read a record of voice.json; a `VoiceError` names the field that is wrong."""
        n_fft, f_min = mel.integer("n_fft", minimum=2, maximum=_MOST_N_FFT), mel.number("f_min")
        found = cls(
            n_fft=n_fft,
            win_length=mel.integer("win_length", minimum=1),
            hop_length=mel.integer("hop_length", minimum=1),
            n_mels=mel.integer("n_mels", minimum=1, maximum=_MOST_MELS),
            f_min=f_min,
            f_max=mel.positive("f_max"),
            scale=cast(MelScale, mel.choice("scale", get_args(MelScale))),
            unit_area=mel.flag("unit_area"),
            power=mel.positive("power"),
            log=cast(MelLog, mel.choice("log", get_args(MelLog))),
            floor=mel.positive("floor"),
            padding=cast(MelPadding, mel.choice("padding", get_args(MelPadding))),
        )
        # A hop above n_fft would leave samples that no frame sees.
        for name, length in (("win_length", found.win_length), ("hop_length", found.hop_length)):
            if length > n_fft:
                raise mel.error(name, f"must be <= n_fft={n_fft}")
        if found.f_max <= f_min:
            raise mel.error("f_max", f"must be > f_min={f_min:g}")
        return found


def mel_spectrogram(samples: FloatArray, mel: MelInfo, *, sample_rate: int) -> FloatArray:
    """Return the log mel spectrogram of a recording.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,), float32
        In [-1, 1].
    mel : MelInfo
    sample_rate : int
        Hz

    Returns
    -------
    ndarray of shape (n_mels, n_frames), float32

    Raises
    ------
    ParameterError
        If the recording is not 1-D, holds NaN or infinity, or is shorter than what is mirrored at its ends.
    """
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise ParameterError(f"samples of shape {samples.shape}, {samples.dtype} must be 1-D floats")
    if not np.isfinite(samples).all():
        raise ParameterError("samples hold NaN or infinity")
    margin = frame_margin(mel.n_fft, mel.hop_length, mel.padding)
    if len(samples) <= margin:
        raise ParameterError(f"{len(samples)} samples must be more than {margin}, half of what a frame sees")
    # float64, as librosa computes; the model gets float32 of the result.
    padded = np.pad(samples.astype(np.float64), margin, mode="reflect")
    # A view: the overlapping frames are copied a block at a time, when they are windowed.
    frames = np.lib.stride_tricks.sliding_window_view(padded, mel.n_fft)[:: mel.hop_length]
    window = centred_hann(mel.win_length, mel.n_fft)
    filters = mel_filters(mel, sample_rate).T
    logarithm = np.log if mel.log == "ln" else np.log10
    out = np.empty((mel.n_mels, len(frames)), np.float32)
    for start in range(0, len(frames), _BLOCK_FRAMES):
        block = slice(start, start + _BLOCK_FRAMES)
        magnitudes = np.abs(np.fft.rfft(frames[block] * window, axis=-1)) ** mel.power
        out[:, block] = logarithm(np.maximum(magnitudes @ filters, mel.floor)).T
    return out


def centred_hann(win_length: int, n_fft: int) -> NDArray[np.float64]:
    """Return a periodic Hann window of `win_length` samples in the middle of `n_fft`."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win_length) / win_length)
    left = (n_fft - win_length) // 2
    return np.pad(hann, (left, n_fft - win_length - left))


def frame_margin(n_fft: int, hop_length: int, padding: MelPadding) -> int:
    """Return how many samples the first frame reaches out before the first sample."""
    return (n_fft - hop_length) // 2 if padding == "same" else n_fft // 2


def mel_filters(mel: MelInfo, sample_rate: int) -> NDArray[np.float64]:
    """Return the triangles (n_mels, n_fft // 2 + 1), equally wide on the mel scale."""
    bins = np.linspace(0, sample_rate / 2, mel.n_fft // 2 + 1)
    limits = to_mels(np.array([mel.f_min, mel.f_max]), mel.scale)
    edges = _to_hz(np.linspace(limits[0], limits[1], mel.n_mels + 2), mel.scale)
    # Each triangle rises from the edge before its own to its own, and falls to the one after.
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return triangles * (2 / (edges[2:] - edges[:-2])[:, None]) if mel.unit_area else triangles


def to_mels(frequency: NDArray[np.float64], scale: MelScale) -> NDArray[np.float64]:
    """Return frequencies in Hz on a scale of mels; see the head of this file."""
    if scale == "htk":
        return 2595 * np.log10(1 + frequency / 700)
    return np.where(
        frequency < 1000,
        3 * frequency / 200,
        15 + 27 * np.log(np.maximum(frequency, 1000) / 1000) / np.log(6.4),
    )


def _to_hz(mels: NDArray[np.float64], scale: MelScale) -> NDArray[np.float64]:
    if scale == "htk":
        return 700 * (10 ** (mels / 2595) - 1)
    return np.where(mels < 15, 200 * mels / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
