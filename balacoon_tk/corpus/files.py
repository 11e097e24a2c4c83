"""The files of an utterance: its audio, and a TextGrid for Praat and what reads its files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from balacoon_tk._files import write_bytes_whole
from balacoon_tk._typing import PCM16Array
from balacoon_tk.audio import write_wav
from balacoon_tk.errors import MissingExtraError

AUDIO_FORMATS = ("flac", "wav")

_SWEEP_S = 60.0  # a folder of a thousand files isn't read for each of them
_DIGITS = 6  # of seconds: a sample of 48 kHz lasts 20 us


class Interval(NamedTuple):
    """A stretch of time in a TextGrid, in seconds."""

    start_s: float
    end_s: float
    label: str


def check_audio_format(name: str) -> None:
    """Raise a `MissingExtraError` where a format needs what isn't installed."""
    if name == "flac":
        _soundfile()


def write_audio(path: Path, samples: PCM16Array, *, sample_rate: int) -> None:
    """Write int16 samples of shape (n_samples,) as FLAC or WAV, by the file's suffix, whole or not at all."""
    buffer = io.BytesIO()
    if path.suffix == ".flac":
        _soundfile().write(buffer, samples, sample_rate, format="FLAC", subtype="PCM_16")
    else:
        write_wav(buffer, samples, sample_rate)
    write_bytes_whole(path, buffer.getvalue(), sweep_every_s=_SWEEP_S)


def write_textgrid(path: Path, duration_s: float, tiers: Mapping[str, Sequence[Interval]]) -> None:
    """Write tiers of intervals as a TextGrid, whole or not at all.

    Parameters
    ----------
    path : Path
    duration_s : float
        Of the audio.
    tiers : mapping of str to sequence of Interval
        In order of time; what lies between two of them becomes an interval without a label, and one of no
        length, which the format doesn't have, is left out.

    References
    ----------
    P. Boersma and D. Weenink, "Praat: doing phonetics by computer", manual page "TextGrid file formats".
    """
    end_s = round(duration_s, _DIGITS)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end_s}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, given) in enumerate(tiers.items(), 1):
        intervals = [*_tiled(given, end_s)]
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_quoted(name)}",
        ]
        lines += [
            "        xmin = 0",
            f"        xmax = {end_s}",
            f"        intervals: size = {len(intervals)}",
        ]
        for position, each in enumerate(intervals, 1):
            lines += [
                f"        intervals [{position}]:",
                f"            xmin = {each.start_s}",
                f"            xmax = {each.end_s}",
                f"            text = {_quoted(each.label)}",
            ]
    write_bytes_whole(path, ("\n".join(lines) + "\n").encode(), sweep_every_s=_SWEEP_S)


def _tiled(intervals: Sequence[Interval], end_s: float) -> Iterator[Interval]:
    """Give intervals that meet, from 0 to the end."""
    at_s = 0.0
    for each in intervals:
        start_s, stop_s = max(at_s, round(each.start_s, _DIGITS)), min(end_s, round(each.end_s, _DIGITS))
        if start_s < stop_s:
            if at_s < start_s:
                yield Interval(at_s, start_s, "")
            yield Interval(start_s, stop_s, each.label)
            at_s = stop_s
    if at_s < end_s:
        yield Interval(at_s, end_s, "")


def _quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def _soundfile() -> Any:
    try:
        import soundfile
    except ImportError as error:
        raise MissingExtraError("writing FLAC", extra="corpus") from error
    return soundfile
