"""What a stream does by itself: its chunks, and the next sentence while this one is heard."""

import gc
import math
import threading
import time

import numpy as np
import pytest

from balacoon_tk import TTS, SpeechUtterance
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.frontend import Sentence
from balacoon_tk.pacing.calibration import Calibration, CalibrationKey
from balacoon_tk.pacing.costs import CostCurve, CostModel, PushCosts
from balacoon_tk.runtime.background import Prefetch
from balacoon_tk.stages.settings import DEFAULT_CHUNK_FRAMES
from balacoon_tk.voice import load_voice
from tiny_voice import HOP_LENGTH, SAMPLE_RATE, build_tiny_voice

FRAME_S = HOP_LENGTH / SAMPLE_RATE
LONG = "so it is and so it stays for a long while " * 6
TEXT = f"{LONG}. {LONG}. {LONG}."
WORKER = "next-sentence"


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    folder = build_tiny_voice(tmp_path_factory.mktemp("voices") / "streaming", streaming=True)
    return load_voice(folder, n_threads=1)


def calibration_of(voice, *, push_frames, frame_frames=0.25, prepare_s=1e-6, onset_frames=0.0):
    """A calibration by which a push takes as long as so many frames sound, and so much more for each."""
    ends = (1, 201)
    seconds = tuple(FRAME_S * (push_frames + frame_frames * count) for count in ends)
    pushes = PushCosts(CostCurve(ends, seconds), CostCurve(ends, seconds))
    flat = CostCurve((1, 2), (prepare_s, prepare_s))
    costs = CostModel({"stateful": pushes, "overlap": pushes}, flat, flat, onset_frames)
    return Calibration(CalibrationKey.of(voice), "tiny", "CharacterFrontend", costs)


def sizes_of(chunks):
    return [len(chunk.samples) // HOP_LENGTH for chunk in chunks]


def workers():
    return [thread for thread in threading.enumerate() if thread.name == WORKER]


def wait_for(condition):
    end_s = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.001)


# --- chunks --------------------------------------------------------------------------------------


def test_without_a_calibration_the_default_begins_each_sentence(voice):
    tts = TTS(voice)
    assert tts.get_chunk_frames() == DEFAULT_CHUNK_FRAMES
    sizes = sizes_of(tts.stream(TEXT, strategy="overlap", seed=5, speed=2.0))
    starts = [i for i, size in enumerate(sizes) if size == DEFAULT_CHUNK_FRAMES[0]]
    assert [tuple(sizes[i : i + 6]) for i in starts] == 3 * [DEFAULT_CHUNK_FRAMES]


def test_a_calibration_begins_small_and_goes_on_large_after_the_first_sentence(voice):
    tts = TTS(voice, calibration=calibration_of(voice, push_frames=3.0))
    chunks = tts.get_chunk_frames("overlap")
    assert chunks[0] < chunks[-1]
    stream = list(tts.stream(TEXT, strategy="overlap", seed=5))
    sizes = sizes_of(stream)
    assert tuple(sizes[: len(chunks)]) == chunks
    (second,) = [
        i for i, chunk in enumerate(stream) if i and chunk.alignment[:1] and chunk.alignment[0].phoneme == "^"
    ][:1]
    assert sizes[second] == chunks[-1]


def test_a_later_sentence_that_takes_long_to_prepare_begins_small_again(voice):
    calibration = calibration_of(voice, push_frames=3.0, prepare_s=1e4)
    tts = TTS(voice, calibration=calibration)
    chunks = tts.get_chunk_frames("overlap")
    sizes = sizes_of(tts.stream(TEXT, strategy="overlap", seed=5))
    assert sizes.count(chunks[0]) >= 3


def test_what_the_caller_asks_for_wins(voice):
    tts = TTS(voice, calibration=calibration_of(voice, push_frames=3.0))
    plain = TTS(voice)
    for chunk_frames in (5, (2, 9)):
        asked = [sizes_of(t.stream(TEXT, seed=5, chunk_frames=chunk_frames)) for t in (tts, plain)]
        assert asked[0] == asked[1]


