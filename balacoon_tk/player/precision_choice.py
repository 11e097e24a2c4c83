"""Which of a voice's precisions speaks: those that are there, and a button for one that isn't."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import ipywidgets as widgets

from balacoon_tk.errors import BalacoonError, ParameterError
from balacoon_tk.runtime.background import Background
from balacoon_tk.tts import TTS
from balacoon_tk.voice.precisions import PRECISIONS, find_precisions

VoicePath: TypeAlias = str | os.PathLike[str]


class PrecisionChoice(widgets.VBox):  # type: ignore[misc]  # ipywidgets is untyped
    """Buttons for the precisions, and one that makes what isn't there.

    Nothing here can make a voice, since speaking needs no exporter: whoever wants the button brings one. The
    arguments are those of `Playground`. Without `make_precision` there is no button, and the message says how
    to make a precision on the command line.
    """

    def __init__(
        self,
        tts: TTS,
        *,
        voices: Mapping[str, VoicePath] | None = None,
        make_precision: Callable[..., object] | None = None,
    ) -> None:
        self._make_precision = make_precision
        self.own: str = tts.voice.manifest.decoder.precision
        self._opened: dict[str, TTS] = {self.own: tts}
        self._given = {name: Path(path) for name, path in (voices or {}).items()}
        self.making: Background[None] | None = None
        # Nothing else can be made of a voice that has lost precision already.
        known = PRECISIONS if self.own == PRECISIONS[0] else ()
        names = [self.own, *known, *self._given]
        self.buttons = widgets.ToggleButtons(
            options=list(dict.fromkeys(names)), description="precision", style={"button_width": "6rem"}
        )
        self.buttons.observe(lambda _: self.show(), names="value")
        self.make_button = widgets.Button(
            description="Make it", icon="cogs", layout=widgets.Layout(flex="0 0 auto", align_self="flex-end")
        )
        self.make_button.on_click(lambda _: self.make())
        self.message = widgets.HTML()
        super().__init__([widgets.HBox([self.buttons, self.make_button]), self.message])
        self.show()

    @property
    def value(self) -> str:
        """Name of the chosen precision."""
        return str(self.buttons.value)

    @property
    def is_there(self) -> bool:
        """Whether the voice is there in the chosen precision."""
        return self.value in self._places()

    def get_tts(self) -> TTS:
        """Return the voice in the chosen precision, loaded the first time, or say how to make it."""
        place = self._places().get(self.value)
        if place is None:
            raise ParameterError(self._how_to_make())
        # By its place too, which may have become another since: a folder is made anew while one listens.
        known = self._opened.get(self.value)
        if known is None or known.voice.path != place:
            first = self._opened[self.own]
            # The frontend is shared: it takes longer to load than a graph, and must read the same phonemes.
            known = TTS(place, frontend=first.frontend, options=first.voice.options)
            kinds = [(tts.get_sampling_rate(), tts.get_speakers()) for tts in (first, known)]
            if kinds[0] != kinds[1]:
                raise ParameterError(f"{place}: must have the sample rate and the speakers of {self.own}")
            self._opened[self.value] = known
        return known

    def make(self) -> None:
        """Begin to make what is chosen, in a thread; how far it is stands beside the button."""
        self.make_button.disabled = True
        precision = self.value
        self.making = Background(lambda: self._make(precision), name="make-precision")

    def show(self) -> None:
        """Say whether what is chosen is there, and how to make it."""
        is_there = self.is_there
        self.make_button.layout.display = "none" if is_there or self._make_precision is None else ""
        # While the button is at work, how far it is stands there.
        if is_there or not self.make_button.disabled:
            self._say("" if is_there else self._how_to_make())

    def _make(self, precision: str) -> None:
        voice = self._opened[self.own].voice
        assert self._make_precision is not None  # there is no button without it

        def report(what: str, share: float) -> None:
            self._say(f"{100 * share:.0f} %: {what}")

        try:
            self._make_precision(voice, precision, progress=report)
        # In a thread nobody would see it: it is said beside the button.
        except (BalacoonError, OSError) as error:
            self._say(str(error))
        else:
            # What was open may have been replaced on the disk.
            self._opened = {self.own: self._opened[self.own]}
            self.show()
        finally:
            self.make_button.disabled = False

    def _places(self) -> dict[str, Path]:
        """Return what is there now: somebody may have made or removed one."""
        # A folder that was given wins over one in the cache: somebody has chosen it.
        found = find_precisions(self._opened[self.own].voice) | self._given
        return {name: found[name] for name in self.buttons.options if name in found}

    def _how_to_make(self) -> str:
        voice = self._opened[self.own].voice.path
        takes = "half a minute; needs the extra export"
        if self.value == "int8":
            takes = "a few minutes; needs the extras export and eval"
        press = "" if self._make_precision is None else f"press Make it ({takes}), or "
        return (
            f"{self.value} isn't there yet: {press}run balacoon-tk quantize {voice} "
            f"-o FOLDER --precision {self.value} and give voices={{'{self.value}': 'FOLDER'}}"
        )

    def _say(self, text: str) -> None:
        # Lines of a widget are as high as its controls, which is too much for a text of several.
        lines = f"<div style='line-height: 1.4; max-width: 46rem'>{html.escape(text)}</div>" if text else ""
        self.message.value = lines
