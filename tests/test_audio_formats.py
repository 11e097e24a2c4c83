"""Files of samples that are handed over while they are made."""

import builtins
import io
import wave

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balacoon_tk.audio import pcm_bytes
from balacoon_tk.audio_formats import FORMATS, StreamedFile
from balacoon_tk.errors import MissingExtraError, ParameterError

RATE = 22050
TONE = (0.5 * np.sin(np.arange(2 * RATE) * (2 * np.pi * 440 / RATE))).astype(np.float32)


def made(name, cuts, rate=None):
    file = StreamedFile(name, RATE, rate)
    data = b"".join(file.push(part) for part in np.split(TONE, cuts))
    return data + file.finish()


@settings(max_examples=10, deadline=None)
@given(
    cuts=st.lists(st.integers(0, len(TONE)), max_size=6).map(sorted),
    form=st.sampled_from([("wav", None), ("pcm", None), ("pcm", 24000), ("flac", None), ("mp3", None)]),
)
def test_a_file_is_the_same_however_its_samples_come(cuts, form):
    # Ogg isn't: its pages end where the samples came, and each has a number that is drawn.
    name, rate = form
    assert made(name, cuts, rate) == made(name, [], rate)


def decoded(data):
    with av.open(io.BytesIO(data)) as file:
        frames = list(file.decode(audio=0))
    return np.concatenate([frame.to_ndarray().ravel() for frame in frames]), frames[0].sample_rate


@pytest.mark.parametrize(
    ("name", "rate", "found_rate"),
    [("wav", None, RATE), ("wav", 8000, 8000), ("flac", None, RATE), ("flac", 48000, 48000),
     ("opus", None, 48000), ("mp3", None, RATE), ("mp3", 16000, 16000)],
)  # fmt: skip
def test_a_tone_is_heard_in_each_format_at_its_rate(name, rate, found_rate):
    # Opus is always decoded at 48 kHz, whatever it was made from.
    samples, sample_rate = decoded(made(name, [5000, 5001, 30_000], rate))
    assert sample_rate == found_rate
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) * sample_rate / len(samples) == pytest.approx(440, abs=1)
    assert len(samples) / sample_rate == pytest.approx(2.0, abs=0.15)


def test_raw_samples_and_wav_are_those_of_the_package():
    assert made("pcm", [7]) == pcm_bytes(TONE)
    with wave.open(io.BytesIO(made("wav", [7]))) as file:
        assert file.readframes(len(TONE) + 1) == pcm_bytes(TONE)


def test_it_begins_before_its_end_is_known():
    for name in FORMATS:
        file = StreamedFile(name, RATE)
        assert len(file.push(TONE)) > 0, name


def test_a_rate_that_a_format_has_not_is_the_next_one_above():
    assert StreamedFile("opus", RATE).sample_rate == 24000
    assert StreamedFile("mp3", 1000).sample_rate == 8000
    assert StreamedFile("mp3", 96000).sample_rate == 48000
    assert StreamedFile("pcm", RATE, 16000).media_type == "audio/pcm;rate=16000;channels=1"


@pytest.mark.parametrize(
    ("name", "rate", "message"),
    [
        ("aac", None, "response_format='aac' must be one of wav, pcm, flac, opus, mp3"),
        ("wav", 7999, "sample_rate=7999 must be an integer in"),
        ("wav", 8000.0, "sample_rate=8000.0 must be an integer in"),
        ("wav", True, "sample_rate=True must be an integer in"),
        ("opus", 44100, "sample_rate=44100 of opus must be one of 8000"),
    ],
)
def test_what_there_is_not_is_refused(name, rate, message):
    with pytest.raises(ParameterError, match=message):
        StreamedFile(name, RATE, rate)


def test_a_package_that_is_missing_is_named_by_its_extra(monkeypatch):
    original = builtins.__import__

    def import_(name, *args, **options):
        if name in ("soundfile", "soxr"):
            raise ImportError(name)
        return original(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", import_)
    for name, rate in (("flac", None), ("wav", 8000)):
        with pytest.raises(MissingExtraError, match=r"balacoon_tk\[serve\]"):
            StreamedFile(name, RATE, rate)
    assert len(StreamedFile("wav", RATE).push(TONE)) == 44 + 2 * len(TONE)