def test_a_margin_of_safety_makes_the_first_chunk_larger(voice):
    calibration = calibration_of(voice, push_frames=3.0)
    firsts = [
        TTS(voice, calibration=calibration, safety_factor=factor).get_chunk_frames()[0]
        for factor in (1, 2, 3)
    ]
    assert firsts == sorted(set(firsts))
    for factor in (0.5, float("nan")):
        with pytest.raises(ParameterError, match=f"safety_factor={factor} must be >= 1"):
            TTS(voice, safety_factor=factor)


def lead_frames_of(tts, text, **settings):
    """Frames before the first phoneme that sounds, from the times that a stream says."""
    spans = [span for chunk in tts.stream(text, strategy="full", **settings) for span in chunk.alignment]
    start_s = next(span.start_s for span in spans if span.phoneme not in "^ ,")
    return round(start_s / FRAME_S)


@pytest.mark.parametrize("onset_frames", [-2.5, 0.0, 11.0])
def test_the_first_chunk_reaches_the_first_sound(voice, onset_frames):
    tts = TTS(voice, calibration=calibration_of(voice, push_frames=0.1, onset_frames=onset_frames))
    lead_frames = lead_frames_of(tts, TEXT, seed=5)
    assert lead_frames > 3
    (first, *_) = tts.stream(TEXT, strategy="overlap", seed=5)
    assert len(first.samples) == HOP_LENGTH * (math.floor(lead_frames + onset_frames) + 1)


def test_without_a_calibration_the_first_chunk_reaches_the_first_phoneme(voice):
    tts = TTS(voice)
    leads = {}
    for speed in (4.0, 1.0, 0.2):
        leads[speed] = lead_frames_of(tts, TEXT, seed=5, speed=speed)
        sizes = sizes_of(tts.stream(TEXT, strategy="overlap", seed=5, speed=speed))
        assert sizes[0] == max(DEFAULT_CHUNK_FRAMES[0], leads[speed])
        assert tuple(sizes[1:4]) == DEFAULT_CHUNK_FRAMES[1:4]
    assert leads[4.0] < DEFAULT_CHUNK_FRAMES[0] < leads[0.2]


def test_only_the_first_sentence_waits_for_its_first_phoneme(voice):
    tts = TTS(voice)
    stream = list(tts.stream(TEXT, strategy="overlap", seed=5, speed=0.2))
    begins = [i for i, chunk in enumerate(stream) if any(span.phoneme == "^" for span in chunk.alignment)]
    sizes = sizes_of(stream)
    assert sizes[begins[0]] > DEFAULT_CHUNK_FRAMES[0] == sizes[begins[1]] == sizes[begins[2]]


@pytest.mark.parametrize("push_frames", [0.1, 3.0, 1000.0])
def test_no_chunk_changes_a_sample(voice, push_frames):
    tts = TTS(
        voice, calibration=calibration_of(voice, push_frames=push_frames, frame_frames=push_frames / 100)
    )
    expected = np.concatenate([chunk.samples for chunk in TTS(voice).stream(TEXT, strategy="full", seed=5)])
    for strategy in tts.strategies:
        found = np.concatenate([chunk.samples for chunk in tts.stream(TEXT, strategy=strategy, seed=5)])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_equal_texts_are_cut_in_the_same_way(voice):
    tts = TTS(voice, calibration=calibration_of(voice, push_frames=3.0))
    assert len({tuple(sizes_of(tts.stream(TEXT, seed=5))) for _ in range(3)}) == 1


# --- the next sentence ---------------------------------------------------------------------------


class Watched:
    """A frontend that notes which thread asks for each sentence, and may fail or stop in one."""

    def __init__(self, n_sentences=3, *, fails_at=None, gate=None):
        self.threads = []
        self._n_sentences, self._fails_at, self._gate = n_sentences, fails_at, gate

    def phonemize(self, text):
        for i in range(self._n_sentences):
            self.threads.append(threading.current_thread().name)
            if i == self._fails_at:
                raise ModelError(f"no sentence {i}")
            if i == 1 and self._gate is not None:
                self._gate.wait(20.0)
            yield Sentence(text, tuple(text))


