"""Laws of speech that need no right answer: how the samples of one call follow from those of others.

Texts, chunks, speeds and orders are Hypothesis's; the voice is tiny, so that every law is tried on dozens.
"""

from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balacoon_tk import TTS
from balacoon_tk.decoder import STRATEGIES
from balacoon_tk.voice import load_voice
from tiny_voice import HOP_LENGTH, SAMPLE_RATE, SPEAKERS, build_tiny_voice

TOLERANCE = 1e-6
"""Of samples in [-1, 1]: matrix products of other shapes are rounded in another order."""

few = settings(deadline=None, max_examples=20)

words = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12)
# A short word before a full stop may be an abbreviation, which ends no sentence.
last_words = st.text("abcdefghijklmnopqrstuvwxyz", min_size=7, max_size=12)
sentences = st.builds(
    lambda some, last, end: " ".join([*some, last]).capitalize() + end,
    *(st.lists(words, max_size=3), last_words, st.sampled_from(".?!")),
)
texts = st.lists(sentences, min_size=1, max_size=3).map(" ".join)
chunks = st.one_of(st.integers(1, 90), st.lists(st.integers(1, 40), min_size=1, max_size=4))
seeds = st.integers(0, 2**64 - 1)


@pytest.fixture(scope="module")
def tts(tmp_path_factory):
    folder = build_tiny_voice(tmp_path_factory.mktemp("voices") / "laws", SPEAKERS, streaming=True)
    return TTS(load_voice(folder, n_threads=1))


def samples_of(stream):
    return np.concatenate([np.zeros(0, np.float32), *(chunk.samples for chunk in stream)])


def spans_of(stream):
    return [span for chunk in stream for span in chunk.alignment]


@few
@given(texts, chunks, st.sampled_from(STRATEGIES), st.sampled_from(SPEAKERS), seeds)
def test_no_chunks_and_no_strategy_change_what_is_said(tts, text, chunk_frames, strategy, speaker, seed):
    whole = list(tts.stream(text, strategy="full", speaker=speaker, seed=seed))
    parts = list(tts.stream(text, strategy=strategy, speaker=speaker, seed=seed, chunk_frames=chunk_frames))
    np.testing.assert_allclose(samples_of(parts), samples_of(whole), rtol=0, atol=TOLERANCE)
    assert spans_of(parts) == spans_of(whole)


@few
@given(st.lists(sentences, min_size=2, max_size=4), st.sampled_from(STRATEGIES), chunks)
def test_without_noise_a_text_is_its_sentences_one_after_the_other(tts, said, strategy, chunk_frames):
    still = {"noise_scale": 0, "noise_w": 0, "strategy": strategy, "chunk_frames": chunk_frames}
    together = samples_of(tts.stream(" ".join(said), **still))
    alone = [samples_of(tts.stream(sentence, **still)) for sentence in said]
    np.testing.assert_array_equal(together, np.concatenate(alone))


@few
@given(sentences, texts, seeds, chunks)
def test_with_noise_the_first_sentence_is_what_it_is_alone(tts, first, more, seed, chunk_frames):
    alone = samples_of(tts.stream(first, seed=seed, chunk_frames=chunk_frames))
    followed = samples_of(tts.stream(f"{first} {more}", seed=seed, chunk_frames=chunk_frames))
    np.testing.assert_array_equal(followed[: len(alone)], alone)


@few
@given(texts, st.lists(st.floats(0.1, 10), min_size=2, max_size=4), seeds)
def test_who_speaks_slower_shortens_no_phoneme(tts, text, speeds, seed):
    said = [spans_of(tts.stream(text, strategy="full", seed=seed, speed=speed)) for speed in sorted(speeds)]
    for slower, faster in pairwise(said):
        assert [span.phoneme for span in slower] == [span.phoneme for span in faster]
        assert all(
            round((one.end_s - one.start_s) * SAMPLE_RATE)
            >= round((other.end_s - other.start_s) * SAMPLE_RATE)
            for one, other in zip(slower, faster, strict=True)
        )


