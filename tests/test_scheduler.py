"""Whose run comes next, where there are more streams than processors."""

import itertools
import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from balacoon_tk import TTS
from balacoon_tk.errors import ParameterError
from balacoon_tk.runtime import scheduler as scheduler_module
from balacoon_tk.runtime.admission import Crowd as StreamCrowd
from balacoon_tk.runtime.admission import Load, StreamClosedError
from balacoon_tk.runtime.scheduler import URGENT_S, Scheduler, scheduler_of
from tiny_voice import HOP_LENGTH, SAMPLE_RATE

TIMEOUT_S = 20.0


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


class Crowd:
    """Streams that ask for turns in threads of their own, and the order in which they get them."""

    def __init__(self, n_processors=1):
        self.clock = Clock()
        self.scheduler = Scheduler(n_processors, clock=self.clock)
        self.order = []
        self.threads = []

    def place(self, *, left_s=None, n_threads=1):
        place = self.scheduler.join(n_threads)
        if left_s is not None:
            place.hand_over(left_s)
        return place

    def ask(self, name, place):
        def work():
            with place.slot():
                self.order.append(name)

        n_before = self.n_waiting()
        self.threads.append(threading.Thread(target=work))
        self.threads[-1].start()
        wait_for(lambda: self.n_waiting() > n_before)

    def n_waiting(self):
        return len(self.scheduler._playing) + len(self.scheduler._silent)

    def finish(self):
        for thread in self.threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()
        return self.order


def wait_for(condition):
    end_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.0005)


def order_of(streams):
    """Let streams ask in every order while one is at work; the order in which they then get their turns."""
    orders = set()
    for asked in itertools.permutations(streams):
        crowd = Crowd()
        places = {name: crowd.place(left_s=left_s) for name, left_s in streams}
        with crowd.place().slot():
            for name, _ in asked:
                crowd.ask(name, places[name])
        orders.add("".join(crowd.finish()))
    return orders


def test_a_lone_stream_never_waits():
    scheduler = Scheduler(1)
    place = scheduler.join()
    for _ in range(3):
        with place.slot():
            assert scheduler._n_free == 0
    assert scheduler._n_free == 1


def test_whose_audio_ends_first_goes_first():
    assert order_of([("a", 0.4), ("b", 0.1), ("c", 0.9), ("d", 0.2)]) == {"bdac"}


def test_a_first_sound_goes_before_those_who_have_time_and_after_those_who_have_not():
    urgent, calm = URGENT_S - 0.01, URGENT_S + 0.01
    assert order_of([("calm", calm), ("urgent", urgent), ("new", None)]) == {"urgentnewcalm"}
    assert order_of([("just calm", URGENT_S), ("new", None)]) == {"newjust calm"}


def test_streams_without_a_sound_go_in_the_order_in_which_they_came():
    crowd = Crowd()
    places = {}
    for name in "abc":
        places[name] = crowd.place()
        crowd.clock.now_s += 0.5
    with crowd.place().slot():
        for name in "cab":
            crowd.ask(name, places[name])
    assert "".join(crowd.finish()) == "abc"


def test_who_has_time_becomes_urgent_by_waiting():
    crowd = Crowd()
    calm = crowd.place(left_s=URGENT_S + 0.1)
    with crowd.place().slot():
        crowd.ask("new", crowd.place())
        crowd.ask("calm", calm)
        crowd.clock.now_s += 0.2
    assert crowd.finish() == ["calm", "new"]


def test_audio_is_played_from_the_first_chunk_on_and_goes_on_after_a_gap():
    crowd = Crowd()
    place = crowd.place()
    assert place.ends_s is None
    place.hand_over(0.5)
    place.hand_over(0.25)
    assert place.ends_s == crowd.clock.now_s + 0.75
    crowd.clock.now_s += 2.0
    place.hand_over(0.5)
    assert place.ends_s == crowd.clock.now_s + 0.5