def test_the_next_sentence_is_made_ready_while_this_one_is_heard_and_not_before_its_first_chunk(voice):
    frontend = Watched()
    stream = TTS(voice, frontend=frontend).stream(LONG, seed=5)
    n_frames = []
    for chunk in stream:
        n_frames.append(len(chunk.samples) // HOP_LENGTH)
        if len(n_frames) == 1:
            assert frontend.threads == ["MainThread"]
        if sum(n_frames) * FRAME_S >= 0.75:
            break
    wait_for(lambda: len(frontend.threads) == 2)
    wait_for(lambda: not workers())
    assert frontend.threads == ["MainThread", WORKER]  # one sentence ahead and no more
    assert len(list(stream)) > 2 * len(n_frames)
    assert frontend.threads == ["MainThread", WORKER, WORKER]
    assert not workers()


@pytest.mark.parametrize(
    ("text", "looks"), [(LONG, False), (f"{LONG}. ... 😀", False), (f"{LONG}. {LONG}.", True)]
)
def test_nobody_looks_for_what_comes_after_a_last_sentence(voice, monkeypatch, text, looks):
    begun = []
    monkeypatch.setattr(Prefetch, "begin", lambda ahead, **delay: begun.append(delay))
    n_samples = sum(len(chunk.samples) for chunk in TTS(voice).stream(text, chunk_frames=(8, 16), seed=1))
    assert n_samples == len(TTS(voice).synthesize(text, seed=1))
    assert bool(begun) == looks


def test_after_a_first_chunk_that_is_all_of_the_sentence_the_next_waits_until_it_is_taken(voice):
    frontend = Watched()
    stream = TTS(voice, frontend=frontend).stream("a", seed=5, chunk_frames=1000)
    next(stream)
    wait_for(lambda: len(frontend.threads) == 2)
    assert frontend.threads == ["MainThread", WORKER]
    stream.close()


def test_an_error_in_the_next_sentence_comes_after_this_one(voice):
    expected = len(list(TTS(voice, frontend=Watched(1)).stream(LONG, seed=5)))
    stream = TTS(voice, frontend=Watched(fails_at=1)).stream(LONG, seed=5)
    for _ in range(expected):
        next(stream)
    with pytest.raises(ModelError, match="no sentence 1"):
        next(stream)
    assert next(stream, None) is None
    assert not workers()


@pytest.mark.parametrize("leave", ["close", "drop"])
def test_a_stream_that_is_left_ends_its_thread_before_the_encoder(voice, monkeypatch, leave):
    gate = threading.Event()
    tts = TTS(voice, frontend=Watched(gate=gate))
    encode, encoded = type(voice.encoder).encode, []
    monkeypatch.setattr(
        type(voice.encoder), "encode", lambda *args, **named: encoded.append(1) or encode(*args, **named)
    )
    stream = tts.stream("a", seed=5, chunk_frames=1000)
    next(stream)
    wait_for(workers)
    if leave == "close":
        stream.close()
    else:
        del stream
        gc.collect()
    gate.set()
    wait_for(lambda: not workers())
    assert len(encoded) == 1


def test_an_utterance_in_chunks_looks_ahead_as_well(voice):
    frontend = Watched()
    tts = TTS(voice, frontend=frontend)
    utterance = SpeechUtterance(LONG, seed=5)
    parts = []
    while len(samples := tts.synthesize_chunk(utterance)):
        parts.append(samples)
    assert frontend.threads == ["MainThread", WORKER, WORKER]
    whole = TTS(voice, frontend=Watched()).synthesize(LONG, seed=5)
    # Rounding may put a sample on the other side of a step of 16-bit PCM.
    assert np.abs(np.concatenate(parts).astype(int) - whole).max() <= 1
