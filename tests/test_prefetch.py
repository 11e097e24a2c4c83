"""One item ahead: what is made when, by whom, and where errors come out."""

import gc
import itertools
import subprocess
import sys
import threading
import time
import weakref

import pytest

from balacoon_tk.runtime.background import Prefetch

WORKER = "next-sentence"


def workers():
    return [thread for thread in threading.enumerate() if thread.name == WORKER]


def make(items):
    return Prefetch(iter(items), threading.Event())


def test_it_gives_the_items_in_order_whoever_makes_them():
    for begun in itertools.product([False, True], repeat=4):
        ahead, found = make([1, 2, 3]), []
        for begins in begun:
            if begins:
                ahead.begin()
                ahead.begin()  # begun already: one ahead and no more
            found.append(ahead.take())
        assert found == [1, 2, 3, None]
        assert ahead.take() is None
    assert not workers()


def test_an_item_that_was_begun_is_made_in_a_thread_and_only_that_one():
    seen = []

    def items():
        for i in range(3):
            seen.append(threading.current_thread().name)
            yield i

    ahead = make(items())
    assert ahead.take() == 0
    ahead.begin()
    ahead._coming.wait()
    time.sleep(0.01)
    assert seen == ["MainThread", WORKER]
    assert [ahead.take(), ahead.take()] == [1, 2]
    assert seen == ["MainThread", WORKER, "MainThread"]


@pytest.mark.parametrize("begins", [False, True])
def test_an_error_comes_when_its_item_is_asked_for(begins):
    def items():
        yield 1
        raise ValueError("no second")

    ahead = make(items())
    assert ahead.take() == 1
    if begins:
        ahead.begin()
        ahead._coming.wait()
    with pytest.raises(ValueError, match="no second"):
        ahead.take()
    assert ahead.take() is None


def test_after_closing_nothing_is_begun_and_a_delay_is_over():
    made = []
    ahead = make(made.append(i) or i for i in range(3))
    ahead.begin(delay_s=60.0)
    (worker,) = workers()
    ahead._closed.set()
    worker.join(10.0)
    assert not worker.is_alive()
    ahead.begin()
    assert not workers()
    assert made == []


def test_where_there_is_no_thread_to_be_had_the_item_is_made_when_it_is_asked_for(monkeypatch):
    def fail(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    ahead = make([1, 2])
    assert ahead.take() == 1
    ahead.begin()
    assert [ahead.take(), ahead.take()] == [2, None]


def test_what_is_ahead_is_given_free_with_it():
    class Item:
        pass

    ahead = make(Item() for _ in range(3))
    item = ahead.take()
    kept = weakref.ref(item)
    ahead.begin()
    ahead._coming.wait()
    del item
    gc.collect()
    assert kept() is None


def test_a_program_may_end_while_an_item_is_being_made():
    program = (
        "import threading, time\n"
        "from balacoon_tk.runtime.background import Prefetch\n"
        "def items():\n"
        "    time.sleep(0.3)\n"
        "    yield print('made', flush=True)\n"
        "ahead = Prefetch(items(), threading.Event())\n"
        "ahead.begin()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "made\n", "")
