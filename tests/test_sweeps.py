"""Sweeps: what a point of a curve says is what the stream of that setting does."""

import numpy as np
import pytest

from balacoon_tk import TTS
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics.sweeps import sentence_frames, sweep_chunks, sweep_lengths, sweep_overlap
from tiny_voice import HOP_LENGTH, LEFT_CONTEXT, LOOKAHEAD, SAMPLE_RATE

TEXT = "hello there, all of you"


@pytest.fixture
def tts(tiny_voice):
    return TTS(tiny_voice)


def test_the_frames_of_a_sentence_are_those_that_are_spoken(tts):
    frames = sentence_frames(tts, TEXT, seed=3)
    samples = tts.synthesize(TEXT, seed=3)
    assert frames.n_frames * HOP_LENGTH == samples.size
    decoded = tts.voice.open_decoder("full").push(frames.window(0, frames.n_frames)[None], last=True)
    np.testing.assert_array_equal(np.rint(decoded.reshape(-1) * 32767), samples)


def test_the_context_of_the_receptive_field_is_enough_and_one_frame_less_is_not(tts):
    assert LEFT_CONTEXT == LOOKAHEAD
    less, enough, more = sweep_overlap(
        tts, TEXT, context_frames=[LEFT_CONTEXT - 1, LEFT_CONTEXT, LEFT_CONTEXT + 4], chunk_frames=5, seed=3
    )
    assert less.max_abs_diff > 1e-3
    assert enough.max_abs_diff <= 1e-6
    assert (more.max_abs_diff, more.work_ratio) == (enough.max_abs_diff, enough.work_ratio)
    assert 1.0 < less.work_ratio < enough.work_ratio


def test_without_context_no_frame_is_decoded_twice_and_borders_are_where_chunks_begin(tts):
    (point,) = sweep_overlap(tts, TEXT, context_frames=[0], chunk_frames=5, seed=3)
    assert point.work_ratio == 1.0
    assert point.borders[:3] == (5 * HOP_LENGTH, 10 * HOP_LENGTH, 15 * HOP_LENGTH)
    assert point.samples.size == sentence_frames(tts, TEXT, seed=3).n_frames * HOP_LENGTH


def test_a_sweep_of_chunks_has_a_point_for_each_strategy_and_size(tts):
    points = sweep_chunks(
        tts, [TEXT, "one more"], chunk_frames=[3, 7], strategies=["full", "overlap"], n_rounds=1
    )
    assert [(point.strategy, point.chunk_frames) for point in points] == [
        *(("full", 3), ("full", 7)),
        *(("overlap", 3), ("overlap", 7)),
    ]
    for point in points:
        assert point.chunk_s == point.chunk_frames * HOP_LENGTH / SAMPLE_RATE
        assert point.ttfa_s > 0.0
        assert point.rtf > 0.0
        assert 0.0 <= point.continuity <= 1.0
        assert (point.prebuffer_s == 0.0) == (point.continuity == 1.0)


def test_a_sweep_of_lengths_is_sorted_by_length(tts):
    points = sweep_lengths(tts, ["hello there, all of you", "hi"], n_rounds=1)
    assert [point.strategy for point in points] == ["full", "full", "overlap", "overlap"]
    short, long = points[:2]
    assert short.audio_s < long.audio_s
    assert all(0.0 < point.ttfa_s <= point.total_s for point in points)


@pytest.mark.filterwarnings("ignore::balacoon_tk.frontend.NothingToSayWarning")
@pytest.mark.parametrize("text", ["", " \n"])
def test_a_text_with_nothing_to_say_can_not_be_swept(tts, text):
    for sweep in (
        lambda: sweep_overlap(tts, text, context_frames=[1]),
        lambda: sweep_chunks(tts, [text], chunk_frames=[4], n_rounds=1),
        lambda: sweep_lengths(tts, [text], n_rounds=1),
    ):
        with pytest.raises(ParameterError, match="must hold something that can be spoken"):
            sweep()


def test_no_rounds_are_refused(tts):
    with pytest.raises(ParameterError, match="n_rounds=0 must be >= 1"):
        sweep_lengths(tts, [TEXT], n_rounds=0)


def test_a_decoder_that_wants_a_speaker_is_refused_and_not_misused(tiny_speakers_voice):
    with pytest.raises(ParameterError, match="several speakers"):
        sweep_overlap(TTS(tiny_speakers_voice), TEXT, context_frames=[1])
