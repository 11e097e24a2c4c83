"""Chunk sizes for one stream, sentence by sentence: as asked for, as calibrated, or safe ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

from balacoon_tk.decoder import Strategy
from balacoon_tk.pacing.costs import CostModel
from balacoon_tk.pacing.schedule import Pace, solve_schedule
from balacoon_tk.stages.sentence import PreparedSentence
from balacoon_tk.stages.settings import DEFAULT_CHUNK_FRAMES
from balacoon_tk.voice.voice import Voice

_FIRST_CHUNKS = (4, 8)  # frames, between which most texts begin; each takes milliseconds to solve


class PacingPlan:
    """What a calibration says of one strategy; shared by all streams."""

    def __init__(self, costs: CostModel, pace: Pace) -> None:
        self.costs = costs
        self.pace = pace
        # For a text of any length that sounds from its first frame on; None if the machine is too slow.
        self.chunk_frames = solve_schedule(pace)
        solved = (solve_schedule(pace, first_frames=first) for first in _FIRST_CHUNKS)
        self._longer = [chunks for chunks in solved if chunks is not None]
        # Where the machine is too slow for any length each has its own chunks. Texts repeat the lengths of
        # their sentences, and a schedule takes milliseconds to solve.
        self._solve = lru_cache(256)(partial(solve_schedule, pace))

    def begin(self, n_frames: int, lead_frames: int) -> tuple[int, ...]:
        """Return the chunks of a text's first sentence; the first one holds the first audible sample."""
        first = self.pace.first_chunk(max(0.0, lead_frames + self.costs.onset_frames))
        if self.chunk_frames is None:
            return self._solve(n_frames, first_frames=first) or (n_frames,)
        # What goes on after a first chunk goes on after a longer one.
        chunks = max([self.chunk_frames, *(other for other in self._longer if other[0] <= first)])
        return chunks if first <= chunks[0] else (first, *(chunks[1:] or chunks))

    def go_on(self, n_frames: int, buffer_s: float) -> tuple[int, ...]:
        """Return the chunks of a later sentence: the largest that the audio still to be played allows."""
        chunks = self.begin(n_frames, 0)
        # From the steady size backwards: what begins largest is the least work.
        for i in reversed(range(len(chunks))):
            if self.pace.play(n_frames, chunks[i:], buffer_s=buffer_s).shortest_s >= 0:
                return chunks[i:]
        # Where nothing fits playback waits in any case, and waits least for a small chunk.
        return chunks


def plan_pacing(
    voice: Voice, strategy: Strategy, costs: CostModel, *, safety_factor: float
) -> PacingPlan | None:
    """Return the plan of a strategy, or None if its pushes were not measured."""
    # `full` has no pushes to plan, and nothing was measured of what the voice couldn't do.
    if strategy not in costs.pushes:
        return None
    hop_length, rate = voice.manifest.hop_length, voice.manifest.sample_rate
    lag_samples = voice.open_decoder(strategy).lag_samples
    return PacingPlan(costs, Pace(costs.pushes[strategy], hop_length, rate, lag_samples, safety_factor))


class Pacer:
    """The chunk sizes of one stream; remembers how much audio its playback has left.

    Times are those of the plan and not of a clock, so that equal texts are always cut in the same way. What
    the caller asked for, if anything, holds in every sentence.
    """

    def __init__(self, chunk_frames: Sequence[int] | None, plan: PacingPlan | None) -> None:
        self._fixed = chunk_frames
        self._plan = plan
        self._begins = True
        # Frames of a sentence, its chunks, and what was buffered before it; None in the first one.
        self._before: tuple[int, tuple[int, ...], float | None] | None = None

    def chunk_frames(self, sentence: PreparedSentence, *, silence_s: float = 0.0) -> Sequence[int]:
        """Return the chunks of the next sentence, before which so much silence was handed over."""
        n_frames, begins, self._begins = sentence.upsampler.n_frames, self._begins, False
        if self._fixed is not None:
            return self._fixed
        if self._plan is None or not n_frames:
            first, *later = DEFAULT_CHUNK_FRAMES
            return (max(first, sentence.lead_frames), *later) if begins else DEFAULT_CHUNK_FRAMES
        plan = self._plan
        if self._before is None:
            buffer_s, chunks = None, plan.begin(n_frames, sentence.lead_frames)
        else:
            # What the one before has left is worked out only now: the first sound doesn't wait for it.
            n_before, chunks_before, buffer_before_s = self._before
            buffer_s = plan.pace.play(n_before, chunks_before, buffer_s=buffer_before_s).buffer_s + silence_s
            buffer_s -= plan.pace.safety_factor * plan.costs.prepare_s(len(sentence.encoded.phoneme_ids))
            chunks = plan.go_on(n_frames, buffer_s)
        self._before = n_frames, chunks, buffer_s
        return chunks
