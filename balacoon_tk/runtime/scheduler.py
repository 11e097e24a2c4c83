"""A scheduler of the streams on one device: earliest deadline first.

A graph's run takes all of its threads for its whole length, so that more runs at once than there are
processors only make each of them late. Here one run follows another, and whose sound ends first goes first::

    1. streams that play and have less than `URGENT_S` of audio left, the least first
    2. streams that have not sounded yet, in the order in which they came
    3. other streams that play, the one with the least audio left first

So whoever listens already is served before whoever waits for a first sound: the newest ones begin late, and
those that play go on without a gap. How many are let in at all, `balacoon_tk.runtime.admission` decides. A
stream alone never waits.

How much audio a stream has left is what was handed over, played from its first chunk on without a pause.
The order is that of earliest deadlines: Liu and Layland, "Scheduling Algorithms for Multiprogramming in a
Hard-Real-Time Environment", 1973, section 7.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import threading
import time
from collections.abc import Callable

from balacoon_tk.errors import ParameterError
from balacoon_tk.runtime.admission import Admission, Crowd, Load, StreamClosedError
from balacoon_tk.runtime.machine import n_processors
from balacoon_tk.runtime.process import generation
from balacoon_tk.runtime.text_feed import TextFeed

# A stream that plays goes before a first sound if it has less audio left than this: enough for the work of
# others that has begun, an encoder's or a steady chunk's, and then its own.
URGENT_S = 0.25

_Ticket = tuple[float, int, "Slot"]


class Scheduler:
    """Processors that are given to one run after another; `clock` gives the time in seconds."""

    def __init__(self, n_processors: int, *, clock: Callable[[], float] = time.perf_counter) -> None:
        if n_processors < 1:
            raise ParameterError(f"n_processors={n_processors} must be >= 1")
        self.n_processors = n_processors
        self.clock = clock
        self.admission = Admission(n_processors, clock=clock)
        self._lock = threading.Lock()
        self._n_free = n_processors
        # Among equal times the one that has asked first goes first; slots themselves have no order.
        self._numbers = itertools.count()
        self._playing: list[_Ticket] = []  # heaps: when the audio ends, or when the stream came
        self._silent: list[_Ticket] = []

    def join(self, n_threads: int | None = None) -> ScheduledStream:
        """Return a new stream, whose runs take so many processors; all if None, or if there are no more."""
        n_wanted = self.n_processors if n_threads is None else min(n_threads, self.n_processors)
        return ScheduledStream(self, n_wanted)

    def _take(self, slot: Slot) -> None:
        stream = slot.stream
        with self._lock:
            if stream.closed.is_set():
                raise StreamClosedError
            # A stream alone takes this way: no heap, and no lock of a slot.
            if self._n_free >= stream.n_threads and not (self._playing or self._silent):
                self._n_free -= stream.n_threads
                return
            slot.granted.acquire()  # is free again when the slot has come
            heap = self._silent if stream.ends_s is None else self._playing
            due_s = stream.came_s if stream.ends_s is None else stream.ends_s
            heapq.heappush(heap, (due_s, next(self._numbers), slot))
            self._grant()
        try:
            slot.granted.acquire()
        except BaseException:  # the wait was interrupted
            with self._lock:
                if not slot.withdrawn and not self._forget(slot):
                    self._n_free += stream.n_threads
                    self._grant()
            raise
        if slot.withdrawn:
            raise StreamClosedError

    def _give_back(self, stream: ScheduledStream, taken_s: float) -> None:
        with self._lock:
            stream.busy_s += taken_s * stream.n_threads
            self._n_free += stream.n_threads
            if self._playing or self._silent:
                self._grant()

    def _withdraw(self, stream: ScheduledStream) -> None:
        """Let nobody wait for a slot of a stream any more."""
        with self._lock:
            waiting = [ticket[2] for ticket in (*self._playing, *self._silent) if ticket[2].stream is stream]
            for slot in waiting:
                self._forget(slot)
                slot.withdrawn = True
                slot.granted.release()
            # The one who left may have kept those behind it from processors that are free.
            self._grant()

    def _grant(self) -> None:
        # Called with the lock held: a slot that is free must not be given twice.
        while heap := self._next():
            slot = heap[0][2]
            # Nobody who needs less goes before: a run of many threads would wait for ever.
            if slot.stream.n_threads > self._n_free:
                return
            heapq.heappop(heap)
            self._n_free -= slot.stream.n_threads
            slot.granted.release()

    def _next(self) -> list[_Ticket]:
        # The heap whose first is next by the order above; an empty one if nobody waits.
        if self._silent and not (self._playing and self._playing[0][0] - self.clock() < URGENT_S):
            return self._silent
        return self._playing

    def _forget(self, slot: Slot) -> bool:
        # False if the slot has come meanwhile: then its processors must be given back.
        for heap in (self._playing, self._silent):
            for ticket in heap:
                if ticket[2] is slot:
                    heap.remove(ticket)
                    heapq.heapify(heap)
                    return True
        return False


class ScheduledStream:
    """One stream among those that are scheduled; times are by the clock of its scheduler.

    It begins with `enter`, which may wait, and ends with `leave`; whoever closes it sets `closed`.
    """

    def __init__(self, scheduler: Scheduler, n_threads: int) -> None:
        self.n_threads = n_threads
        self.came_s = scheduler.clock()
        self.ends_s: float | None = None  # when what was handed over has been played; None before the first
        self.busy_s = 0.0  # of processors, for audio that isn't handed over yet
        self.asked = False  # whether somebody waits for a chunk now
        self.text: TextFeed | None = None  # where its text comes from, if it comes in pieces
        self.needs_text = False  # whether nothing can be made for it before more text comes
        self.load = Load()
        self.crowd = Crowd()
        self.closed = threading.Event()
        self._scheduler = scheduler
        self._process = generation()

    @property
    def of_this_process(self) -> bool:
        """Whether it began here, and not in a process that this one is a fork of."""
        return self._process == generation()

    @property
    def waits_for_us(self) -> bool:
        """Whether somebody waits for a chunk, and it isn't the text that keeps them waiting."""
        return self.asked and not (self.needs_text and self.text is not None and self.text.is_awaited)

    def enter(self, crowd: Crowd, load: Load) -> None:
        """Wait until there is room; `BusyError` if no more may wait, `StreamClosedError` if it is closed."""
        self.crowd, self.load = crowd, load
        # Not when it was made: a stream may be kept for a while before it is begun.
        self.came_s = self._scheduler.clock()
        self._scheduler.admission.enter(self)

    def leave(self) -> None:
        """Make room for others; does nothing the second time, nor in a child that was forked meanwhile."""
        # The child has a scheduler of its own, and the lock of this one may be held by a thread it hasn't.
        if self.of_this_process:
            self._scheduler.admission.leave(self)

    def close(self) -> None:
        """End every wait of this stream, in whatever thread it is; a run that has begun is not ended."""
        if self.of_this_process:
            self.drop()
            self._scheduler.admission.withdraw(self)
            self._scheduler._withdraw(self)

    def drop(self) -> None:
        """Let it end at its next step, and its wait for text now; takes no lock of the scheduler."""
        self.closed.set()
        if self.text is not None:
            self.text.close()

    def slot(self) -> Slot:
        """Return a slot to be waited for by ``with``; a stream may wait for two, in two threads."""
        return Slot(self._scheduler, self)

    def hand_over(self, audio_s: float) -> None:
        """Note that so many seconds of audio are handed over now."""
        now_s = self._scheduler.clock()
        # If there was a gap, or whoever listens made a pause, playback goes on from here.
        self.ends_s = audio_s + (now_s if self.ends_s is None else max(self.ends_s, now_s))
        self.load.add(self.busy_s, audio_s)
        self.busy_s = 0.0
        # What is known of the costs has changed, and with it for how many there is room.
        self._scheduler.admission.look()


class Slot:
    """The processors for one run: ``with`` waits for them, and gives them back."""

    __slots__ = ("_begun_s", "_scheduler", "granted", "stream", "withdrawn")

    def __init__(self, scheduler: Scheduler, stream: ScheduledStream) -> None:
        self._scheduler = scheduler
        self._begun_s = 0.0
        self.stream = stream
        self.granted = threading.Lock()
        self.withdrawn = False

    def __enter__(self) -> None:
        self._scheduler._take(self)
        self._begun_s = self._scheduler.clock()

    def __exit__(self, *_error: object) -> None:
        self._scheduler._give_back(self.stream, self._scheduler.clock() - self._begun_s)


def scheduler_of(device: str) -> Scheduler:
    """Return the scheduler that all streams of this process on one device share."""
    # A child that was forked begins with none: its parent's waits for streams that aren't there.
    return _scheduler_of(device, generation())


@functools.cache
def _scheduler_of(device: str, _process: int) -> Scheduler:
    # Another device runs one graph at a time: what would run beside it would only share its units with it.
    if device != "cpu":
        return Scheduler(1)
    return Scheduler(n_processors())
