"""Cepstra, pitch, PESQ and STOI, on signals with a known answer and in a known order."""

import numpy as np
import pytest

from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics import mel_cepstral_distortion_db, pesq, pitch_errors, stoi
from balacoon_tk.metrics.speech import _N_MELS, _mel_power
from mel import SAMPLE_RATE, recorded_speech

SPEECH = recorded_speech().astype(np.float64)
NOISE = np.random.default_rng(0).normal(size=SPEECH.size)
WHITE = 0.1 * np.random.default_rng(1).normal(size=SAMPLE_RATE // 2)


def noisy(snr_db: float) -> np.ndarray:
    return SPEECH + NOISE * np.sqrt(np.sum(SPEECH**2) / np.sum(NOISE**2)) * 10 ** (-snr_db / 20)


def hum(frequency: float, n_samples: int = SAMPLE_RATE // 2) -> np.ndarray:
    """Return a tone with harmonics that fall off, as a voice's do."""
    phase = 2 * np.pi * frequency * np.arange(n_samples) / SAMPLE_RATE
    return sum(0.3 / k * np.sin(k * phase) for k in range(1, 9))


def test_equal_speech_has_no_distortion_and_a_gain_is_none() -> None:
    assert mel_cepstral_distortion_db(SPEECH, SPEECH, sample_rate=SAMPLE_RATE) == 0.0
    assert mel_cepstral_distortion_db(2 * WHITE, WHITE, sample_rate=SAMPLE_RATE) == pytest.approx(0, abs=1e-9)


def test_with_all_cepstra_the_distortion_is_the_rms_difference_of_the_mel_spectra() -> None:
    tilted = np.convolve(WHITE, [1.0, -0.7])[: WHITE.size]
    decibels = [10 * np.log10(_mel_power(y, SAMPLE_RATE, 0.005)) for y in (tilted, WHITE)]
    difference = decibels[0] - decibels[1]
    difference -= difference.mean(axis=0)  # the loudness isn't counted
    expected = np.sqrt((difference**2).mean(axis=0)).mean()
    found = mel_cepstral_distortion_db(tilted, WHITE, sample_rate=SAMPLE_RATE, n_cepstra=_N_MELS - 1)
    assert found == pytest.approx(expected, rel=1e-3)


def test_frames_of_another_length_are_matched() -> None:
    """Cepstra of a held tone are those of a longer one, and a pause before speech is no distortion of it."""
    assert mel_cepstral_distortion_db(hum(150), hum(150, 12000), sample_rate=SAMPLE_RATE) < 0.5
    held = np.concatenate([np.zeros(1600), SPEECH])
    shifted = np.concatenate([np.zeros(1600), SPEECH[:-1600]])
    warped = mel_cepstral_distortion_db(held, SPEECH, sample_rate=SAMPLE_RATE)
    assert warped < 0.25 * mel_cepstral_distortion_db(shifted, SPEECH, sample_rate=SAMPLE_RATE)


def test_distortion_grows_with_noise() -> None:
    values = [mel_cepstral_distortion_db(noisy(snr), SPEECH, sample_rate=SAMPLE_RATE) for snr in (30, 15, 0)]
    assert values == sorted(values)
    assert values[0] > 0.5


@pytest.mark.parametrize("n_cepstra", [0, 80])
def test_a_number_of_cepstra_that_there_are_not_is_refused(n_cepstra: int) -> None:
    with pytest.raises(ParameterError, match=rf"n_cepstra={n_cepstra} must be in \[1, 79\]"):
        mel_cepstral_distortion_db(WHITE, WHITE, sample_rate=SAMPLE_RATE, n_cepstra=n_cepstra)


def test_the_error_of_a_pitch_that_is_ten_percent_higher_is_ten_percent() -> None:
    errors = pitch_errors(hum(165), hum(150), sample_rate=SAMPLE_RATE)
    assert errors.rmse_hz == pytest.approx(15, rel=0.1)
    assert errors.rmse_cents == pytest.approx(1200 * np.log2(1.1), rel=0.1)
    assert errors.voicing_error < 0.1


def test_voicing_that_is_lost_in_one_half_is_half_an_error() -> None:
    half = hum(150)
    half[: half.size // 2] = 0.01 * WHITE[: half.size // 2]
    errors = pitch_errors(half, hum(150), sample_rate=SAMPLE_RATE)
    assert errors.voicing_error == pytest.approx(0.5, abs=0.12)
    assert errors.rmse_hz < 2.0


def test_pitch_of_another_length_is_matched_and_of_silence_not_a_number() -> None:
    longer = pitch_errors(hum(150, 10000), hum(150), sample_rate=SAMPLE_RATE)
    assert longer.rmse_hz < 2.0
    silent = pitch_errors(np.zeros(4000), np.zeros(4000), sample_rate=SAMPLE_RATE)
    assert np.isnan(silent.rmse_hz)
    assert silent.voicing_error == 0.0
    with pytest.raises(ParameterError, match="sample_rate=1000 must be >= 2000"):
        pitch_errors(WHITE, WHITE, sample_rate=1000)


def test_pesq_of_equal_speech_is_the_best_there_is_and_noise_lowers_it() -> None:
    values = [pesq(x, SPEECH, sample_rate=SAMPLE_RATE) for x in (SPEECH, noisy(30), noisy(10))]
    assert values[0] == pytest.approx(4.64, abs=0.01)
    assert values == sorted(values, reverse=True)
    assert values[1] > values[2] + 0.2


def test_stoi_of_equal_speech_is_one_and_noise_lowers_it() -> None:
    values = [stoi(x, SPEECH, sample_rate=SAMPLE_RATE) for x in (SPEECH, noisy(10), noisy(-10))]
    assert values[0] == pytest.approx(1.0)
    assert values == sorted(values, reverse=True)
    assert values[1] > values[2] + 0.1


@pytest.mark.parametrize("metric", [pesq, stoi], ids=lambda metric: metric.__name__)
def test_what_can_not_be_judged_is_refused(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(ParameterError, match=r"samples last 0.10 s, and .* needs 0\.\d+ s"):
        metric(WHITE[:1600], WHITE[:1600], sample_rate=SAMPLE_RATE)
    with pytest.raises(ParameterError, match="must not be silent throughout"):
        metric(np.zeros(16000), np.zeros(16000), sample_rate=SAMPLE_RATE)
    with pytest.raises(ParameterError, match="must be as long as the reference"):
        metric(WHITE, WHITE[:-1], sample_rate=SAMPLE_RATE)
