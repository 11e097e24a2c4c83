"""Where the native engine's threads run."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path

import pytest

from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.native.program import Program
from balacoon_tk.runtime.options import RuntimeOptions
from native_laws import ONE_THREAD, assert_same_bits
from native_programs import TWO_THREADS, feeds_of, vocoder

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system says nothing of the processors of a thread"
)


@pytest.fixture(scope="module")
def program() -> Program:
    return vocoder()


def test_threads_that_were_woken_may_run_wherever_they_might_before(program) -> None:
    tasks = Path("/proc/self/task")
    others = {path.name for path in tasks.iterdir()}  # ONNX Runtime's threads, say, which it may pin
    engine = NativeEngine(program, RuntimeOptions(n_threads=5))  # as no other test, which would share them
    feeds, allowed = feeds_of(program, 40), os.sched_getaffinity(0)
    for _ in range(20):
        engine.whole(feeds)
        time.sleep(0.005)  # so that they fall asleep
    threads = [int(path.name) for path in tasks.iterdir() if path.name not in others]

    def are_free() -> bool:
        return all(os.sched_getaffinity(thread) == allowed for thread in threads)

    deadline = time.monotonic() + 30
    while not are_free() and time.monotonic() < deadline:
        time.sleep(0.001)  # one that was woken too late to help may not have run yet
    assert threads and are_free()


def test_threads_that_have_nothing_to_do_sleep(program) -> None:
    engine = NativeEngine(program, RuntimeOptions(n_threads=5))
    engine.whole(feeds_of(program, 40))
    time.sleep(0.1)  # they wait for the next run, but not so long
    busy_s = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - busy_s < 0.25


def test_programs_share_their_threads(program) -> None:
    options = RuntimeOptions(n_threads=7)  # as no other test, which would share them
    tasks, feeds = Path("/proc/self/task"), feeds_of(program, 40)
    first, second = (NativeEngine(program, options) for _ in range(2))
    wanted = NativeEngine(program, ONE_THREAD).whole(feeds)
    others = {path.name for path in tasks.iterdir()}
    for engine in (first, second, first):
        assert_same_bits(engine.whole(feeds), wanted)
        assert len({path.name for path in tasks.iterdir()} - others) == 6
    del first, engine
    assert_same_bits(second.whole(feeds), wanted)
    del second
    gc.collect()
    assert {path.name for path in tasks.iterdir()} <= others


def test_threads_may_have_one_processor_for_all_of_them(program) -> None:
    engine = NativeEngine(program, ONE_THREAD)
    feeds, allowed = feeds_of(program, 40), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        together = NativeEngine(program, TWO_THREADS)
        for _ in range(5):
            assert_same_bits(together.whole(feeds), engine.whole(feeds))
            time.sleep(0.002)
    finally:
        os.sched_setaffinity(0, allowed)
