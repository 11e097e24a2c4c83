"""Measure what each stage of a voice takes on this machine: in turn, several times, by the median.

Everything goes the way that speaking goes, so that what Python adds is counted. All stages are run once
a round: whatever else the machine does for a while slows one run of each, and not all runs of one.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import numpy as np

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.decoder import Decoder, Strategy
from balacoon_tk.errors import ParameterError
from balacoon_tk.frontend import EncodedSentence
from balacoon_tk.metrics import AUDIBLE_DBFS, plain_sentences
from balacoon_tk.pacing.calibration import Calibration, CalibrationKey
from balacoon_tk.pacing.costs import CostCurve, CostModel, PushCosts
from balacoon_tk.runtime._checks import all_finite
from balacoon_tk.stages.encoder import Encoding
from balacoon_tk.stages.sentence import prepare_sentence
from balacoon_tk.stages.settings import Prosody, Settings
from balacoon_tk.stages.upsampler import Upsampler
from balacoon_tk.tts import TTS

N_ROUNDS = 5
"""The median of five is right if two of them were disturbed."""

_CHUNKS = (1, 2, 4, 8, 16, 32, 64)
_OVERLAP_CHUNKS = (1, 8, 64)  # each takes as long as many others, and the context evens them out
_N_IDS = (16, 64, 160, 400)
_N_SENTENCES = 12
_N_ONSETS = 50
_ONSET_QUANTILE = 0.95  # a first chunk that misses the first sound costs as much as twenty frames
_SEARCHED = (16, 32, 64)  # chunks in which the first sound is looked for

_Measured = defaultdict[int, list[float]]


@dataclass(frozen=True, slots=True)
class _Stage:
    """What some runs took, against a count: once it is measured, a curve."""

    measured: _Measured = field(default_factory=lambda: defaultdict(list))

    def time(self, count: int, run: Callable[[], object]) -> None:
        """Run once and note what it took."""
        begun_s = time.perf_counter()
        run()
        self.measured[count].append(time.perf_counter() - begun_s)

    @property
    def curve(self) -> CostCurve:
        """The curve through all of it but each count's first run, which warmed up."""
        return CostCurve.fit({count: seconds[1:] for count, seconds in self.measured.items()})


def calibrate(
    tts: TTS, *, n_rounds: int = N_ROUNDS, progress: Callable[[int, int], None] | None = None
) -> Calibration:
    """Measure a voice; `save_calibration` keeps the result, and the next `TTS` uses it.

    Parameters
    ----------
    tts : TTS
        The voice, its frontend and its threads.
    n_rounds : int
        How often everything is measured, >= 1; one more round before them warms up and isn't counted.
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
    spoken = _speakable(tts, _N_SENTENCES)
    longest = list(spoken.values())[-1]
    settings = _settings(tts)
    encoding = tts.voice.encoder.encode(longest.phoneme_ids, speaker_id=settings.speaker_id)
    strategies: list[Strategy] = [name for name in tts.strategies if name != "full"]
    frontend, encoder = _Stage(), _Stage()
    first, later = ({name: _Stage() for name in strategies} for _ in range(2))
    stages: list[Callable[[], None]] = [
        partial(_time_frontend, tts, spoken, frontend),
        partial(_time_encoder, tts, longest, settings, encoder),
        *(partial(_time_pushes, tts, name, encoding, first[name], later[name]) for name in strategies),
    ]
    runs = (1 + n_rounds) * stages
    onsets: list[float] = []
    heard = _speakable(tts, _N_ONSETS).items()
    runs += [partial(_find_onset, tts, text, sentence, settings, onsets) for text, sentence in heard]
    for n_done, run in enumerate(runs, start=1):
        run()
        if progress is not None:
            progress(n_done, len(runs))
    costs = CostModel(
        pushes={name: PushCosts(first[name].curve, later[name].curve) for name in strategies},
        encoder=encoder.curve,
        frontend=frontend.curve,
        onset_frames=float(np.quantile(onsets, _ONSET_QUANTILE)) if onsets else 0.0,
    )
    return Calibration(
        CalibrationKey.of(tts.voice), tts.voice.manifest.name, type(tts.frontend).__name__, costs
    )


def _settings(tts: TTS) -> Settings:
    return Settings(
        strategy=tts.strategies[-1],
        seed=0,
        speaker_id=tts.voice.speaker_id(None),
        prosody=Prosody.choose(tts.voice.manifest.prosody),
    )


def _speakable(tts: TTS, n_sentences: int) -> dict[str, EncodedSentence]:
    """Return about so many sentences of all lengths with their ids, the shortest first."""
    plain = sorted(plain_sentences(), key=len)
    step = max(1, len(plain) // n_sentences)
    spoken = {}
    for text in plain[::step]:
        sentences = list(tts.encode_sentences(tts.frontend.phonemize(text)))
        if len(sentences) == 1:
            spoken[text] = sentences[0]
    if not spoken:
        raise ParameterError(
            f"voice {tts.voice.manifest.name!r} must be able to say English sentences to be calibrated"
        )
    return spoken


def _time_frontend(tts: TTS, spoken: dict[str, EncodedSentence], stage: _Stage) -> None:
    for text, sentence in spoken.items():
        run = partial(_exhaust, tts, text)
        stage.time(len(sentence.phoneme_ids), run)


def _exhaust(tts: TTS, text: str) -> None:
    for _ in tts.encode_sentences(tts.frontend.phonemize(text)):
        pass


def _time_encoder(tts: TTS, sentence: EncodedSentence, settings: Settings, stage: _Stage) -> None:
    for n_ids in _N_IDS:
        longer = replace(sentence, phoneme_ids=np.resize(sentence.phoneme_ids, n_ids))
        stage.time(n_ids, partial(prepare_sentence, tts.voice, longer, settings, index=0))


def _time_pushes(tts: TTS, strategy: Strategy, encoding: Encoding, first: _Stage, later: _Stage) -> None:
    """Push first chunks of every size, and after the last of them later ones."""
    voice = tts.voice
    lag_frames = -(-voice.open_decoder(strategy).lag_samples // voice.manifest.hop_length)
    n_phonemes = len(encoding.encodings)
    chunks = _OVERLAP_CHUNKS if strategy == "overlap" else _CHUNKS
    n_frames = lag_frames + chunks[-1] + sum(chunks)
    frames = Upsampler(
        encoding.encodings,
        np.full(n_phonemes, -(-n_frames // n_phonemes)),  # as if it were spoken slowly enough
        log_scales=encoding.log_scales,
        noise_scale=voice.manifest.prosody.noise_scale,
        gaussian_delta=voice.manifest.gaussian_delta,
    )
    constant: dict[str, AnyArray] = {}
    if encoding.speaker_embedding is not None and "speaker_embedding" in voice.decoder.contract.inputs:
        constant["speaker_embedding"] = encoding.speaker_embedding
    for size in chunks:
        decoder, stop = voice.open_decoder(strategy), lag_frames + size
        first.time(stop, partial(_push, decoder, frames, 0, stop, constant))
    for size in chunks:
        later.time(size, partial(_push, decoder, frames, stop, stop + size, constant))
        stop += size


def _push(decoder: Decoder, frames: Upsampler, start: int, stop: int, constant: dict[str, AnyArray]) -> None:
    samples = cast(FloatArray, decoder.take({"frames": frames.window(start, stop)[np.newaxis], **constant}))
    all_finite(samples)  # as `Voice.decode` does


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
