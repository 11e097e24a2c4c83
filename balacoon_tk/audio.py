"""Samples on their way out: chunks of a stream, 16-bit PCM, and WAV files.

Inside the package samples are float32; they become int16 here and nowhere else.
"""

from __future__ import annotations

import os
import struct
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import numpy as np

from balacoon_tk._leftovers import beside, remove_leftovers
from balacoon_tk._typing import AnyArray, FloatArray, PCM16Array
from balacoon_tk.errors import ModelError, ParameterError, StreamStateError

__all__ = [
    "AudioChunk",
    "PhonemeSpan",
    "WavWriter",
    "WordSpan",
    "pcm_bytes",
    "read_wav",
    "to_pcm16",
    "write_wav",
]

PCM16_MAX = 32767  # and not 32768: 1.0 and -1.0 are as far from 0, and both can be written
_SAMPLE_BYTES = 2
_SWEEP_S = 60.0  # a folder of a hundred thousand files isn't read for each of them
_UNKNOWN_SIZE = 0xFFFFFFFF  # what a WAV header says where nobody can go back and put the size in


class PhonemeSpan(NamedTuple):
    """One phoneme and its time in the utterance."""

    phoneme: str
    start_s: float
    end_s: float


class WordSpan(NamedTuple):
    """One word, its time in the utterance, and its place in the caller's text."""

    word: str
    """As the caller wrote it: what stands at `text_span`."""
    start_s: float
    end_s: float
    text_span: tuple[int, int]
    """Where it begins and ends in the caller's text (of pieces: in all of them joined), in characters."""


@dataclass(frozen=True, slots=True, eq=False)
class AudioChunk:
    """A run of samples that a stream hands over, and what is said in it."""

    samples: FloatArray
    """Shape (n_samples,), float32, in [-1, 1] unless a volume above 1 asks for more."""
    sample_rate: int
    """Hz"""
    start_sample: int
    """Where the chunk begins in the utterance, across its sentences."""
    alignment: tuple[PhonemeSpan, ...] = ()
    """The phonemes that begin in this chunk; those of all chunks together are the utterance's, once each."""
    find_words: Callable[[], tuple[WordSpan, ...]] = field(default=tuple, repr=False)
    """What `words` calls."""

    @property
    def start_s(self) -> float:
        """Time at which the chunk begins in the utterance."""
        return self.start_sample / self.sample_rate

    @property
    def duration_s(self) -> float:
        """Length of the chunk in seconds."""
        return len(self.samples) / self.sample_rate

    @property
    def words(self) -> tuple[WordSpan, ...]:
        """The words that begin in this chunk; those of all chunks together are the text's, once each.

        They are found when they are asked for, once for a sentence, which takes a millisecond or two; whoever
        doesn't ask doesn't wait. A frontend of one's own gives none, unless its sentences have `words`.
        """
        return self.find_words()

    def __reduce__(self) -> tuple[object, ...]:
        # What finds the words is bound to a frontend, which stays where it is.
        words = partial(tuple, self.words)
        return type(self), (self.samples, self.sample_rate, self.start_sample, self.alignment, words)

    @property
    def pcm16(self) -> PCM16Array:
        """The samples as int16, saturated."""
        return to_pcm16(self.samples)


def to_pcm16(samples: AnyArray) -> PCM16Array:
    """Convert to 16-bit PCM: ``round(32767 * samples)``, saturated where samples leave [-1, 1].

    Parameters
    ----------
    samples : ndarray of shape (n_samples,), floating or int16
        int16 is returned as it is.

    Returns
    -------
    ndarray of shape (n_samples,), int16

    Raises
    ------
    ModelError
        If a sample is NaN or infinite: a graph made it, and as PCM it would be a loud noise.
    """
    if samples.ndim != 1 or not (samples.dtype == np.int16 or np.issubdtype(samples.dtype, np.floating)):
        raise ParameterError(f"samples of shape {samples.shape}, {samples.dtype} must be 1-D floats or int16")
    if samples.dtype == np.int16:
        return samples
    # Looked at before clipping, which would make the largest sample of an infinity and hide it.
    if not np.isfinite(samples).all():
        position = int(np.argmin(np.isfinite(samples)))
        raise ModelError(f"samples[{position}]={samples[position]} is not finite")
    pcm: PCM16Array = np.rint(np.clip(samples, -1.0, 1.0) * PCM16_MAX).astype(np.int16)
    return pcm


def pcm_bytes(samples: AnyArray) -> bytes:
    """Return raw PCM: 16 bits, little-endian, one channel, no header."""
    return to_pcm16(samples).astype("<i2").tobytes()


