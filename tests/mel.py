"""The mel spectrogram that HiFi-GAN for 16 kHz was trained on, and a recording to take it of."""

import importlib.resources
import wave

import numpy as np

SAMPLE_RATE = 16000  # Hz
N_FFT = 640
HOP_LENGTH = 160
N_MELS = 80
_MAX_FREQUENCY = 8000.0
_FLOOR = 1e-5


def recorded_speech():
    """About two seconds, float32: a recorded phrase as it is, and once more three times as loud."""
    path = importlib.resources.files("amfm_decompy") / "sample.wav"
    with path.open("rb") as file, wave.open(file) as sound:
        assert sound.getframerate() == SAMPLE_RATE
        phrase = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(np.float32)
    return np.concatenate([phrase, 3 * phrase]) / 32768


def mel_spectrogram(samples):
    """Return log mels (1, n_mels, n_frames), ``n_frames = n_samples // hop_length``."""
    margin = (N_FFT - HOP_LENGTH) // 2
    padded = np.pad(samples.astype(np.float64), margin, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP_LENGTH]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    magnitudes = np.abs(np.fft.rfft(windows * hann, axis=-1))
    mels = np.log(np.maximum(magnitudes @ mel_filters().T, _FLOOR))
    return np.ascontiguousarray(mels.T[None], dtype=np.float32)


def mel_filters():
    """Return Slaney's triangles (n_mels, n_fft // 2 + 1), each of area 1 over frequency."""
    bins = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    edges = _mel_to_hz(np.linspace(0, _hz_to_mel(_MAX_FREQUENCY), N_MELS + 2))
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])[:, None]


# Slaney, Auditory Toolbox (1998): linear below 1 kHz (3 mels for 200 Hz), logarithmic above (27 for 6.4x).
def _hz_to_mel(frequency):
    if frequency < 1000:
        return 3 * frequency / 200
    return 15 + 27 * np.log(frequency / 1000) / np.log(6.4)


def _mel_to_hz(mels):
    return np.where(mels < 15, 200 * mels / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
