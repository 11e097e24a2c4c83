"""Audio files that are handed over while they are made: their beginning before their end is known.

WAV and raw samples are written here, all others by libsndfile (`soundfile`); another sample rate is made by
`soxr`. Both come with the extra ``serve``.
"""

from __future__ import annotations

import io
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

import numpy as np

from balacoon_tk._typing import FloatArray, PCM16Array
from balacoon_tk.audio import WavWriter, pcm_bytes, to_pcm16
from balacoon_tk.errors import MissingExtraError, ParameterError

__all__ = ["FORMATS", "AudioFormat", "StreamedFile"]

_NO_SAMPLES: FloatArray = np.zeros(0, np.float32)
_LOWEST, _HIGHEST = 8000, 48000  # Hz that may be asked for: a telephone's to a studio's


class AudioFormat(NamedTuple):
    """How samples are written."""

    media_type: str
    form: tuple[str, str] | None = None
    """Format and subtype, as libsndfile calls them, if it is what writes it."""
    rates: tuple[int, ...] = ()
    """Sample rates in Hz that it knows; any if empty."""


FORMATS = {
    "wav": AudioFormat("audio/wav"),
    "pcm": AudioFormat("audio/pcm"),
    "flac": AudioFormat("audio/flac", ("FLAC", "PCM_16")),
    "opus": AudioFormat("audio/ogg", ("OGG", "OPUS"), (8000, 12000, 16000, 24000, 48000)),
    "mp3": AudioFormat(
        "audio/mpeg",
        ("MP3", "MPEG_LAYER_III"),
        (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    ),
}


class _Writer(Protocol):
    def write(self, samples: PCM16Array, /) -> object: ...

    def close(self) -> None: ...


class StreamedFile:
    """The bytes of an audio file of one channel, chunk by chunk.

    The header says of the length what can be said: nothing. Players read such a file until its end.

    Parameters
    ----------
    name : str
        One of `FORMATS`.
    sample_rate : int
        Of the samples, in Hz.
    wanted_rate : int, optional
        Of the file, in [8000, 48000] Hz; if None that of the samples, or the next higher one of the format.

    Attributes
    ----------
    media_type : str
    sample_rate : int
        Of the file, in Hz.

    Raises
    ------
    ParameterError
        If there is no such format, or not at that rate.
    MissingExtraError
        If soundfile or soxr is needed and not installed.

    Examples
    --------
    >>> import numpy as np
    >>> file = StreamedFile("wav", 8000)
    >>> len(file.push(np.zeros(3, np.float32))), len(file.finish())
    (50, 0)
    """

    def __init__(self, name: str, sample_rate: int, wanted_rate: int | None = None) -> None:
        if name not in FORMATS:
            raise ParameterError(f"response_format={name!r} must be one of {', '.join(FORMATS)}")
        self.media_type, form, _ = FORMATS[name]
        self.sample_rate = _choose_rate(name, sample_rate, wanted_rate)
        self._sink = _Sink()
        self._resampler = None
        try:
            if self.sample_rate != sample_rate:
                import soxr

                self._resampler = soxr.ResampleStream(sample_rate, self.sample_rate, 1, dtype="float32")
            if form is not None:
                import soundfile

                kind, subtype = form
                self._writer: _Writer = soundfile.SoundFile(
                    self._sink, "w", self.sample_rate, 1, subtype, format=kind
                )
        except ImportError as error:
            what = f"response_format={name!r} at {self.sample_rate} Hz"
            raise MissingExtraError(what, extra="serve") from error
        if name == "wav":
            self._writer = WavWriter(cast("BinaryIO", self._sink), self.sample_rate)
        elif name == "pcm":
            # Raw samples say nothing of themselves.
            self.media_type += f";rate={self.sample_rate};channels=1"
            self._writer = _RawWriter(self._sink)

    def push(self, samples: FloatArray) -> bytes:
        """Return what there is of the file with these samples, which may be nothing yet."""
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)
        self._writer.write(to_pcm16(samples))
        return self._sink.take()

    def finish(self) -> bytes:
        """Return what is left of the file."""
        if self._resampler is not None:
            rest = self._resampler.resample_chunk(_NO_SAMPLES, last=True)
            self._writer.write(to_pcm16(rest))
        self._writer.close()
        return self._sink.take()


def _choose_rate(name: str, own: int, wanted: object) -> int:
    rates = FORMATS[name].rates
    if wanted is None:
        # Upwards where there is one, so that nothing of the voice is lost.
        return own if not rates or own in rates else min((r for r in rates if r > own), default=rates[-1])
    if not isinstance(wanted, int) or isinstance(wanted, bool) or not _LOWEST <= wanted <= _HIGHEST:
        raise ParameterError(f"sample_rate={wanted!r} must be an integer in [{_LOWEST}, {_HIGHEST}] Hz")
    if rates and wanted not in rates:
        raise ParameterError(f"sample_rate={wanted} of {name} must be one of {', '.join(map(str, rates))}")
    return wanted


class _Sink(io.RawIOBase):
    """A file whose bytes are taken away as they come, so that what was written can't be written again."""

    def __init__(self) -> None:
        self._untaken = bytearray()
        self._position = self._length = 0

    def write(self, data: Any, /) -> int:
        # Headers are written anew at the end, with what is known by then; they have been sent long since.
        if self._position == self._length:
            self._untaken += data
            self._length += len(data)
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._position = (0, self._position, self._length)[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        data = bytes(self._untaken)
        self._untaken.clear()
        return data


class _RawWriter:
    def __init__(self, sink: _Sink) -> None:
        self._sink = sink

    def write(self, samples: PCM16Array, /) -> None:
        self._sink.write(pcm_bytes(samples))

    def close(self) -> None:
        """Do nothing: raw samples have no end."""