@pytest.mark.parametrize(
    ("n_processors", "n_threads", "most"),
    [(1, 1, 1), (2, 1, 2), (4, 2, 2), (5, 2, 2), (2, 8, 1), (3, None, 1)],
)
def test_no_more_threads_are_at_work_than_there_are_processors(n_processors, n_threads, most):
    scheduler = Scheduler(n_processors)
    at_work, seen, lock = [0], [], threading.Lock()
    together = threading.Barrier(most)

    def work(place):
        for k in range(20):
            with place.slot():
                with lock:
                    at_work[0] += 1
                    seen.append(at_work[0])
                if k == 0:
                    together.wait(TIMEOUT_S)  # so many do get in at once
                with lock:
                    at_work[0] -= 1
            place.hand_over(0.001)

    threads = [threading.Thread(target=work, args=(scheduler.join(n_threads),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()
    assert not together.broken
    assert max(seen) == most
    assert scheduler._n_free == n_processors


def test_a_run_of_many_threads_is_not_passed_by_for_ever():
    crowd = Crowd(n_processors=2)
    with crowd.place().slot():
        crowd.ask("wide", crowd.place(n_threads=2))
        crowd.ask("narrow", crowd.place(n_threads=1))
        assert crowd.order == []  # a processor is free, and kept for the one who is next
    assert crowd.finish() == ["wide", "narrow"]


def test_an_error_in_a_turn_gives_the_processor_back():
    scheduler = Scheduler(1)
    with pytest.raises(RuntimeError, match="broken"), scheduler.join().slot():
        raise RuntimeError("broken")
    assert scheduler._n_free == 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such signal here")
def test_a_wait_that_is_interrupted_leaves_nothing_behind():
    scheduler = Scheduler(1)
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with scheduler.join().slot():
            entered.set()
            leave.wait(TIMEOUT_S)

    def interrupt(number, frame):
        raise KeyboardInterrupt

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(TIMEOUT_S)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt), scheduler.join().slot():
            pytest.fail("the processor was taken")
    finally:
        signal.signal(signal.SIGALRM, before)
    leave.set()
    holder.join(TIMEOUT_S)
    assert scheduler._n_free == 1
    assert not scheduler._playing
    assert not scheduler._silent


class Interrupted:
    """The lock of a slot, whose wait is interrupted just after something else has happened."""

    def __init__(self, meanwhile):
        self.meanwhile, self.n_asked = meanwhile, 0

    def acquire(self):
        self.n_asked += 1
        if self.n_asked == 2:
            self.meanwhile()
            raise KeyboardInterrupt

    def release(self):
        pass


@pytest.mark.parametrize("left_s", [None, 0.5])
@pytest.mark.parametrize("comes", [False, True])
def test_an_interrupted_wait_gives_back_what_came_meanwhile_and_no_more(comes, left_s):
    crowd = Crowd()
    holder, slot = crowd.place().slot(), crowd.place(left_s=left_s).slot()
    holder.__enter__()
    slot.granted = Interrupted(lambda: comes and holder.__exit__())
    with pytest.raises(KeyboardInterrupt):
        slot.__enter__()
    assert crowd.n_waiting() == 0
    assert crowd.scheduler._n_free == int(comes)


def test_an_interrupted_wait_gives_nobody_a_processor_that_is_at_work():
    crowd = Crowd()
    with crowd.place().slot():
        crowd.ask("before", crowd.place())
        slot = crowd.place().slot()
        slot.granted = Interrupted(lambda: None)
        with pytest.raises(KeyboardInterrupt):
            slot.__enter__()
        # If the first who waits had gone in, it would have left, or the slot would still be behind it.
        assert slot not in [ticket[2] for ticket in crowd.scheduler._silent]
        assert crowd.order == []
    assert crowd.finish() == ["before"]
    assert crowd.scheduler._n_free == 1


@pytest.mark.parametrize("left_s", [None, 0.5])
def test_closing_a_stream_ends_its_own_wait_alone(left_s):
    crowd = Crowd()
    places = {name: crowd.place(left_s=left_s) for name in ("leaving", "staying")}
    ended = []

    def work(name):
        try:
            with places[name].slot():
                ended.append(name)
        except StreamClosedError:
            ended.append(f"{name}: closed")

    threads = [threading.Thread(target=work, args=(name,)) for name in places]
    with crowd.place().slot():
        for thread in threads:
            thread.start()
        wait_for(lambda: crowd.n_waiting() == 2)
        places["leaving"].close()
        wait_for(lambda: ended)
        assert ended == ["leaving: closed"]
        assert crowd.n_waiting() == 1
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert ended == ["leaving: closed", "staying"]
    assert crowd.scheduler._n_free == 1
    with pytest.raises(StreamClosedError), places["leaving"].slot():
        pytest.fail("it is closed")


def test_time_in_slots_counts_for_each_processor_until_audio_is_handed_over():
    crowd = Crowd(n_processors=4)
    place = crowd.place(n_threads=2)
    with place.slot():
        crowd.clock.now_s += 0.25
    assert place.busy_s == 0.5
    with place.slot():
        crowd.clock.now_s += 0.5
    assert place.busy_s == 1.5
    place.hand_over(1.0)
    assert place.busy_s == 0.0


@pytest.mark.parametrize(
    ("asked", "needs_text", "is_awaited", "waits"),
    [
        (False, False, False, False),
        (True, False, False, True),
        (True, True, None, True),  # all of its text is there
        (True, True, False, True),
        (True, False, True, True),
        (True, True, True, False),
        (False, True, True, False),
    ],
)
def test_who_waits_for_text_does_not_wait_for_us(asked, needs_text, is_awaited, waits):
    place = Scheduler(1).join()
    assert (place.asked, place.needs_text) == (False, False)
    place.asked, place.needs_text = asked, needs_text
    place.text = None if is_awaited is None else SimpleNamespace(is_awaited=is_awaited)
    assert place.waits_for_us is waits


def test_a_stream_of_another_process_is_left_alone(monkeypatch):
    scheduler, crowd = Scheduler(1), StreamCrowd()
    place = scheduler.join()
    place.enter(crowd, Load())
    place.asked = True
    here = scheduler_module.generation()
    monkeypatch.setattr(scheduler_module, "generation", lambda: here + 1)
    assert place.of_this_process is False
    place.leave()
    place.close()
    assert not place.closed.is_set()
    assert scheduler.admission.count(crowd).n_playing == 1
    monkeypatch.setattr(scheduler_module, "generation", lambda: here)
    assert place.of_this_process is True
    place.leave()
    assert scheduler.admission.count(crowd).n_playing == 0
    place.close()
    assert place.closed.is_set()


def test_as_many_processors_are_given_as_this_process_may_use(monkeypatch):
    of_device = scheduler_module._scheduler_of.__wrapped__
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0: {1, 2, 5}}[pid], raising=False)
    assert of_device("cpu", 0).n_processors == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    for counted, given in ((7, 7), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda counted=counted: counted)
        assert of_device("cpu", 0).n_processors == given


