"""Text that comes in pieces is spoken as it comes, and with the samples of the whole."""

import asyncio
import gc
import itertools
import queue
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balacoon_tk import FLUSH, TTS, SpeechUtterance
from balacoon_tk.errors import ParameterError, StreamStateError
from gate import TIMEOUT_S, Gate

TEXT = "So it is. Is it so? It is, and so it stays! Oh dear, oh.\n\nIt stays, as ever, and is so"
SETTINGS = {"strategy": "overlap", "seed": 5, "chunk_frames": 5}


@pytest.fixture(scope="module")
def tts(tiny_voice):
    return TTS(tiny_voice)


def samples_of(chunks):
    return np.concatenate([np.zeros(0, np.float32), *(chunk.samples for chunk in chunks)])


def wait_for(condition):
    end_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.001)


def threads_of_streams():
    names = ("async-stream", "next-sentence", "text-pieces")
    return [each for each in threading.enumerate() if each.name in names]


@pytest.fixture(autouse=True)
def nothing_stays_behind(tts):
    yield
    gc.collect()
    wait_for(lambda: not threads_of_streams())
    assert tts.count_streams() == (0, 0)


def cut(text, places):
    places = sorted(place % (len(text) + 1) for place in places)
    return [text[start:stop] for start, stop in itertools.pairwise([0, *places, len(text)])]


class Pieces:
    """An iterator that a test puts pieces into."""

    def __init__(self, *pieces):
        self._queue = queue.SimpleQueue()
        self.n_asked = 0
        self.put(*pieces)

    def put(self, *pieces):
        for piece in pieces:
            self._queue.put(piece)

    def end(self):
        self._queue.put(None)

    def __iter__(self):
        return self

    def __next__(self):
        self.n_asked += 1
        piece = self._queue.get(timeout=TIMEOUT_S)
        if piece is None:
            raise StopIteration
        return piece


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 1000), max_size=20), st.sampled_from([list, iter]), st.booleans())
def test_the_samples_are_those_of_the_whole_text_for_every_cut(tts, places, kind, clause):
    whole = samples_of(tts.stream(TEXT, **SETTINGS, clause=clause))
    found = samples_of(tts.stream(kind(cut(TEXT, places)), **SETTINGS, clause=clause))
    assert np.array_equal(found, whole)


@pytest.mark.filterwarnings("ignore:tiny is streamed")
def test_all_calls_take_pieces(tts):
    whole = tts.synthesize(TEXT, seed=5)
    assert np.array_equal(tts.synthesize(iter(TEXT), seed=5), whole)
    utterance = SpeechUtterance(iter(TEXT), seed=5)
    parts = []
    while len(part := tts.synthesize_chunk(utterance)):
        parts.append(part)
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_sentence_is_spoken_before_the_next_piece_comes(tts):
    pieces = Pieces("So it is. I")
    stream = tts.stream(pieces, **SETTINGS)
    pieces.put("s")
    first = [next(stream)]
    spoken = samples_of(tts.stream("So it is.", **SETTINGS))
    while sum(len(chunk.samples) for chunk in first) < len(spoken):
        first.append(next(stream))
    assert np.array_equal(samples_of(first), spoken)
    pieces.put(" it so")
    pieces.end()
    assert np.array_equal(
        samples_of([*first, *stream]), samples_of(tts.stream("So it is. Is it so", **SETTINGS))
    )


def test_flush_speaks_what_has_come(tts):
    pieces = Pieces("So it", FLUSH)
    stream = tts.stream(pieces, **SETTINGS)
    assert next(stream).start_sample == 0
    pieces.put(" is. ", FLUSH, FLUSH)
    pieces.end()
    assert samples_of(stream).size > 0


def test_audio_that_is_ready_does_not_wait_for_text(tts):
    pieces = Pieces("So it is, as it was and stays. Is", " it")
    stream = tts.stream(pieces, **SETTINGS)
    n_samples = len(samples_of(tts.stream("So it is, as it was and stays.", **SETTINGS)))
    while n_samples > 0:  # with nobody to write on, each wait would be one for ever
        n_samples -= len(next(stream).samples)
    stream.close()
    pieces.end()


def test_close_ends_a_wait_for_text_at_once_and_the_generator_when_it_goes_on(tts):
    going_on, closed = threading.Event(), threading.Event()

    def write():
        try:
            yield "So it is. Is it"
            assert going_on.wait(TIMEOUT_S)
            yield " so"
        finally:
            closed.set()

    stream = tts.stream(write(), **SETTINGS)
    taken = []
    listener = threading.Thread(target=lambda: taken.extend(stream))
    listener.start()
    wait_for(lambda: taken and stream._scheduled.text.is_awaited)
    stream.close()
    listener.join(TIMEOUT_S)
    assert not listener.is_alive()
    assert not closed.is_set()
    going_on.set()
    assert closed.wait(TIMEOUT_S)
    assert list(stream) == []


