"""Sounds in a notebook's page: to be heard and saved, and beside each other to be compared and seen."""

from __future__ import annotations

import html
import io
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.audio import write_wav
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics import log_spectral_distance_db, max_abs_diff
from balacoon_tk.metrics.signal import as_signal

if TYPE_CHECKING:
    from balacoon_tk.plots.page_figure import PageFigure


class Clips:
    """Players of sounds, each with a link that saves it as WAV, to be shown in a notebook.

    The sounds are in the page itself, at their own level: they play and are saved without a kernel, in the
    HTML that ``jupyter nbconvert`` makes as well.

    Parameters
    ----------
    sounds : mapping of str to ndarray of shape (n_samples,), floating or int16
        By name.
    sample_rate : int
        Hz

    Raises
    ------
    ParameterError
        If nothing is given, or what is given are no samples.
    """

    def __init__(self, sounds: Mapping[str, AnyArray], *, sample_rate: int) -> None:
        if not sounds:
            raise ParameterError("sounds={} must have at least one")
        self._sounds: dict[str, FloatArray] = {
            name: as_signal(name, samples).astype("float32") for name, samples in sounds.items()
        }
        self._rate = sample_rate

    def __repr__(self) -> str:
        lengths = (f"{name}: {samples.size / self._rate:.2f} s" for name, samples in self._sounds.items())
        return ", ".join(lengths)

    def _repr_html_(self) -> str:
        told = self._notes()
        cells = "".join(self._cell(name, told.get(name, "")) for name in self._sounds)
        return f'<div style="display: flex; flex-wrap: wrap; gap: 1rem">{cells}</div>'

    def _notes(self) -> dict[str, str]:
        """Return what stands below each sound."""
        return {}

    def _cell(self, name: str, told: str) -> str:
        from balacoon_tk.plots.page_figure import data_address, download_link

        file = io.BytesIO()
        write_wav(file, self._sounds[name], self._rate)
        wav, shown = file.getvalue(), html.escape(name)
        return (
            f"<div><strong>{shown}</strong> "
            f"{download_link(wav, name=f'{name}.wav', mime='audio/wav', label='WAV')}<br>"
            f'<audio controls aria-label="{shown}" src="{data_address(wav, "audio/wav")}"></audio><br>'
            f"<small>{html.escape(told)}</small></div>"
        )


class SideBySide(Clips):
    """Versions of one utterance, such as precisions or strategies: players, spectrograms, differences.

    The arguments are those of `Clips`; all others are compared with the first sound, if they have its length.
    """

    def __init__(self, sounds: Mapping[str, AnyArray], *, sample_rate: int) -> None:
        super().__init__(sounds, sample_rate=sample_rate)
        self._first, *others = self._sounds
        self._reference = self._sounds[self._first]
        self._compared = [name for name in others if self._sounds[name].size == self._reference.size]

    def figure(self) -> PageFigure:
        """Draw a spectrogram of each, and what each that can be compared has more or less than the first."""
        from balacoon_tk.plots import draw_spectral_difference, draw_spectrogram, new_figure

        n_panels = len(self._sounds) + len(self._compared)
        figure = new_figure(10.0, 0.8 + 2.2 * n_panels)
        panels = figure.subplots(n_panels, 1, squeeze=False, sharex=True).ravel().tolist()
        rows = [(name, name, False) for name in self._sounds]
        rows += [(name, f"{name} against {self._first}", True) for name in self._compared]
        for axes, (name, title, is_difference) in zip(panels, rows, strict=True):
            samples = self._sounds[name]
            if is_difference:
                image = draw_spectral_difference(axes, samples, self._reference, sample_rate=self._rate)
            else:
                image = draw_spectrogram(axes, samples, sample_rate=self._rate)
            axes.set_title(title, loc="left", fontsize="medium", parse_math=False)
            figure.colorbar(image, ax=axes, label="dB", pad=0.01)
        panels[-1].set(xlabel="time (s)")
        return figure

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        bundle, metadata = self.figure()._repr_mimebundle_()
        return bundle | {"text/html": self._repr_html_() + bundle["text/html"]}, metadata

    def _notes(self) -> dict[str, str]:
        told = {}
        for name, samples in self._sounds.items():
            if name in self._compared:
                largest = max_abs_diff(samples, self._reference)
                distance_db = log_spectral_distance_db(samples, self._reference)
                apart = f"largest difference {largest:.1e}, log-spectral distance {distance_db:.1f} dB"
                told[name] = apart if largest else f"the same as {self._first} to the bit"
            elif name != self._first:
                told[name] = f"of another length than {self._first}: not compared"
        return told
