"""Who is let in, who waits and in which order, who is refused; and that nobody stays behind."""

import threading
import time

import pytest

from balacoon_tk.errors import BusyError, ParameterError
from balacoon_tk.runtime.admission import SHARE, Crowd, Load, StreamClosedError
from balacoon_tk.runtime.scheduler import Scheduler

TIMEOUT_S = 5.0


def wait_for(condition):
    end_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.0005)


class Door:
    """Streams that come in threads of their own, and the order in which they are let in."""

    def __init__(self, n_processors=2):
        self.now_s = 100.0
        self.scheduler = Scheduler(n_processors, clock=lambda: self.now_s)
        self.admission = self.scheduler.admission
        self.streams, self.order, self.refused, self.closed, self.threads = {}, [], [], [], []

    def come(self, name, crowd, load=None, n_threads=1):
        """Let one come, and wait until it is inside, waits, or is refused."""
        stream = self.streams[name] = self.scheduler.join(n_threads)
        stream.asked = True

        def enter():
            try:
                stream.enter(crowd, load or Load())
            except BusyError as error:
                self.refused.append((name, error))
            except StreamClosedError:
                self.closed.append(name)
            else:
                self.order.append(name)

        n_before = len(self.admission._waiting)
        self.threads.append(threading.Thread(target=enter, daemon=True))
        self.threads[-1].start()
        wait_for(lambda: not self.threads[-1].is_alive() or len(self.admission._waiting) > n_before)

    def let_in(self, *names):
        """Wait until exactly these have been let in; of several at once chance says whose thread is first."""
        wait_for(lambda: len(self.order) >= len(names))
        assert set(self.order) == set(names)

    def leave(self, name):
        self.streams[name].leave()

    def end(self):
        for stream in self.streams.values():
            stream.leave()
        for thread in self.threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()
        for stream in self.streams.values():
            stream.leave()
        assert not self.admission._listened_to()
        assert not self.admission._waiting


def load_of(share, n_chunks=64):
    """Return the load of a voice that needs so much of a processor."""
    load = Load()
    for _ in range(n_chunks):
        load.add(share * 0.5, 0.5)
    return load


def test_so_many_play_and_the_others_follow_in_the_order_in_which_they_came():
    door, crowd = Door(), Crowd(max_streams=2)
    for name in "abcde":
        door.come(name, crowd)
    assert door.order == ["a", "b"]
    assert door.admission.count(crowd) == (2, 3)
    door.leave("b")
    door.let_in("a", "b", "c")
    door.leave("a")
    door.let_in("a", "b", "c", "d")
    door.leave("c")
    door.let_in("a", "b", "c", "d", "e")
    assert door.admission.count(crowd) == (2, 0)
    door.end()


def test_one_more_than_may_wait_is_told_how_many_play_and_wait():
    door, crowd = Door(), Crowd(max_streams=2, max_waiting=1)
    for name in "abcd":
        door.come(name, crowd)
    ((name, error),) = door.refused
    assert (name, error.n_playing, error.n_waiting, error.max_waiting) == ("d", 2, 1, 1)
    assert str(error).startswith("2 streams play and 1 wait: max_waiting=1 lets no more wait")
    door.leave("a")
    door.let_in("a", "b", "c")
    door.end()


def test_where_nobody_may_wait_one_more_is_refused_at_once():
    door, crowd = Door(), Crowd(max_streams=1, max_waiting=0)
    door.come("a", crowd)
    door.come("b", crowd)
    assert [name for name, _ in door.refused] == ["b"]
    door.end()


def test_what_is_measured_says_how_many_there_is_room_for():
    door, crowd, share = Door(n_processors=2), Crowd(), 0.25
    n_most = int(2 * SHARE / share)
    load = load_of(share)
    for k in range(n_most + 3):
        door.come(k, crowd, load)
    door.let_in(*range(n_most))
    assert door.admission.count(crowd) == (n_most, 3)
    # Now they are found to need half of that.
    for _ in range(64):
        load.add(0.05, 0.5)
    door.streams[0].hand_over(0.5)
    door.let_in(*range(n_most + 3))
    door.end()


def test_runs_of_several_threads_need_more():
    door, crowd = Door(n_processors=4), Crowd()
    stream = door.scheduler.join(2)
    stream.enter(crowd, load := Load())
    with stream.slot():
        door.now_s += 0.25
    stream.hand_over(1.0)
    assert load.per_audio_s(2) == pytest.approx(2 * 0.25)
    stream.leave()
    door.end()


def test_of_an_unknown_voice_few_are_let_in_and_its_first_chunk_lets_in_more():
    door, crowd, load = Door(n_processors=2), Crowd(), Load()
    for name in "abcde":
        door.come(name, crowd, load)
    door.let_in("a", "b")
    with door.streams["a"].slot():
        door.now_s += 0.01
    door.streams["a"].hand_over(0.5)
    door.let_in("a", "b", "c", "d", "e")
    door.end()


