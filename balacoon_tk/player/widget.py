"""The player as a notebook sees it; what happens in the page stands in player.js."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from balacoon_tk.audio import AudioChunk
from balacoon_tk.errors import ParameterError, StreamStateError
from balacoon_tk.metrics import StreamTrace
from balacoon_tk.player.synthesis import Message, Synthesis

_MAX_AHEAD_S = 30.0
_FOLDER = Path(__file__).parent


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

        Parameters
        ----------
        stream : iterable of AudioChunk
            As `TTS.stream` gives it. The clock starts now, so nobody may have taken a chunk of it.
        """
        self.stop()
        synthesis = Synthesis(
            stream,
            number=next(self._numbers),
            sample_rate=self.sample_rate,
            send=self._post,
            max_ahead_s=_MAX_AHEAD_S,
        )
        with self._lock:
            if self._backlog is not None:
                self._backlog.clear()
        self._synthesis = synthesis
        synthesis.start()

    def stop(self) -> None:
        """Stop the sound and the synthesis; nothing happens if there is none."""
        if self._synthesis is not None and not self._synthesis.stopped:
            self._synthesis.stop()
            self._post(({"kind": "stop"}, []))

    def wait(self, timeout_s: float | None = None) -> StreamTrace:
        """Wait until the newest stream has been made (it may still sound), and return its trace.

        Raises
        ------
        StreamStateError
            If nothing was played yet, or the time is over before the stream.
        Exception
            What the stream raised, if it failed.
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
                waiting, self._backlog = self._backlog or [], None
                for message in waiting:
                    self.send(*message)
        synthesis = self._synthesis
        if content.get("kind") == "stop" and synthesis and synthesis.number == content.get("stream"):
            synthesis.stop()  # the page is silent already