def test_there_must_be_a_processor():
    with pytest.raises(ParameterError, match="n_processors=0 must be >= 1"):
        Scheduler(0)


def test_every_run_of_a_stream_takes_a_turn_and_tells_what_it_gave(tiny_voice, monkeypatch):
    scheduler = Scheduler(1)
    given = []
    monkeypatch.setattr("balacoon_tk.tts.scheduler_of", lambda device: scheduler)
    join = scheduler.join

    def watched(n_threads):
        place = join(n_threads)
        hand_over = place.hand_over
        place.hand_over = lambda audio_s: given.append(audio_s) or hand_over(audio_s)
        return place

    monkeypatch.setattr(scheduler, "join", watched)
    tts = TTS(tiny_voice)
    free = []

    def watch(owner, name):
        work = getattr(owner, name)

        def watched_work(*args, **kwargs):
            free.append(scheduler._n_free)
            return work(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched_work)

    watch(tts.voice.encoder, "encode")
    watch(tts.voice.decoder.session, "run")
    chunks = list(tts.stream("so it is. and so it stays.", strategy="overlap", seed=1, chunk_frames=7))
    assert len(free) == 2 + len(chunks)  # an encoder for each sentence, a decoder for each chunk
    assert set(free) == {0}
    assert given == [chunk.duration_s for chunk in chunks]
    assert sum(given) == pytest.approx(sum(len(chunk.samples) for chunk in chunks) / SAMPLE_RATE)
    assert all(len(chunk.samples) % HOP_LENGTH == 0 for chunk in chunks)
    assert scheduler._n_free == 1


def test_all_streams_on_a_device_share_its_scheduler():
    assert scheduler_of("cpu") is scheduler_of("cpu")
    assert scheduler_of("cpu").n_processors >= 1
    assert scheduler_of("cuda:0") is not scheduler_of("cpu")
    assert scheduler_of("cuda:0").n_processors == 1
