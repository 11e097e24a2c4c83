"""Text to speech on the trained default voice: what a tiny one can't show."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from balacoon_tk.frontend import create_frontend

pytestmark = pytest.mark.voice

SENTENCE = "It is a fine day, and we go."
TOLERANCE = 1e-4


def whole_of(tts, text, strategy="full", **settings):
    return np.concatenate(
        [chunk.samples for chunk in tts.stream(text, strategy=strategy, seed=5, **settings)]
    )


@pytest.mark.parametrize("chunk_frames", [(1, 7, 64), 1000])
@pytest.mark.parametrize("text", ["[[a]]", SENTENCE])
def test_every_strategy_equals_whole(default_tts, text, chunk_frames):
    whole = whole_of(default_tts, text)
    for strategy in default_tts.strategies:
        parts = whole_of(default_tts, text, strategy, chunk_frames=chunk_frames)
        np.testing.assert_allclose(parts, whole, rtol=0, atol=TOLERANCE)


def test_it_speaks_at_the_pace_and_loudness_of_speech(default_tts):
    samples = whole_of(default_tts, SENTENCE)
    assert default_tts.get_sampling_rate() == 22050
    assert 1.0 < len(samples) / 22050 < 5.0
    assert 0.01 < np.sqrt(np.mean(samples**2)) < 0.5
    assert np.abs(samples).max() <= 1.0


def test_phonemes_are_in_order_and_cover_the_utterance(default_tts):
    chunks = list(default_tts.stream(SENTENCE, strategy="overlap", seed=5))
    spans = [span for chunk in chunks for span in chunk.alignment]
    front = default_tts.voice.manifest.frontend
    frontend = create_frontend(language=front.language, phoneme_type=front.phoneme_type)
    said = [phoneme for sentence in frontend.phonemize(SENTENCE) for phoneme in sentence.phonemes]
    assert [span.phoneme for span in spans] == ["^", *said, "$"]
    assert all(before.end_s == after.start_s for before, after in itertools.pairwise(spans))
    assert spans[-1].end_s == pytest.approx(chunks[-1].start_s + chunks[-1].duration_s)


def test_silence_is_where_the_alignment_has_the_sentence_end(default_tts):
    (chunk,) = default_tts.stream(SENTENCE, strategy="full", seed=5)
    end = next(span for span in chunk.alignment if span.phoneme == "$")
    rms = np.sqrt(np.mean(chunk.samples**2))
    tail = chunk.samples[int(end.start_s * chunk.sample_rate) :]
    assert np.sqrt(np.mean(tail**2)) < 0.2 * rms


def test_two_threads_get_what_one_gets(default_tts):
    expected = whole_of(default_tts, SENTENCE, "overlap")
    with ThreadPoolExecutor(2) as pool:
        for samples in pool.map(lambda _: whole_of(default_tts, SENTENCE, "overlap"), range(2)):
            assert np.array_equal(samples, expected)
