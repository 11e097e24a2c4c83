"""Everything a person can turn, around the player: text, strategy, precision, speaker, speed, chunks."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import ipywidgets as widgets

from balacoon_tk.errors import BalacoonError, ParameterError
from balacoon_tk.player.precision_choice import PrecisionChoice, VoicePath
from balacoon_tk.player.widget import Player

if TYPE_CHECKING:
    from balacoon_tk.metrics import StreamTrace
    from balacoon_tk.tts import TTS

_TEXT = "The first sound comes early, long before the last word of this sentence has been made."


def parse_schedule(text: str) -> tuple[int, ...]:
    """Return the chunk sizes that a person has typed, such as "16, 32 64"."""
    parts = text.replace(",", " ").split()
    if not parts or not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise ParameterError(f"chunks={text!r} must be whole numbers >= 1, such as 16, 32, 64")
    return tuple(int(part) for part in parts)


class Playground(widgets.VBox):  # type: ignore[misc]
    """Controls and a player, to be shown in a notebook.

    Parameters
    ----------
    tts : TTS
    text : str
        What stands in the box at first.
    voices : mapping of str to path, optional
        The same voice in other precisions, such as ``{"int8": "voices/joe-int8"}``. Without it an int8
        version is found that a button of the playground or notebook 5 has made.
    make_precision : callable, optional
        `balacoon_tk.export.make_precision`, for a button that makes a precision which isn't there.

    Attributes
    ----------
    player : Player
    precision : PrecisionChoice
    traces : dict of str to StreamTrace
        The newest trace of each strategy that was played to its end, and of each precision but the voice's
        own: ``stateful``, ``stateful, int8``; `draw_timeline` draws it.
    """

    def __init__(
        self,
        tts: TTS,
        *,
        text: str = _TEXT,
        voices: Mapping[str, VoicePath] | None = None,
        make_precision: Callable[..., object] | None = None,
    ) -> None:
        self._played: str | None = None
        self._traces: dict[str, StreamTrace] = {}
        self.player = Player(sample_rate=tts.get_sampling_rate())
        wide = widgets.Layout(width="100%", max_width="46rem")
        tall = widgets.Layout(width="100%", max_width="46rem", height="5rem")
        self.text = widgets.Textarea(text, layout=tall)
        self.speaker = widgets.Dropdown(options=tts.get_speakers(), description="speaker")
        self.strategy = widgets.ToggleButtons(
            options=list(tts.strategies),
            value=tts.strategies[-1],
            description="strategy",
            style={"button_width": "6rem"},
        )
        self.precision = PrecisionChoice(tts, voices=voices, make_precision=make_precision)
        self.speed = widgets.FloatLogSlider(
            1.0, base=2.0, min=-1.0, max=1.0, step=0.05, description="speed", readout_format=".2f"
        )
        # Remembered as text: whether somebody has touched the box is told by comparing it.
        self._own_chunks = ", ".join(map(str, tts.get_chunk_frames(tts.strategies[-1])))
        self.chunks = widgets.Text(self._own_chunks, description="chunks")
        self.chunks.tooltip = "frames of audio in each chunk; the last number repeats"
        self.seed = widgets.BoundedIntText(1, min=0, max=2**31 - 1, description="seed")
        self.play_button = widgets.Button(description="Play", icon="play", button_style="primary")
        self.play_button.on_click(lambda _: self.play())
        self.message = widgets.HTML()
        strategy, voice, stream, play = (
            widgets.HBox(row, layout=wide)
            for row in (
                [self.strategy],
                [self.speaker, self.speed],
                [self.chunks, self.seed],
                [self.play_button, self.message],
            )
        )
        super().__init__([self.text, strategy, self.precision, voice, stream, play, self.player])
        self.add_class("btk-playground")

    @property
    def traces(self) -> dict[str, StreamTrace]:
        """The newest trace of each strategy."""
        self._keep()
        return dict(self._traces)

    def play(self) -> None:
        """Speak with what is set now; what can't be is said beside the button."""
        self._keep()
        self.player.stop()
        try:
            if not self.text.value.strip():
                raise ParameterError("there is no text to speak")
            chunks = self.chunks.value
            stream = self.precision.get_tts().stream(
                self.text.value,
                strategy=self.strategy.value,
                seed=self.seed.value,
                speaker=self.speaker.index,
                speed=self.speed.value,
                # Untouched they are the stream's own, which go on from sentence to sentence.
                chunk_frames=None if chunks == self._own_chunks else parse_schedule(chunks),
            )
        except BalacoonError as error:
            self.message.value = f"<b>{html.escape(str(error))}</b>"
            return
        self.message.value = ""
        # The voice's own precision goes without its name, as strategies are called everywhere else.
        own = self.precision.value == self.precision.own
        self._played = self.strategy.value if own else f"{self.strategy.value}, {self.precision.value}"
        self.player.play(stream)

    def _keep(self) -> None:
        """Note the trace of what was played last, if it came to its end."""
        # Asked for when somebody looks or plays on: a stream ends in its own thread, and calls nobody.
        trace = self.player.trace
        if self._played is not None and trace is not None and trace.n_samples:
            self._traces[self._played] = trace