def test_a_stream_that_nobody_holds_ends_its_wait(tts):
    pieces = Pieces("So it is. Is it")
    stream = tts.stream(pieces, **SETTINGS)
    feed = stream._scheduled.text
    next(stream)
    del stream
    gc.collect()
    assert feed.closed
    pieces.end()


def test_pieces_are_taken_ahead_but_not_without_end(tts):
    n_taken = 0

    def write():
        nonlocal n_taken
        for n_taken in range(1, 100_000):  # noqa: B007 - it is looked at outside
            yield "so it is. "

    with_limit = tts.stream(write(), **SETTINGS)
    next(with_limit)
    time.sleep(0.05)
    assert 2 < n_taken < 1000
    with_limit.close()


@pytest.mark.parametrize("wrong", [b"so", None, 5, ["so"]])
def test_a_piece_that_is_no_text_is_refused_when_all_before_it_is_spoken(tts, wrong):
    stream = tts.stream(["So it is. ", "It is", wrong], **SETTINGS)
    chunks = []
    with pytest.raises(ParameterError, match=r"text\[2\] is of type"):
        chunks.extend(stream)  # all that come are in it, whatever ends them
    assert np.array_equal(samples_of(chunks), samples_of(tts.stream("So it is. It is", **SETTINGS)))
    assert list(stream) == []


def test_an_error_of_the_iterable_passes_on_when_all_before_it_is_spoken(tts):
    def write():
        yield "So it is. It i"
        yield "s"
        raise ConnectionError("gone")

    chunks = []
    with pytest.raises(ConnectionError, match="gone"):
        chunks.extend(tts.stream(write(), **SETTINGS))
    assert np.array_equal(samples_of(chunks), samples_of(tts.stream("So it is. It is", **SETTINGS)))


@pytest.mark.parametrize("wrong", [b"so", 5, None])
def test_what_is_no_text_is_refused_at_the_call(tts, wrong):
    for begin in (tts.stream, tts.astream, tts.synthesize):
        with pytest.raises(ParameterError, match="must be a str, or an iterable of str and FLUSH"):
            begin(wrong)


def test_a_frontend_that_takes_a_str_alone_is_named(tiny_voice):
    tts = TTS(tiny_voice, frontend=Gate())
    for begin in (tts.stream, tts.astream):
        with pytest.raises(ParameterError, match="text in pieces: Gate must be a frontend with takes_pieces"):
            begin(["so"])
        with pytest.raises(ParameterError, match="clause=True: Gate must be a frontend with takes_pieces"):
            begin("so", clause=True)


def test_nothing_to_say_gives_nothing_and_a_warning(tts):
    for pieces in ([], [""], [FLUSH, FLUSH], iter(["  ", "\n"]), iter(())):
        with pytest.warns(UserWarning, match="nothing to say in the text"):
            assert list(tts.stream(pieces, **SETTINGS)) == []


def test_a_stream_that_is_closed_before_any_text_came_says_nothing_of_it(tts):
    pieces = Pieces()
    stream, ended = tts.stream(pieces, **SETTINGS), []
    listener = threading.Thread(target=lambda: ended.append(list(stream)))
    listener.start()
    wait_for(lambda: stream._scheduled.text.is_awaited)
    stream.close()
    listener.join(TIMEOUT_S)
    assert ended == [[]]
    pieces.end()


# --- among others


def test_who_waits_for_text_takes_no_place_from_others(tiny_voice):
    tts = TTS(tiny_voice, max_streams=1, max_waiting=0)
    pieces = Pieces()
    stream = tts.stream(pieces, **SETTINGS)
    taken = []
    listener = threading.Thread(target=lambda: taken.extend(stream))
    listener.start()
    wait_for(lambda: stream._scheduled.text.is_awaited)
    assert tts.count_streams() == (0, 0)
    assert tts.synthesize("so it is", seed=5).size > 0
    pieces.put("So it is. Is it")
    wait_for(lambda: taken and stream._scheduled.text.is_awaited)
    # Its audio is as short as a tiny voice's words: after that, nobody listens.
    wait_for(lambda: tts.count_streams() == (0, 0))
    assert tts.synthesize("so it is", seed=5).size > 0
    pieces.end()
    listener.join(TIMEOUT_S)
    assert np.array_equal(samples_of(taken), samples_of(tts.stream("So it is. Is it", **SETTINGS)))