def read_wav(source: str | os.PathLike[str] | BinaryIO) -> tuple[FloatArray, int]:
    """Read a WAV file of one channel and 16 bits.

    Parameters
    ----------
    source : path or binary file
        A file that is handed in open stays open.

    Returns
    -------
    samples : ndarray of shape (n_samples,), float32
        In [-1, 1]; `to_pcm16` gives the file's own integers back.
    sample_rate : int
        Hz

    Raises
    ------
    ParameterError
        If the file is no WAV file, or has another number of channels or bits.
    """
    given = os.fspath(source) if isinstance(source, (str, os.PathLike)) else source
    path = given if isinstance(given, str) else "the recording"
    try:
        with wave.open(given, "rb") as file:
            n_channels, n_bytes = file.getnchannels(), file.getsampwidth()
            sample_rate, data = file.getframerate(), file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ParameterError(f"{path}: not a readable WAV file: {str(error) or 'it ends early'}") from error
    if n_channels != 1 or n_bytes != _SAMPLE_BYTES:
        raise ParameterError(f"{path}: {n_channels} channels of {8 * n_bytes} bits must be 1 of 16")
    n_whole = len(data) - len(data) % _SAMPLE_BYTES  # the file may have been cut within a sample
    samples = np.frombuffer(data[:n_whole], "<i2").astype(np.float32) / PCM16_MAX
    return np.maximum(samples, -1.0), sample_rate  # -32768, which others write, lies just below


def write_wav(target: str | os.PathLike[str] | BinaryIO, samples: AnyArray, sample_rate: int) -> None:
    """Write samples as a WAV file, whole or not at all; see `WavWriter`."""
    with WavWriter(target, sample_rate) as writer:
        writer.write(samples)


class WavWriter:
    """Write a WAV file chunk by chunk; the sizes in its header are put in at the end.

    A file is written beside its place and renamed when it is complete, so a stream that breaks leaves
    nothing, and an older file of that name stays. A pipe can't be gone back in: its header says the
    largest size, which players take as "until the end".

    Parameters
    ----------
    target : path or binary file
        A file that is handed in open stays open.
    sample_rate : int
        Hz

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> with WavWriter(file, 8000) as writer:
    ...     writer.write(np.zeros(3, np.float32))
    ...     writer.write(np.ones(2, np.float32))
    >>> len(file.getvalue()) == 44 + 2 * 5
    True
    """

    def __init__(self, target: str | os.PathLike[str] | BinaryIO, sample_rate: int) -> None:
        if not 0 < sample_rate <= _UNKNOWN_SIZE // _SAMPLE_BYTES:
            raise ParameterError(f"sample_rate={sample_rate} must be > 0 and fit in a WAV header")
        self.sample_rate = sample_rate
        self._n_bytes = 0
        self._closed = False
        self._path: Path | None = None
        self._partial: Path | None = None
        if isinstance(target, (str, os.PathLike)):
            self._path = Path(target).resolve()
            # A device such as /dev/null is written to; it must not be replaced by a file.
            if self._path.is_file() or not self._path.exists():
                remove_leftovers(self._path.parent, at_most_every_s=_SWEEP_S)
                self._partial = beside(self._path)
            self._file: BinaryIO = (self._partial or self._path).open("wb")
        else:
            self._file = target
        # A file that was handed in open may hold something before the header, as a container does.
        self._start = self._file.tell() if self._file.seekable() else None
        self._file.write(_header(sample_rate, _UNKNOWN_SIZE))

    def write(self, samples: AnyArray) -> None:
        """Append samples: floats in [-1, 1] or int16, of shape (n_samples,)."""
        if self._closed:
            raise StreamStateError("write() after close()")
        data = pcm_bytes(samples)
        with self._naming_the_file():
            self._file.write(data)
        self._n_bytes += len(data)

    def close(self) -> None:
        """Complete the header and put the file in its place; a second call does nothing."""
        if self._closed:
            return
        # First, so that a full disk isn't written to again when the context ends.
        self._closed = True
        with self._naming_the_file():
            if self._start is not None:
                self._file.seek(self._start)
                self._file.write(_header(self.sample_rate, self._n_bytes))
                self._file.seek(0, os.SEEK_END)
            if self._path is not None:
                self._file.close()
        if self._path is not None and self._partial is not None:
            self._partial.replace(self._path)

    def discard(self) -> None:
        """Drop what was written; a file that was handed in open keeps it."""
        self._closed = True
        if self._path is not None:
            with suppress(OSError):  # closing writes what is left, which may not fit and isn't wanted
                self._file.close()
        if self._partial is not None:
            self._partial.unlink(missing_ok=True)

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        """Say in an error which file it was: a full disk doesn't."""
        try:
            yield
        except OSError as error:
            if error.filename is None and self._path is not None:
                error.filename = str(self._path)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def _header(sample_rate: int, n_bytes: int) -> bytes:
    """Return the 44 bytes before the samples: RIFF, a PCM `fmt ` chunk, and the head of `data`."""
    # Sizes have 32 bits: beyond 4 GB, 27 hours at 22050 Hz, players read on until the end.
    n_bytes = min(n_bytes, _UNKNOWN_SIZE)
    riff = struct.pack("<4sI4s", b"RIFF", min(n_bytes + 36, _UNKNOWN_SIZE), b"WAVE")
    # 16 bytes follow in this chunk; PCM is 1, and there is 1 channel.
    fmt = (16, 1, 1, sample_rate, sample_rate * _SAMPLE_BYTES, _SAMPLE_BYTES, 8 * _SAMPLE_BYTES)
    return riff + struct.pack("<4sIHHIIHH4sI", b"fmt ", *fmt, b"data", n_bytes)
