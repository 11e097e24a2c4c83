"""Mel spectrograms are librosa's, in every way that a vocoder may have been trained on them."""

from dataclasses import replace

import numpy as np
import pytest

from balacoon_tk.errors import ParameterError
from balacoon_tk.stages import mel as mel_module
from balacoon_tk.stages.mel import MelInfo, mel_spectrogram

MEL = MelInfo(n_fft=512, win_length=512, hop_length=128, n_mels=40, f_min=50.0, f_max=7600.0)
SAMPLES = np.random.default_rng(0).uniform(-0.5, 0.5, 6000).astype(np.float32)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"win_length": 400},
        {"scale": "htk", "unit_area": False, "power": 2.0, "log": "log10", "floor": 1e-10},
        {"f_min": 0.0, "f_max": 8000.0, "power": 2.0},
    ],
)
def test_a_centred_mel_spectrogram_is_librosa_s(changes):
    librosa = pytest.importorskip("librosa", reason='needs pip install "balacoon_tk[eval]"')
    mel = replace(MEL, padding="center", **changes)
    power = librosa.feature.melspectrogram(
        y=SAMPLES,
        sr=16000,
        n_fft=mel.n_fft,
        hop_length=mel.hop_length,
        win_length=mel.win_length,
        power=mel.power,
        n_mels=mel.n_mels,
        fmin=mel.f_min,
        fmax=mel.f_max,
        htk=mel.scale == "htk",
        norm="slaney" if mel.unit_area else None,
        pad_mode="reflect",
    )
    logarithm = np.log if mel.log == "ln" else np.log10
    expected = logarithm(np.maximum(power, mel.floor))
    found = mel_spectrogram(SAMPLES, mel, sample_rate=16000)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_samples", [193, 255, 256, 257, 1280, 1283])
def test_same_padding_gives_a_frame_for_each_hop(n_samples):
    assert mel_spectrogram(SAMPLES[:n_samples], MEL, sample_rate=16000).shape == (40, n_samples // 128)


def test_same_padding_moves_the_frames_of_a_centred_one_by_half_a_hop():
    same = mel_spectrogram(SAMPLES, MEL, sample_rate=16000)
    centred = mel_spectrogram(SAMPLES[64:], replace(MEL, padding="center"), sample_rate=16000)
    np.testing.assert_allclose(same[:, 2:40], centred[:, 2:40], rtol=0, atol=1e-5)


def test_blocks_leave_no_trace(monkeypatch):
    whole = mel_spectrogram(SAMPLES, MEL, sample_rate=16000)
    monkeypatch.setattr(mel_module, "_BLOCK_FRAMES", 7)
    np.testing.assert_allclose(mel_spectrogram(SAMPLES, MEL, sample_rate=16000), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (SAMPLES[:192], "192 samples must be more than 192"),
        (SAMPLES[:0], "0 samples must be more than 192"),
        (SAMPLES.reshape(2, -1), r"shape \(2, 3000\), float32 must be 1-D floats"),
        ((SAMPLES * 32767).astype(np.int16), "int16 must be 1-D floats"),
        (np.full(500, np.nan, np.float32), "NaN"),
    ],
)
def test_a_recording_that_can_not_be_read_is_refused(samples, message):
    with pytest.raises(ParameterError, match=message):
        mel_spectrogram(samples, MEL, sample_rate=16000)
