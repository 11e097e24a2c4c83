"""Measure what each stage of a voice takes on this machine: in turn, several times, by the median.

Everything goes the way that speaking goes, so that what Python adds is counted. All stages are run once
a round: whatever else the machine does for a while slows one run of each, and not all runs of one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from timeit import timeit

import numpy as np

from balacoon_tk.decoder import Strategy
from balacoon_tk.errors import ParameterError
from balacoon_tk.frontend import EncodedSentence
from balacoon_tk.metrics import AUDIBLE_DBFS, plain_sentences
from balacoon_tk.pacing.calibration import Calibration, CalibrationKey
from balacoon_tk.pacing.costs import CostCurve, CostModel, PushCosts
from balacoon_tk.stages.sentence import own_settings, prepare_sentence
from balacoon_tk.stages.settings import Settings
from balacoon_tk.tts import TTS

_CHUNKS = (1, 2, 4, 8, 16, 32, 64)
_OVERLAP_CHUNKS = (1, 8, 64)  # each takes as long as many others, and the context evens them out
_N_IDS = (16, 64, 160, 400)
_SEARCHED = (16, 32, 64)  # chunks in which the first sound is looked for


class _Stage(defaultdict[int, list[float]]):
    """Seconds of runs against a count: once it is measured, a curve."""

    def __init__(self) -> None:
        super().__init__(list)

    def time(self, count: int, run: Callable[[], object]) -> None:
        """Run once and note what it took."""
        self[count].append(timeit(run, number=1))

    @property
    def curve(self) -> CostCurve:
        """The curve through all of it but each count's first run, which warmed up."""
        return CostCurve.fit({count: seconds[1:] for count, seconds in self.items()})


def calibrate(
    tts: TTS, *, n_rounds: int = 5, progress: Callable[[int, int], None] | None = None
) -> Calibration:
    """Measure a voice; `save_calibration` keeps the result, and the next `TTS` uses it.

    Parameters
    ----------
    tts : TTS
        The voice, its frontend and its threads.
    n_rounds : int
        How often everything is measured, >= 1; one more round before them warms up and isn't counted. The
        median of five is right if two of them were disturbed.
    progress : callable, optional
        Called with the number of stages done and the number of all stages.

    Raises
    ------
    ParameterError
        If `n_rounds` is less than 1, or the voice can say none of the English sentences that come with
        this package.
    """
    if n_rounds < 1:
        raise ParameterError(f"n_rounds={n_rounds} must be >= 1")
    spoken = _speakable(tts, 12)
    longest = list(spoken.values())[-1]
    settings = own_settings(tts.voice)
    strategies: list[Strategy] = [name for name in tts.strategies if name != "full"]
    frontend, encoder = _Stage(), _Stage()
    first, later = ({name: _Stage() for name in strategies} for _ in range(2))
    stages: list[Callable[[], None]] = [
        partial(_time_frontend, tts, spoken, frontend),
        partial(_time_encoder, tts, longest, settings, encoder),
    ]
    stages += [
        partial(_time_pushes, tts, name, longest, settings, first[name], later[name]) for name in strategies
    ]
    # Stage after stage in each round: the first one warms up what the others are timed with.
    runs = (1 + n_rounds) * stages
    onsets: list[float] = []
    # Where a text is first heard differs from one to the next: of that many there is a quantile to take.
    heard = _speakable(tts, 50).items()
    runs += [partial(_find_onset, tts, text, sentence, settings, onsets) for text, sentence in heard]
    for n_done, run in enumerate(runs, start=1):
        run()
        if progress is not None:
            progress(n_done, len(runs))
    costs = CostModel(
        pushes={name: PushCosts(first[name].curve, later[name].curve) for name in strategies},
        encoder=encoder.curve,
        frontend=frontend.curve,
        # A high quantile: a first chunk too long costs a few frames, one too short a whole second chunk.
        onset_frames=float(np.quantile(onsets, 0.95)) if onsets else 0.0,
    )
    return Calibration(
        CalibrationKey.of(tts.voice), tts.voice.manifest.name, type(tts.frontend).__name__, costs
    )


def _speakable(tts: TTS, n_sentences: int) -> dict[str, EncodedSentence]:
    """Return about so many sentences of all lengths with their ids, the shortest first."""
    # Of all lengths, because the cost of a frontend is a curve over them.
    plain = sorted(plain_sentences(), key=len)
    step = max(1, len(plain) // n_sentences)
    spoken = {}
    for text in plain[::step]:
        if len(sentences := _encode(tts, text)) == 1:
            spoken[text] = sentences[0]
    if not spoken:
        raise ParameterError(
            f"voice {tts.voice.manifest.name!r} must be able to say English sentences to be calibrated"
        )
    return spoken


def _time_frontend(tts: TTS, spoken: dict[str, EncodedSentence], stage: _Stage) -> None:
    for text, sentence in spoken.items():
        # To its end, since sentences come one by one.
        stage.time(len(sentence.phoneme_ids), partial(_encode, tts, text))


def _encode(tts: TTS, text: str) -> list[EncodedSentence]:
    return list(tts.encode_sentences(tts.frontend.phonemize(text)))


def _time_encoder(tts: TTS, sentence: EncodedSentence, settings: Settings, stage: _Stage) -> None:
    for n_ids in _N_IDS:
        # The encoder takes as long for nonsense as for words, so any number of ids can be had.
        longer = replace(sentence, phoneme_ids=np.resize(sentence.phoneme_ids, n_ids))
        stage.time(n_ids, partial(prepare_sentence, tts.voice, longer, settings, index=0))


def _time_pushes(
    tts: TTS, strategy: Strategy, sentence: EncodedSentence, settings: Settings, first: _Stage, later: _Stage
) -> None:
    """Push first chunks of every size, and after the last of them later ones."""
    voice = tts.voice
    lag_frames = -(-voice.open_decoder(strategy).lag_samples // voice.manifest.hop_length)
    chunks = _OVERLAP_CHUNKS if strategy == "overlap" else _CHUNKS
    # One chunk more than is pushed: a sentence's last push may be of any size.
    n_frames = lag_frames + sum(chunks) + 2 * chunks[-1]
    prepared = prepare_sentence(voice, sentence, settings, index=0)
    # Its phonemes are said again until it is long enough; of none there would be never enough.
    while 0 < prepared.upsampler.n_frames < n_frames:
        sentence = replace(sentence, phoneme_ids=np.tile(sentence.phoneme_ids, 2))
        prepared = prepare_sentence(voice, sentence, settings, index=0)
    for size in chunks:
        # A decoder of its own each time, as a sentence has: it is opened within the first push.
        pushes = voice.render(prepared.upsampler, prepared.speaker_embedding, strategy, (size, *chunks))
        first.time(lag_frames + size, partial(next, pushes))
    for size in chunks:
        later.time(size, partial(next, pushes))


def _find_onset(
    tts: TTS, text: str, encoded: EncodedSentence, settings: Settings, onsets: list[float]
) -> None:
    """Note how many frames after its first phoneme's beginning a sentence is heard."""
    threshold = 10.0 ** (AUDIBLE_DBFS / 20.0)
    lead_frames = prepare_sentence(tts.voice, encoded, settings, index=0).lead_frames
    n_before = 0
    for chunk in tts.stream(text, strategy=settings.strategy, seed=settings.seed, chunk_frames=_SEARCHED):
        audible = np.flatnonzero(np.abs(chunk.samples) >= threshold)
        if audible.size:
            heard = float(n_before + audible[0]) / tts.voice.manifest.hop_length
            onsets.append(heard - lead_frames)
            return
        n_before += len(chunk.samples)
