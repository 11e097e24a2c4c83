"""Phonemes in time: they tile the sentence, and ranges that tile it hand each one over once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balacoon_tk.audio import PhonemeSpan
from balacoon_tk.frontend import EncodedSentence
from balacoon_tk.stages.sentence import Timeline

HOP_LENGTH, SAMPLE_RATE = 4, 1000


def timeline(durations, ids_per_phoneme, start_sample=0):
    """Make a timeline of phonemes a, b, … that have so many ids each."""
    encoded = EncodedSentence(
        phoneme_ids=np.zeros(len(durations), np.int64),
        phonemes=tuple(chr(ord("a") + i) for i in range(len(ids_per_phoneme))),
        id_starts=np.cumsum([0, *ids_per_phoneme[:-1]]),
    )
    return Timeline(
        encoded,
        np.concatenate([[0], np.cumsum(durations)]),
        hop_length=HOP_LENGTH,
        sample_rate=SAMPLE_RATE,
        start_sample=start_sample,
    )


def test_a_phoneme_lasts_as_long_as_all_its_ids():
    spans = timeline([1, 2, 3, 4], [2, 1, 1], start_sample=1000).spans(1000, 1040)
    assert spans == (
        PhonemeSpan("a", 1.0, 1.012),
        PhonemeSpan("b", 1.012, 1.024),
        PhonemeSpan("c", 1.024, 1.04),
    )


@pytest.mark.parametrize(
    ("start", "stop", "phonemes"),
    [
        (0, 1, "a"),
        (1, 4, ""),
        (0, 4, "a"),
        (3, 5, "b"),
        (4, 12, "b"),
        (4, 13, "bc"),
        (12, 24, "c"),
        (13, 24, ""),
    ],
)
def test_a_phoneme_belongs_to_the_range_in_which_it_begins(start, stop, phonemes):
    spans = timeline([1, 2, 3], [1, 1, 1]).spans(start, stop)
    assert "".join(span.phoneme for span in spans) == phonemes


def test_phonemes_of_no_length_at_the_end_belong_to_the_last_range():
    ends = timeline([1, 2, 0, 0], [1, 1, 1, 1])
    assert [span.phoneme for span in ends.spans(0, 8)] == ["a", "b"]
    assert ends.spans(8, 12) == (PhonemeSpan("c", 0.012, 0.012), PhonemeSpan("d", 0.012, 0.012))


@given(
    phonemes=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), min_size=1, max_size=12),
    start_sample=st.integers(0, 50),
    data=st.data(),
)
def test_ranges_that_tile_a_sentence_hand_over_every_phoneme_once(phonemes, start_sample, data):
    durations = [duration for own in phonemes for duration in own]
    n_samples = HOP_LENGTH * sum(durations)
    cuts = data.draw(st.lists(st.integers(0, n_samples), unique=True)) if n_samples else []
    bounds = [start_sample + cut for cut in sorted({0, n_samples, *cuts})]
    sentence = timeline(durations, [len(own) for own in phonemes], start_sample)
    spans = [span for i in range(len(bounds) - 1) for span in sentence.spans(bounds[i], bounds[i + 1])]
    if n_samples:
        assert [span.phoneme for span in spans] == [chr(ord("a") + i) for i in range(len(phonemes))]
        assert spans[0].start_s == start_sample / SAMPLE_RATE
        assert spans[-1].end_s == (start_sample + n_samples) / SAMPLE_RATE
        lengths = [round((span.end_s - span.start_s) * SAMPLE_RATE) for span in spans]
        assert lengths == [HOP_LENGTH * sum(own) for own in phonemes]