ENDS = """
import sys, threading
from balacoon_tk import TTS

def write():
    yield "So it is. Is it"
    threading.Event().wait()

# All of the first sentence, so that the next one is awaited in a thread.
stream = TTS(sys.argv[1]).stream(write(), strategy="overlap", seed=5, chunk_frames=10_000)
print(len(next(stream).samples) > 0)
"""


def test_a_program_ends_though_its_writer_never_does(tiny_voice_folder):
    result = subprocess.run(
        [sys.executable, "-P", "-c", ENDS, tiny_voice_folder],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "True\n", "")


def test_who_has_no_text_yet_is_not_refused_for_those_who_play(tiny_voice):
    tts = TTS(tiny_voice, max_streams=1, max_waiting=0)
    playing = tts.stream(TEXT, **SETTINGS)
    next(playing)
    # As if much had been handed over: a tiny voice's chunk has sounded at once.
    playing._scheduled.ends_s += 1000.0
    pieces = Pieces()
    stream, taken = tts.stream(pieces, **SETTINGS), []
    listener = threading.Thread(target=lambda: taken.extend(stream))
    listener.start()
    wait_for(lambda: stream._scheduled.text.is_awaited)
    assert tts.count_streams() == (1, 0)
    playing.close()
    pieces.put("so it is")
    pieces.end()
    listener.join(TIMEOUT_S)
    assert taken


# --- asyncio


def run(work):
    return asyncio.run(asyncio.wait_for(work, TIMEOUT_S))


async def collect(stream):
    return [chunk async for chunk in stream]


@pytest.mark.parametrize("places", [[], [3, 11, 12, 13, 40], range(0, 100, 1)])
def test_an_asynchronous_iterable_gives_the_samples_of_the_whole_text(tts, places):
    loops = set()

    async def write():
        for piece in cut(TEXT, places):
            loops.add(asyncio.get_running_loop())
            await asyncio.sleep(0)
            yield piece

    async def speak():
        loops.add(asyncio.get_running_loop())
        return await collect(tts.astream(write(), **SETTINGS))

    assert np.array_equal(samples_of(run(speak())), samples_of(tts.stream(TEXT, **SETTINGS)))
    assert len(loops) == 1
    assert np.array_equal(
        samples_of(run(collect(tts.astream(iter(cut(TEXT, places)), **SETTINGS)))),
        samples_of(tts.stream(TEXT, **SETTINGS)),
    )


def test_more_pieces_than_there_is_room_for_all_come(tts):
    async def write():
        for _ in range(600):
            yield "so"
        yield " it is."

    async def speak():
        return await collect(tts.astream(write(), **SETTINGS))

    expected = samples_of(tts.stream("so" * 600 + " it is.", **SETTINGS))
    assert np.array_equal(samples_of(run(speak())), expected)
    pieces = itertools.chain(itertools.repeat("so", 600), [" it is."])
    assert np.array_equal(samples_of(tts.stream(pieces, **SETTINGS)), expected)


def test_an_asynchronous_iterable_is_closed_with_the_stream(tts):
    closed = []

    async def write():
        try:
            yield "So it is. Is it"
            await asyncio.Event().wait()
        finally:
            closed.append(asyncio.get_running_loop())

    async def leave():
        stream = tts.astream(write(), **SETTINGS)
        await anext(stream)
        await stream.aclose()
        await asyncio.sleep(0.01)
        assert len(closed) == 1

    async def cancel():
        stream = tts.astream(write(), **SETTINGS)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(collect(stream), 0.1)
        await asyncio.sleep(0.01)
        assert len(closed) == 2

    async def forget():
        await anext(tts.astream(write(), **SETTINGS))

    run(leave())
    run(cancel())
    run(forget())
    assert len(closed) == 3


def test_an_error_of_an_asynchronous_iterable_passes_on(tts):
    async def write():
        yield "So it is"
        raise ConnectionError("gone")

    async def speak():
        chunks = []
        with pytest.raises(ConnectionError, match="gone"):
            async for chunk in tts.astream(write(), **SETTINGS):
                chunks.append(chunk)  # noqa: PERF401 - they are kept where an error ends them
        return chunks

    assert np.array_equal(samples_of(run(speak())), samples_of(tts.stream("So it is", **SETTINGS)))


def test_a_stream_of_pieces_is_for_one_listener_at_a_time(tts):
    pieces = Pieces()
    stream = tts.stream(pieces, **SETTINGS)
    listener = threading.Thread(target=lambda: list(stream))
    listener.start()
    wait_for(lambda: stream._scheduled.text.is_awaited)
    with pytest.raises(StreamStateError, match="another thread is waiting"):
        next(stream)
    pieces.put("so")
    pieces.end()
    listener.join(TIMEOUT_S)
