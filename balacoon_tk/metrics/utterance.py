"""All that a metric may ask of one utterance; what takes long is made once, when it is first asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from balacoon_tk._typing import FloatArray, PCM16Array
from balacoon_tk.audio import to_pcm16
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics import perception, speech
from balacoon_tk.metrics.trace import StreamTrace


@dataclass(eq=False)
class Utterance:
    """A sentence, spoken in one way; its attributes are what metrics take as arguments."""

    text: str
    samples: FloatArray
    """float32 (n_samples,)"""
    sample_rate: int
    """Hz"""
    whole: Utterance | None = None
    """What it is compared with; None if it is that itself."""
    trace: StreamTrace | None = None
    """None where nothing was streamed; no metric of latency can be asked for then."""
    reference_total_s: float = math.nan
    """What the whole utterance took, the median over rounds."""

    # The whole is compared with itself where somebody asks: all its losses are then 0.
    @property
    def reference(self) -> FloatArray:
        """Samples of the whole utterance."""
        return (self.whole or self).samples

    @property
    def reference_pitch(self) -> NDArray[np.float64]:
        """Pitch of the whole utterance: one track for everything that is compared with it."""
        return (self.whole or self).pitch

    @property
    def traces(self) -> tuple[StreamTrace, ...]:
        """The trace alone: a share of utterances is the mean of this one's over sentences."""
        return () if self.trace is None else (self.trace,)

    @property
    def borders(self) -> list[int]:
        """First sample of each chunk but the first."""
        return list(accumulate(self.trace.n_samples))[:-1] if self.trace else []

    # Made once each: a judged utterance is held against those of all strategies that come after it.
    @cached_property
    def pcm(self) -> PCM16Array:
        """The samples as they are written to a file."""
        return to_pcm16(self.samples)

    @cached_property
    def pitch(self) -> NDArray[np.float64]:
        """As `track_pitch` gives it."""
        return speech.track_pitch(self.samples, sample_rate=self.sample_rate)

    @cached_property
    def transcript(self) -> str:
        """What a recogniser hears; of silence no word."""
        # The recogniser refuses silence, which is no reason to lose what else is known of the sentence.
        try:
            return perception.transcribe(self.pcm, sample_rate=self.sample_rate)
        except ParameterError:
            return ""