@few
@given(texts, st.floats(0.1, 10), seeds)
def test_every_duration_is_that_of_speed_1_divided_and_rounded_up(tts, text, speed, seed):
    def frames(speed):
        spans = spans_of(tts.stream(text, strategy="full", seed=seed, speed=speed, noise_w=0))
        return np.array([(span.end_s - span.start_s) * SAMPLE_RATE / HOP_LENGTH for span in spans])

    itself, other = frames(1.0), frames(speed)
    # One frame and a bit of it are both written as two: a phoneme of two ids has two such roundings.
    n_ids = 2 * np.ones_like(itself)
    assert (other <= itself / speed + n_ids + 1e-3).all()
    assert (other >= (itself - n_ids) / speed - 1e-3).all()


@few
@given(texts, st.floats(0, 3), st.floats(0, 3), seeds, chunks)
def test_volumes_multiply(tts, text, one, other, seed, chunk_frames):
    loud = samples_of(tts.stream(text, seed=seed, volume=one * other, chunk_frames=chunk_frames))
    quiet = samples_of(tts.stream(text, seed=seed, volume=one, chunk_frames=chunk_frames))
    np.testing.assert_allclose(loud, quiet * np.float32(other), rtol=1e-6, atol=1e-7)


@few
@given(st.data(), st.integers(2, 5))
def test_streams_taken_in_any_order_or_left_are_what_they_are_alone(tts, data, n_streams):
    calls = [
        {
            "text": data.draw(texts),
            "strategy": data.draw(st.sampled_from(STRATEGIES)),
            "chunk_frames": data.draw(chunks),
            "speaker": data.draw(st.sampled_from(SPEAKERS)),
            "seed": data.draw(seeds),
        }
        for _ in range(n_streams)
    ]
    alone = [samples_of(tts.stream(**call)) for call in calls]
    streams = [tts.stream(**call) for call in calls]
    got = [[] for _ in calls]
    for k in data.draw(st.lists(st.integers(0, n_streams - 1), max_size=40)):
        got[k].extend([chunk] if (chunk := next(streams[k], None)) else [])
    left = data.draw(st.sets(st.integers(0, n_streams - 1), max_size=n_streams - 1))
    for k, stream in enumerate(streams):
        if k in left:
            stream.close()
        else:
            got[k].extend(stream)
    for k, expected in enumerate(alone):
        samples = samples_of(got[k])
        assert len(samples) == len(expected) or k in left
        np.testing.assert_array_equal(samples, expected[: len(samples)])


@few
@given(texts, seeds, seeds)
def test_a_seed_changes_what_is_heard_by_no_more_than_its_noise(tts, text, one, other):
    still = {"noise_w": 0, "noise_scale": 0}
    np.testing.assert_array_equal(
        samples_of(tts.stream(text, seed=one, **still)), samples_of(tts.stream(text, seed=other, **still))
    )
    # The rhythm is the noise of durations alone: without it seeds share their alignment.
    rhythms = [spans_of(tts.stream(text, seed=seed, noise_w=0)) for seed in (one, other)]
    assert rhythms[0] == rhythms[1]
    noisy = [samples_of(tts.stream(text, seed=seed, noise_w=0)) for seed in (one, other)]
    assert np.array_equal(*noisy) == (one == other)


@few
@given(texts, chunks, seeds)
def test_the_alignment_and_the_samples_tell_the_same_time(tts, text, chunk_frames, seed):
    given = list(tts.stream(text, seed=seed, chunk_frames=chunk_frames))
    starts = [0, *accumulate(len(chunk.samples) for chunk in given)]
    assert [chunk.start_sample for chunk in given] == starts[:-1]
    spans = spans_of(given)
    assert spans[0].start_s == 0
    assert [span.start_s for span in spans[1:]] == [span.end_s for span in spans[:-1]]
    assert round(spans[-1].end_s * SAMPLE_RATE) == starts[-1]
