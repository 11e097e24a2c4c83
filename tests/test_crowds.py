"""Many streams of one voice: who plays, who is told, and what is left when they are gone."""

import gc
import itertools
import threading
import time

import numpy as np
import pytest

from balacoon_tk import TTS
from balacoon_tk.errors import BusyError, ParameterError, StreamStateError
from balacoon_tk.frontend import Sentence
from balacoon_tk.runtime.scheduler import scheduler_of
from balacoon_tk.runtime.speech_stream import SpeechStream
from gate import TIMEOUT_S, Gate

TEXT = "So it is. Is it so? It is, and so it stays. Oh."
SETTINGS = {"strategy": "overlap", "seed": 5, "chunk_frames": 5}


def wait_for(condition):
    end_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.001)


def streams():
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is SpeechStream]


@pytest.fixture(autouse=True)
def nothing_stays_behind():
    scheduler, n_threads = scheduler_of("cpu"), threading.active_count()
    # What a test before has left is none of this one's.
    before = streams()
    yield
    wait_for(lambda: threading.active_count() <= n_threads)
    assert not [each for each in streams() if not any(each is other for other in before)]
    assert scheduler._n_free == scheduler.n_processors
    assert not scheduler._playing
    assert not scheduler._silent
    assert not scheduler.admission._listened_to()
    assert not scheduler.admission._inside
    assert not scheduler.admission._waiting


def in_thread(work):
    found = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()

    def result():
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()
        return found[0]

    return result


def samples_of(chunks):
    return np.concatenate([np.zeros(0, np.float32), *(chunk.samples for chunk in chunks)])


def test_of_64_that_begin_at_once_each_is_heard_whole_or_told(tiny_voice):
    tts = TTS(tiny_voice, max_streams=4, max_waiting=20)
    # The first sentence lasts longer than this test, so that whoever has it plays as long as it likes.
    text, settings = f"{'so it is and so it stays ' * 8}. Oh.", {"seed": 5, "strategy": "full", "speed": 0.2}
    expected = samples_of(tts.stream(text, **settings))
    begin, all_came, told, heard = threading.Barrier(64), threading.Event(), [], []

    def listen():
        begin.wait(TIMEOUT_S)
        stream = tts.stream(text, **settings)
        try:
            chunks = [next(stream)]
        except BusyError as error:
            told.append((error.n_playing, error.n_waiting))
        else:
            all_came.wait(TIMEOUT_S)
            heard.append(np.array_equal(samples_of([*chunks, *stream]), expected))

    threads = [threading.Thread(target=listen) for _ in range(64)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(told) == 40)
    assert set(told) == {(4, 20)}
    assert tts.count_streams() == (4, 20)
    all_came.set()
    for thread in threads:
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()
    assert heard == [True] * 24


def test_without_bounds_nobody_is_refused(tiny_voice):
    tts = TTS(tiny_voice)
    expected = tts.synthesize(TEXT, seed=5)
    results = [in_thread(lambda: tts.synthesize(TEXT, seed=5)) for _ in range(24)]
    assert all(np.array_equal(result(), expected) for result in results)


def test_a_thread_may_take_more_streams_in_turn_than_may_play(tiny_voice):
    tts = TTS(tiny_voice, max_streams=1)
    streams = [tts.stream("so it is", strategy="overlap", seed=seed, chunk_frames=4) for seed in range(3)]
    parts = list(itertools.zip_longest(*streams))
    for seed in range(3):
        expected = samples_of(tts.stream("so it is", strategy="overlap", seed=seed, chunk_frames=4))
        assert np.array_equal(samples_of(part[seed] for part in parts if part[seed]), expected)


def test_another_thread_may_close_a_stream_whose_chunk_is_being_made(tiny_voice):
    gate = Gate()
    stream = TTS(tiny_voice, frontend=gate).stream("so", **SETTINGS)
    n_chunks = in_thread(lambda: len(list(stream)))
    assert gate.reached.wait(TIMEOUT_S)
    stream.close()
    gate.open.set()
    # A thousand sentences would follow; what was being made is the last of it.
    assert n_chunks() < 20
    assert list(stream) == []


def test_another_thread_may_close_a_stream_that_waits_for_its_turn(tiny_voice):
    tts = TTS(tiny_voice, max_streams=1)
    first = tts.stream(TEXT, strategy="full")
    next(first)  # whose audio lasts longer than this test
    second = tts.stream(TEXT, **SETTINGS)
    n_chunks = in_thread(lambda: len(list(second)))
    wait_for(lambda: tts.count_streams() == (1, 1))
    second.close()
    assert n_chunks() == 0
    assert tts.count_streams() == (1, 0)
    first.close()
    assert tts.count_streams() == (0, 0)


def test_another_thread_may_close_a_stream_that_waits_for_a_processor(tiny_voice):
    scheduler = scheduler_of("cpu")
    holders = [scheduler.join(1).slot() for _ in range(scheduler.n_processors)]
    for holder in holders:
        holder.__enter__()
    stream = TTS(tiny_voice).stream(TEXT, **SETTINGS)
    n_chunks = in_thread(lambda: len(list(stream)))
    wait_for(lambda: scheduler._silent)
    stream.close()
    assert n_chunks() == 0
    for holder in holders:
        holder.__exit__()


def test_a_stream_is_for_one_thread_at_a_time(tiny_voice):
    gate = Gate()
    stream = TTS(tiny_voice, frontend=gate).stream("so", **SETTINGS)
    n_chunks = in_thread(lambda: len(list(itertools.islice(stream, 40))))
    assert gate.reached.wait(TIMEOUT_S)
    wait_for(stream._at_work.locked)
    with pytest.raises(StreamStateError, match="another thread is waiting for the next chunk"):
        while True:  # it may be between two chunks
            next(stream)
    gate.open.set()
    assert n_chunks() <= 40
    stream.close()


def test_streams_that_nobody_holds_any_more_are_over(tiny_voice):
    tts = TTS(tiny_voice, max_streams=2)
    for n_taken in range(5):
        stream = tts.stream(TEXT, **SETTINGS)
        for _ in itertools.islice(stream, n_taken):
            pass
        cycle = [stream]
        cycle.append(cycle)
        del stream, cycle
    gc.collect()
    assert tts.count_streams() == (0, 0)


def test_a_stream_that_fails_makes_place(tiny_voice):
    class Broken:
        def phonemize(self, text):
            yield Sentence("so", tuple("so"))
            raise ParameterError("no second sentence")

    tts = TTS(tiny_voice, frontend=Broken(), max_streams=1, max_waiting=0)
    for _ in range(3):
        with pytest.raises(ParameterError, match="no second sentence"):
            list(tts.stream("so", **SETTINGS))
    assert tts.count_streams() == (0, 0)
    gc.collect()


def test_bounds_are_checked_when_a_tts_is_made(tiny_voice):
    with pytest.raises(ParameterError, match="max_streams=0 must be an integer >= 1"):
        TTS(tiny_voice, max_streams=0)
    with pytest.raises(ParameterError, match="max_waiting=-1 must be an integer >= 0"):
        TTS(tiny_voice, max_waiting=-1)
