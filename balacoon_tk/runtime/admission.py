"""Who is let in: as many streams as play without a gap, the others in the order in which they came.

A scheduler serves whoever plays first, which helps nobody once all together need more than there is: then
each of them waits, again and again. So a stream is let in while what all of them need is less than that::

    sum over streams of  seconds in slots * threads / seconds of audio  <=  `SHARE` * processors

What a stream needs is measured as it goes, by the clock, so that it is more where other programs want the
processors as well. A stream of a voice of which nothing is known yet is taken for a slow one; its first chunk
says more, and lets others in. Nobody is let in while somebody who plays hears a gap. As many as can run at
once are let in whatever they need: a processor that is free helps nobody.

Whoever has a stream and neither asks for its next chunk nor still plays the last one needs nothing meanwhile,
and isn't counted: a stream that was left lying about keeps nobody out, and a thread that takes several in
turn waits for itself no longer than the audio lasts that it has. Nor is a stream that has to wait for its
text, once its audio is over: it was let in, and goes on when text comes.
"""

from __future__ import annotations

import statistics
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from balacoon_tk.errors import BusyError, ParameterError

if TYPE_CHECKING:
    from balacoon_tk.runtime.scheduler import ScheduledStream

SHARE = 0.7
"""Of the processors' time: the rest is for first sounds, for the frontend, and for chance."""
MAX_WAITING = 1000
"""Streams that wait, where nobody says how many may: more than a program means to begin at once."""

_UNKNOWN = 0.5  # seconds of a run for a second of audio, before anything was measured
_N_REMEMBERED = 64  # chunks
_OUTLIER = 16.0  # times the median: a run during which the machine stood still says nothing of the voice
_LOOK_S = 0.1  # how often the first who waits looks whether somebody has stopped listening


class StreamClosedError(Exception):
    """A stream was closed while it waited; whoever asks it for chunks sees its end."""


@dataclass(frozen=True, slots=True, eq=False)
class Crowd:
    """How many streams of one `TTS` may be at once; each such record is a crowd of its own."""

    max_streams: int | None = None
    """Streams that play, as many as can be served if None."""
    max_waiting: int | None = None
    """Streams that wait, `MAX_WAITING` if None."""

    def __post_init__(self) -> None:
        """Refuse what is no number of streams."""
        _check_count("max_streams", self.max_streams, 1)
        _check_count("max_waiting", self.max_waiting, 0)


def _check_count(name: str, value: object, least: int) -> None:
    # To Python true is a number, and nobody's.
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise ParameterError(f"{name}={value!r} must be an integer >= {least}, or None")


class StreamCounts(NamedTuple):
    """How many streams there are of one `TTS`."""

    n_playing: int
    """Those that have been let in and are listened to."""
    n_waiting: int
    """Those that will be let in when there is room."""