def test_as_many_as_can_run_at_once_are_let_in_however_slow_the_voice_is():
    for n_threads, n_most in ((1, 4), (2, 2), (3, 1), (4, 1)):
        door, crowd, slow = Door(n_processors=4), Crowd(), load_of(30.0)
        for k in range(6):
            door.come(k, crowd, slow, n_threads)
        assert door.admission.count(crowd) == (n_most, 6 - n_most)
        for k in range(6):
            door.let_in(*range(min(6, n_most + k)))
            door.leave(k)
        door.end()


def test_nobody_is_let_in_while_somebody_hears_a_gap():
    door, crowd, cheap = Door(n_processors=2), Crowd(), load_of(0.01)
    for name in "ab":
        door.come(name, crowd, cheap)
    door.streams["a"].hand_over(1.0)
    door.now_s += 1.5
    door.come("c", crowd, cheap)
    assert door.admission.count(crowd) == (2, 1)
    door.streams["a"].hand_over(1.0)
    door.let_in("a", "b", "c")
    door.end()


def test_a_calibration_is_believed_until_some_chunks_are_measured():
    load = Load(expected=0.05)
    assert load.per_audio_s(1) == 0.05
    for _ in range(7):
        load.add(0.2, 1.0)
    assert load.per_audio_s(1) == 0.05
    load.add(0.2, 1.0)
    assert load.per_audio_s(1) == pytest.approx(0.2)


def test_a_run_during_which_the_machine_stood_still_closes_no_door():
    load = load_of(0.1, 63)
    load.add(20.0, 0.5)
    assert load.per_audio_s(1) < 0.15


def test_only_the_last_chunks_count():
    load = load_of(0.5)
    for _ in range(64):
        load.add(0.05, 0.5)
    assert load.per_audio_s(1) == pytest.approx(0.1)


def test_whoever_neither_asks_nor_plays_keeps_nobody_out():
    door, crowd = Door(), Crowd(max_streams=1)
    door.come("a", crowd)
    door.streams["a"].hand_over(2.0)
    door.streams["a"].asked = False
    door.come("b", crowd)
    assert door.order == ["a"], "what it has is still being played"
    door.now_s += 2.5
    door.let_in("a", "b")
    # It may go on whenever it likes.
    door.streams["a"].asked = True
    assert door.admission.count(crowd) == (2, 0)
    door.end()


def test_a_crowd_that_is_full_keeps_no_other_out_and_nobody_passes_by_in_his_own():
    door, full, free = Door(), Crowd(max_streams=1), Crowd()
    cheap = load_of(0.01)
    for name, crowd in (("a", full), ("b", full), ("c", free), ("d", full)):
        door.come(name, crowd, cheap)
    door.let_in("a", "c")
    door.leave("a")
    door.let_in("a", "c", "b")
    door.end()


def test_nobody_who_needs_less_passes_by_somebody_who_came_before():
    door, one, other = Door(n_processors=2), Crowd(), Crowd()
    for name, crowd, share in (("a", one, 0.6), ("b", one, 0.6), ("c", one, 0.6), ("d", other, 0.01)):
        door.come(name, crowd, load_of(share))
    door.let_in("a", "b")
    door.leave("a")
    door.let_in("a", "b", "c", "d")
    door.end()


def test_closing_ends_a_wait_and_makes_place_for_the_next():
    door, crowd = Door(), Crowd(max_streams=1)
    for name in "abc":
        door.come(name, crowd)
    door.streams["b"].close()
    wait_for(lambda: door.closed == ["b"])
    assert door.admission.count(crowd) == (1, 1)
    door.leave("a")
    door.let_in("a", "c")
    door.end()


def test_a_stream_that_was_closed_is_not_let_in():
    door = Door()
    stream = door.scheduler.join(1)
    stream.close()
    with pytest.raises(StreamClosedError):
        stream.enter(Crowd(), Load())
    with pytest.raises(StreamClosedError), stream.slot():
        pytest.fail("it was given a slot")
    door.end()


def test_closing_ends_a_wait_for_a_slot_and_gives_no_processor_away():
    scheduler = Scheduler(1)
    stream, ended = scheduler.join(1), []

    def work():
        try:
            with stream.slot():
                ended.append("a slot")
        except StreamClosedError:
            ended.append("closed")

    with scheduler.join(1).slot():
        thread = threading.Thread(target=work)
        thread.start()
        wait_for(lambda: scheduler._silent)
        stream.close()
        thread.join(TIMEOUT_S)
        assert ended == ["closed"]
        assert not scheduler._silent
    assert scheduler._n_free == 1


def test_leaving_never_waits_for_a_lock():
    """Garbage is collected anywhere, also where the lock is held."""
    door, crowd = Door(), Crowd(max_streams=1)
    door.come("a", crowd)
    with door.admission._lock:
        door.leave("a")
    door.come("b", crowd)
    door.let_in("a", "b")
    door.end()


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"max_streams": 0}, "max_streams=0 must be an integer >= 1, or None"),
        ({"max_streams": 2.0}, r"max_streams=2\.0 must be"),
        ({"max_streams": True}, "max_streams=True must be"),
        ({"max_waiting": -1}, "max_waiting=-1 must be an integer >= 0, or None"),
    ],
)
def test_a_bound_is_a_number_of_streams(bounds, message):
    with pytest.raises(ParameterError, match=message):
        Crowd(**bounds)
