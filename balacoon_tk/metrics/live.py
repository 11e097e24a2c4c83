"""A text that comes piece by piece, as from a language model, and when each of its words is heard."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from balacoon_tk.audio import WordSpan
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics.latency import playback
from balacoon_tk.metrics.trace import StreamTrace, TraceRecorder

if TYPE_CHECKING:
    from balacoon_tk.tts import TTS

_TOKEN = re.compile(r"\s*(?:\w{1,5}|[^\w\s]|$)")
_SHAPE = 4.0  # of the gamma distribution of the gaps: they differ by half of their mean


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of text that a writer gives."""

    text: str
    arrives_s: float
    """Seconds since the writer began."""


@dataclass(frozen=True, slots=True)
class LiveTrace:
    """What came of the text and what went of the audio, in seconds from the call."""

    pieces: tuple[Piece, ...]
    """As they came."""
    stream: StreamTrace
    words: tuple[WordSpan, ...]
    """Of the whole text, in the time of the audio."""

    def written(self) -> tuple[np.ndarray, np.ndarray]:
        """Return when each piece came, and how many characters of the text there were by then."""
        n_characters = accumulate(len(piece.text) for piece in self.pieces)
        return np.array([piece.arrives_s for piece in self.pieces]), np.array([*n_characters])

    def heard(self) -> tuple[np.ndarray, np.ndarray]:
        """Return when each word begins and ends to sound, and up to which character the text is heard then.

        The player is that of `playback`: it starts with the first chunk, and waits for chunks that are late.
        """
        start_s, _ = playback(self.stream)
        ends = np.cumsum(self.stream.n_samples)
        samples = [round(at * self.stream.sample_rate) for word in self.words for at in word[1:3]]
        chunks = np.searchsorted(ends[:-1], samples, side="right")
        begins = ends - self.stream.n_samples
        times_s = start_s[chunks] + (samples - begins[chunks]) / self.stream.sample_rate
        return times_s, np.array([place for word in self.words for place in word.text_span])


def simulate_writer(text: str, *, pieces_per_s: float = 20.0, seed: int = 0) -> list[Piece]:
    """Cut a text as a language model gives it: tokens of some letters, one after another.

    Parameters
    ----------
    text : str
    pieces_per_s : float
        Mean rate, > 0.
    seed : int
        Chooses the gaps between the pieces, which are gamma distributed.

    Examples
    --------
    >>> [piece.text for piece in simulate_writer("Streaming, yes.")]
    ['Strea', 'ming', ',', ' yes', '.']
    """
    if not pieces_per_s > 0:
        raise ParameterError(f"pieces_per_s={pieces_per_s} must be > 0")
    tokens = [match[0] for match in _TOKEN.finditer(text) if match[0]]
    gaps_s = np.random.default_rng(seed).gamma(_SHAPE, 1.0 / (_SHAPE * pieces_per_s), len(tokens))
    return [Piece(token, float(at)) for token, at in zip(tokens, np.cumsum(gaps_s), strict=True)]


def record_live(
    tts: TTS,
    pieces: Iterable[Piece],
    *,
    clause: bool = False,
    whole: bool = False,
    strategy: str | None = None,
    seed: int = 0,
) -> LiveTrace:
    """Speak pieces that arrive at their times, and note when what of them was heard.

    Parameters
    ----------
    tts : TTS
    pieces : iterable of Piece
    clause : bool
        Whether speech may begin with a clause, as `TTS.stream` has it.
    whole : bool
        Whether to wait until the text is complete, for comparison.
    strategy : {"stateful", "overlap", "full"}, optional
    seed : int
        Of the voice.
    """
    came: list[Piece] = []
    call_s = time.perf_counter()

    def write() -> Iterator[str]:
        for piece in pieces:
            time.sleep(max(0.0, call_s + piece.arrives_s - time.perf_counter()))
            came.append(Piece(piece.text, time.perf_counter() - call_s))
            yield piece.text

    recorder = TraceRecorder(sample_rate=tts.get_sampling_rate())
    words: list[WordSpan] = []
    text = "".join(write()) if whole else write()
    for chunk in tts.stream(text, clause=clause, strategy=strategy, seed=seed):
        recorder.add(chunk.samples)
        words += chunk.words
    return LiveTrace(tuple(came), recorder.finish(), tuple(words))
