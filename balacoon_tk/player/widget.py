"""The player as a notebook sees it; what happens in the page stands in player.js.

::

    Player.play -> Synthesis, in a thread -> messages -> the page's buffer -> sound
    Player.stop, or the page's own button -> Synthesis.stop
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

from balacoon_tk.audio import AudioChunk
from balacoon_tk.errors import ParameterError, StreamStateError
from balacoon_tk.metrics import AUDIBLE_DBFS, StreamTrace, TraceRecorder

# Made before it is heard: more would be work in vain for whoever stops, and memory in the page.
_MAX_AHEAD_S = 30.0
_FOLDER = Path(__file__).parent

# What goes to the page: a record that JSON can hold, and binary buffers beside it.
Message = tuple[dict[str, object], list[bytes]]

# What a trace calls audible, so that the page's first sound is the TTFA of the trace.
_AUDIBLE = 10.0 ** (AUDIBLE_DBFS / 20.0)


class Synthesis:
    """Take chunk after chunk from a stream in a thread, and hand each over as a message.

    The messages are ``start``, a ``chunk`` with its samples as int16 for each chunk, and ``end``; each
    carries the number of its stream, by which the page knows what is out of date.

    The stream must do nothing before it is asked for its first chunk: the clock starts with `start`. It
    waits when `max_ahead_s` seconds of audio have been made ahead of playback. Messages are sent from the
    thread.
    """

    def __init__(
        self,
        stream: Iterable[AudioChunk],
        *,
        number: int,
        sample_rate: int,
        send: Callable[[Message], None],
        max_ahead_s: float,
    ) -> None:
        self._stream = stream
        self.number = number
        self._sample_rate = sample_rate
        self._send = send
        self._max_ahead_s = max_ahead_s
        self._stopped = threading.Event()
        # A notebook that is closed must not wait for the end of a long text: hence a daemon.
        self._thread = threading.Thread(target=self._run, name=f"synthesis-{number}", daemon=True)
        self.trace: StreamTrace | None = None
        self.error: Exception | None = None

    def start(self) -> None:
        """Begin."""
        self._recorder = TraceRecorder(sample_rate=self._sample_rate)
        self._thread.start()

    def stop(self) -> None:
        """Make no further chunk; the one that is being made is dropped. Returns at once."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether it was stopped."""
        return self._stopped.is_set()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the stream is over, and return whether it is."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._send(({"kind": "start", "stream": self.number, "sample_rate": self._sample_rate}, []))
        chunks = iter(self._stream)
        try:
            self._pass_on(chunks)
        except Exception as error:  # it is shown in the page, and raised where somebody waits
            self.error = error
        finally:
            # In this thread, which is the one that ran it: a generator may be closed by no other meanwhile.
            getattr(chunks, "close", lambda: None)()
            self.trace = self._recorder.finish()
        if not self.stopped:
            text = None if self.error is None else str(self.error) or type(self.error).__name__
            self._send(({"kind": "end", "stream": self.number, "error": text}, []))

    def _pass_on(self, chunks: Iterator[AudioChunk]) -> None:
        begun_s, made_s, first_s = time.perf_counter(), 0.0, None
        for index, chunk in enumerate(chunks):
            if self.stopped:
                return
            if chunk.sample_rate != self._sample_rate:
                raise ParameterError(
                    f"a chunk of {chunk.sample_rate} Hz must have the player's {self._sample_rate} Hz"
                )
            self._recorder.add(chunk.samples)
            now_s = time.perf_counter()
            # Playback begins with the first chunk, so what is ahead is counted from there.
            first_s = first_s or now_s
            head = {
                "kind": "chunk",
                "stream": self.number,
                "index": index,
                "ready_ms": 1e3 * (now_s - begun_s),
                "audible": bool(np.max(np.abs(chunk.samples), initial=0.0) >= _AUDIBLE),
            }
            # Little endian whatever this machine is, since that is what the page reads.
            self._send((head, [chunk.pcm16.astype("<i2").tobytes()]))
            made_s += chunk.duration_s
            ahead_s = made_s - (time.perf_counter() - first_s)
            # Waits for the stop and not for the clock: it ends at once when somebody presses the button.
            self._stopped.wait(max(0.0, ahead_s - self._max_ahead_s))


