"""Streams for asyncio: the same samples, a loop that stays free, and nothing left behind."""

import asyncio
import gc
import threading
import time

import numpy as np
import pytest

from balacoon_tk import TTS
from balacoon_tk.errors import BusyError, ParameterError, StreamStateError
from gate import TIMEOUT_S, Gate

TEXT = "So it is. Is it so? It is, and so it stays. Oh."
SETTINGS = {"strategy": "overlap", "seed": 5, "chunk_frames": 5}


@pytest.fixture(scope="module")
def tts(tiny_voice):
    return TTS(tiny_voice)


def samples_of(chunks):
    return np.concatenate([np.zeros(0, np.float32), *(chunk.samples for chunk in chunks)])


async def collect(stream):
    return [chunk async for chunk in stream]


def run(work):
    return asyncio.run(asyncio.wait_for(work, TIMEOUT_S))


def workers():
    return [each for each in threading.enumerate() if each.name in ("async-stream", "next-sentence")]


def wait_for(condition):
    end_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def nothing_stays_behind(tts):
    yield
    gc.collect()
    wait_for(lambda: not workers())
    assert tts.count_streams() == (0, 0)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"strategy": "full", "chunk_frames": None},
        {"speed": 2.0, "volume": 0.5, "noise_scale": 0.1, "noise_w": 0.2, "speaker": 0},
    ],
)
def test_it_gives_the_chunks_that_a_stream_gives(tts, settings):
    expected = list(tts.stream(TEXT, **{**SETTINGS, **settings}))
    found = run(collect(tts.astream(TEXT, **{**SETTINGS, **settings})))
    assert len(found) == len(expected) > 1
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.samples, other.samples)
        assert (one.start_sample, one.alignment) == (other.start_sample, other.alignment)


def test_several_tasks_and_several_loops_get_what_one_gets(tts):
    async def several(seeds):
        streams = [tts.astream(TEXT, **{**SETTINGS, "seed": seed}) for seed in seeds]
        return [samples_of(found) for found in await asyncio.gather(*map(collect, streams))]

    found = {}

    def loop(first):
        found[first] = run(several(range(first, first + 4)))

    threads = [threading.Thread(target=loop, args=(first,)) for first in (0, 4, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    for first, several_found in found.items():
        for seed, samples in enumerate(several_found, start=first):
            assert np.array_equal(samples, samples_of(tts.stream(TEXT, **{**SETTINGS, "seed": seed})))
    assert len(found) == 3


def test_a_stream_may_go_on_in_another_loop(tts):
    stream = tts.astream(TEXT, **SETTINGS)
    first = run(anext(stream))
    rest = run(collect(stream))
    assert np.array_equal(samples_of([first, *rest]), samples_of(tts.stream(TEXT, **SETTINGS)))


def test_the_loop_goes_on_while_a_chunk_is_made(tiny_voice):
    gate = Gate()

    async def work():
        stream = TTS(tiny_voice, frontend=gate).astream("so", **SETTINGS)
        task = asyncio.ensure_future(collect_two_sentences(stream))
        while not gate.reached.is_set():
            await asyncio.sleep(0)
        # The loop is here although the stream's next chunk isn't: nothing but this lets it come.
        assert not task.done()
        gate.open.set()
        await task

    async def collect_two_sentences(stream):
        async for chunk in stream:
            if chunk.start_sample > 200:
                break

    run(work())


def test_nothing_is_made_that_nobody_asks_for(tts, monkeypatch):
    made = []
    hand_over = "balacoon_tk.runtime.scheduler.ScheduledStream.hand_over"
    original = __import__("balacoon_tk.runtime.scheduler", fromlist=["x"]).ScheduledStream.hand_over
    monkeypatch.setattr(hand_over, lambda self, audio_s: made.append(audio_s) or original(self, audio_s))

    async def work():
        stream = tts.astream(TEXT, **SETTINGS)
        assert made == []
        for n_taken in range(1, 4):
            await anext(stream)
            await asyncio.sleep(0.02)
            assert len(made) == n_taken
        await stream.aclose()

    run(work())


def test_cancelling_the_task_ends_the_stream(tiny_voice):
    gate, tts = Gate(), TTS(tiny_voice)
    slow = TTS(tiny_voice, frontend=gate)

    async def work():
        stream = slow.astream("so", **SETTINGS)
        task = asyncio.ensure_future(collect(stream))
        while not gate.reached.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    run(work())
    gate.open.set()
    wait_for(lambda: not workers())
    assert slow.count_streams() == (0, 0)
    assert len(tts.synthesize("so", seed=1))


def test_whoever_waits_for_its_turn_can_be_cancelled(tiny_voice):
    tts = TTS(tiny_voice, max_streams=1)
    with_place = tts.stream(TEXT, strategy="full")
    next(with_place)  # whose audio lasts longer than this test

    async def work():
        task = asyncio.ensure_future(collect(tts.astream(TEXT, **SETTINGS)))
        while tts.count_streams() != (1, 1):
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while tts.count_streams() != (1, 0):
            await asyncio.sleep(0.001)

    run(work())
    with_place.close()
    wait_for(lambda: tts.count_streams() == (0, 0))


def test_it_may_be_closed_and_left_anywhere(tts):
    async def work():
        for n_taken in range(4):
            for close in (True, False):
                stream = tts.astream(TEXT, **SETTINGS)
                for _ in range(n_taken):
                    await anext(stream)
                if close:
                    await stream.aclose()
                    await stream.aclose()
                    assert await collect(stream) == []

    run(work())


def test_a_loop_that_ends_in_the_middle_leaves_nothing_behind(tts):
    loop = asyncio.new_event_loop()
    stream = tts.astream(TEXT, **SETTINGS)
    loop.run_until_complete(anext(stream))
    loop.close()
    del stream


def test_what_is_wrong_is_told_where_it_is_known(tts):
    for wrong in ({"speed": 0}, {"strategy": "fast"}, {"speaker": "eve"}, {"chunk_frames": 0}):
        with pytest.raises(ParameterError):
            tts.astream(TEXT, **{**SETTINGS, **wrong})
    with pytest.raises(ParameterError, match="text=None must be a str"):
        tts.astream(None)
    stream = tts.astream("so [[it", **SETTINGS)
    with pytest.raises(ParameterError, match="opens raw phonemes"):
        run(anext(stream))
    assert run(collect(stream)) == []


def test_one_too_many_is_told(tiny_voice):
    tts = TTS(tiny_voice, max_streams=1, max_waiting=0)

    async def work():
        stream = tts.astream(TEXT, strategy="full")
        await anext(stream)
        with pytest.raises(BusyError, match="1 streams play and 0 wait"):
            await anext(tts.astream(TEXT, **SETTINGS))
        await stream.aclose()
        assert len(await collect(tts.astream(TEXT, **SETTINGS))) > 1

    run(work())


def test_one_stream_is_for_one_task_at_a_time(tiny_voice):
    gate = Gate()

    async def work():
        stream = TTS(tiny_voice, frontend=gate).astream("so", **SETTINGS)
        task = asyncio.ensure_future(collect(stream))
        while not gate.reached.is_set():
            await asyncio.sleep(0)
        with pytest.raises(StreamStateError, match="another task is waiting"):
            await anext(stream)
        await stream.aclose()
        gate.open.set()
        assert len(await task)

    run(work())