class Load:
    """What the streams of one kind need: processor time for a second of audio.

    `expected` is what a calibration says, believed until some chunks have been measured.
    """

    def __init__(self, expected: float | None = None) -> None:
        self._expected = expected
        self._chunks: tuple[tuple[float, float], ...] = ()
        self._found: float | None = None

    def add(self, busy_s: float, audio_s: float) -> None:
        """Note what a chunk took, in seconds of one processor, and how much audio it gave."""
        # A new tuple: streams add from many threads, and a chunk that gets lost so does no harm.
        self._chunks = (*self._chunks[1 - _N_REMEMBERED :], (busy_s, audio_s))
        self._found = None

    def per_audio_s(self, n_threads: int) -> float:
        """Return the processor time for a second of audio, for runs of so many threads."""
        chunks = self._chunks
        if not chunks or (self._expected is not None and len(chunks) < _N_REMEMBERED // 8):
            return _UNKNOWN * n_threads if self._expected is None else self._expected
        if (found := self._found) is None:
            most = _OUTLIER * statistics.median(busy_s / audio_s for busy_s, audio_s in chunks)
            busy_s = sum(min(busy_s, most * audio_s) for busy_s, audio_s in chunks)
            found = self._found = busy_s / sum(audio_s for _, audio_s in chunks)
        return found


class _Ticket:
    """One who waits."""

    __slots__ = ("admitted", "changed", "first", "stream", "withdrawn")

    def __init__(self, stream: ScheduledStream) -> None:
        self.stream = stream
        self.changed = threading.Event()
        self.admitted = self.withdrawn = self.first = False


class Admission:
    """The streams of one device that have been let in, and those that wait."""

    def __init__(self, n_processors: int, *, clock: Callable[[], float]) -> None:
        self._n_processors = n_processors
        self._clock = clock
        self._lock = threading.Lock()
        self._inside: dict[ScheduledStream, None] = {}
        self._left: deque[ScheduledStream] = deque()  # those of them that have left meanwhile
        self._waiting: list[_Ticket] = []

    def enter(self, stream: ScheduledStream) -> None:
        """Let a stream in, waiting for its turn; see `ScheduledStream.enter`."""
        ticket = _Ticket(stream)
        with self._lock:
            if stream.closed.is_set():
                raise StreamClosedError
            self._waiting.append(ticket)
            self._admit()
            if ticket.admitted:
                return
            self._refuse_if_full(ticket)
        try:
            self._wait(ticket)
        except BaseException:  # the wait was interrupted
            self.withdraw(stream)
            self.leave(stream)
            raise

    def leave(self, stream: ScheduledStream) -> None:
        """Let a stream out; never waits."""
        # Garbage is collected wherever memory is asked for, also with the lock held: what ends a stream that
        # nobody holds any more must not want it. Whoever waits first looks again soon in any case.
        self._left.append(stream)
        self.look()

    def withdraw(self, stream: ScheduledStream) -> None:
        """End the wait of a stream, if it waits."""
        with self._lock:
            for ticket in [each for each in self._waiting if each.stream is stream]:
                self._waiting.remove(ticket)
                ticket.withdrawn = True
                ticket.changed.set()
            self._admit()

    def look(self) -> None:
        """Let in whom there is room for now, unless somebody else is about to; never waits."""
        if self._waiting and self._lock.acquire(blocking=False):
            try:
                self._admit()
            finally:
                self._lock.release()

    def count(self, crowd: Crowd) -> StreamCounts:
        """Count the streams of a crowd."""
        with self._lock:
            return self._count(crowd)

    def _count(self, crowd: Crowd) -> StreamCounts:
        n_playing = sum(each.crowd is crowd for each in self._listened_to())
        return StreamCounts(n_playing, sum(each.stream.crowd is crowd for each in self._waiting))

    def _refuse_if_full(self, ticket: _Ticket) -> None:
        crowd = ticket.stream.crowd
        n_playing, n_waiting = self._count(crowd)
        max_waiting = MAX_WAITING if crowd.max_waiting is None else crowd.max_waiting
        # The ticket itself is among those that wait.
        if n_waiting > max_waiting:
            self._waiting.remove(ticket)
            raise BusyError(n_playing, n_waiting - 1, max_waiting)

    def _wait(self, ticket: _Ticket) -> None:
        while not ticket.admitted:
            # That somebody stops listening is told by the clock alone; one of a crowd looks at it for all.
            ticket.changed.wait(_LOOK_S if ticket.first else None)
            with self._lock:
                ticket.changed.clear()
                if ticket.withdrawn:
                    raise StreamClosedError
                self._admit()

    def _admit(self) -> None:
        # Called with the lock held, whenever there may be more room, or another first one.
        full: set[Crowd] = set()
        is_crowded = False
        for ticket in tuple(self._waiting):
            crowd = ticket.stream.crowd
            # Nobody who needs less passes by somebody who came before.
            if crowd in full or (is_crowded and crowd.max_streams is None):
                continue
            if self._has_room(ticket.stream):
                self._waiting.remove(ticket)
                self._inside[ticket.stream] = None
                ticket.admitted = True
                ticket.changed.set()
                continue
            full.add(crowd)
            is_crowded = is_crowded or crowd.max_streams is None
            if not ticket.first:
                ticket.first = True
                ticket.changed.set()

    def _has_room(self, stream: ScheduledStream) -> bool:
        others, crowd = self._listened_to(), stream.crowd
        if crowd.max_streams is not None:
            return sum(each.crowd is crowd for each in others) < crowd.max_streams
        if len(others) < max(1, self._n_processors // stream.n_threads):
            return True
        # Whoever hears nothing and waits for a chunk shows that it is too much now, whatever was measured.
        now_s = self._clock()
        if any(each.waits_for_us and each.ends_s is not None and each.ends_s < now_s for each in others):
            return False
        needed = sum(each.load.per_audio_s(each.n_threads) for each in (*others, stream))
        return needed <= SHARE * self._n_processors

    def _listened_to(self) -> list[ScheduledStream]:
        while self._left:
            self._inside.pop(self._left.popleft(), None)
        now_s = self._clock()
        return [each for each in self._inside if each.waits_for_us or (each.ends_s or 0.0) > now_s]