class Player(anywidget.AnyWidget):
    """Play a stream in the page while it is being made; it shows TTFA, buffer and underruns meanwhile.

    Parameters
    ----------
    sample_rate : int
        Hz, that of every stream it plays.
    prebuffer_s : float
        Audio that waits in the page before the first sound, in seconds: late chunks are then heard
        less, and everything is heard later.

    Attributes
    ----------
    status : dict
        What the page says: its ``state`` ("waiting", "playing", "done", "stopped", "blocked" by the
        browser until the page is clicked, or "failed"), ``chunks``, ``underruns``, ``underrun_ms``,
        and ``first_sound_ms``, from when the first chunk reached the page to when it sounded.
        Empty if no page shows the player.

    Raises
    ------
    ParameterError
        If a number is out of its range.

    Examples
    --------
    >>> player = Player(sample_rate=tts.get_sampling_rate())  # doctest: +SKIP
    >>> player.play(tts.stream("Hello there."))  # doctest: +SKIP
    """

    _esm = _FOLDER / "player.js"
    _css = _FOLDER / "player.css"

    sample_rate = traitlets.Int().tag(sync=True)
    prebuffer_s = traitlets.Float().tag(sync=True)
    status = traitlets.Dict().tag(sync=True)

    def __init__(self, *, sample_rate: int, prebuffer_s: float = 0.0) -> None:
        if not 3000 <= sample_rate <= 384000:
            raise ParameterError(f"sample_rate={sample_rate} must be in [3000, 384000] for a page to play it")
        if not 0.0 <= prebuffer_s <= _MAX_AHEAD_S:
            raise ParameterError(f"prebuffer_s={prebuffer_s} must be in [0, {_MAX_AHEAD_S:g}]")
        super().__init__(sample_rate=sample_rate, prebuffer_s=prebuffer_s)
        self._numbers = itertools.count(1)
        self._synthesis: Synthesis | None = None
        self._lock = threading.Lock()
        # The page can't hear anything before it has loaded the script: until then messages wait here.
        self._backlog: list[Message] | None = []
        self.on_msg(self._hear)

    def play(self, stream: Iterable[AudioChunk]) -> None:
        """Begin to make a stream, in a thread, and to play it; what was playing stops. Returns at once.

        The clock starts now, so nobody may have taken a chunk of it.
        """
        # Two streams at once would be heard one through the other.
        self.stop()
        number = next(self._numbers)
        self._synthesis = Synthesis(
            stream, number=number, sample_rate=self.sample_rate, send=self._post, max_ahead_s=_MAX_AHEAD_S
        )
        with self._lock:
            if self._backlog is not None:
                # Of a stream that nobody has heard nothing is sent any more.
                self._backlog.clear()
        self._synthesis.start()

    def stop(self) -> None:
        """Stop the sound and the synthesis; nothing happens if there is none."""
        if self._synthesis is not None and not self._synthesis.stopped:
            self._synthesis.stop()
            self._post(({"kind": "stop"}, []))

    def wait(self, timeout_s: float | None = None) -> StreamTrace:
        """Wait until the newest stream has been made (it may still sound), and return its trace.

        A `StreamStateError` if nothing was played yet or the time is over; else the stream's own error.
        """
        synthesis = self._synthesis
        if synthesis is None:
            raise StreamStateError("wait() before play()")
        if not synthesis.join(timeout_s) or synthesis.trace is None:
            raise StreamStateError(f"the stream is not over after timeout_s={timeout_s}")
        if synthesis.error is not None:
            raise synthesis.error
        return synthesis.trace

    @property
    def trace(self) -> StreamTrace | None:
        """The newest stream's trace; None until it is over."""
        return None if self._synthesis is None else self._synthesis.trace

    def _post(self, message: Message) -> None:
        """Send a message to the page, or keep it until the page is there."""
        with self._lock:
            if self._backlog is not None:
                self._backlog.append(message)
            else:
                self.send(*message)

    def _hear(self, _: object, content: dict[str, Any], buffers: list[bytes]) -> None:
        """Take a message from the page."""
        if content.get("kind") == "ready":
            with self._lock:
                # Under the lock, or a chunk that comes now would overtake those that wait.
                waiting, self._backlog = self._backlog or [], None
                for message in waiting:
                    self.send(*message)
        synthesis = self._synthesis
        if content.get("kind") == "stop" and synthesis and synthesis.number == content.get("stream"):
            synthesis.stop()  # the page is silent already
