"""What a worker does, wherever it runs: speak the utterances of a batch, one after the other.

One thread each, so that the samples are the same whoever speaks them: not a sum is added up in another order.
"""

from __future__ import annotations

import hashlib
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from balacoon_tk._typing import PCM16Array
from balacoon_tk.audio import AudioChunk, pcm_bytes
from balacoon_tk.corpus.errors import CorpusError
from balacoon_tk.corpus.files import Interval, write_audio, write_textgrid
from balacoon_tk.corpus.journal import BatchJournal
from balacoon_tk.corpus.plan import Batch, CorpusPlan, Variant
from balacoon_tk.corpus.sentences import CorpusSentence
from balacoon_tk.errors import ParameterError, VoiceError
from balacoon_tk.frontend import NothingToSayWarning
from balacoon_tk.metrics.registry import Metric, all_metrics, measure
from balacoon_tk.metrics.utterance import Utterance
from balacoon_tk.stages.settings import DEFAULT_CHUNK_FRAMES
from balacoon_tk.tts import TTS


class Spoken(NamedTuple):
    """What whoever waits for an utterance wants to hear of it."""

    audio_s: float
    """0 if it failed."""
    failed: bool
    warnings: tuple[str, ...]
    """Of the voice, such as what it left out."""


class CorpusSpeaker:
    """A worker: its voices are loaded when their first utterance comes, and stay.

    Parameters
    ----------
    plan : CorpusPlan
    folder : Path
        Of the corpus.
    run : str
        As `BatchJournal` has it.
    find_voice : callable, optional
        Gives the place of a voice; where the plan says if None.
    """

    def __init__(
        self, plan: CorpusPlan, folder: Path, run: str, find_voice: Callable[[Variant], str] | None = None
    ) -> None:
        self._plan, self._folder, self._run = plan, folder, run
        self._find_voice = find_voice or (lambda variant: variant.path)
        self._voices: dict[tuple[str, str, str], TTS] = {}
        self._metrics = [each for each in all_metrics() if each.group in plan.metrics]

    def speak(self, batch: Batch) -> Iterator[Spoken]:
        """Speak what is still to be done of a batch; each utterance is on the disk when it is given.

        A sentence that fails is recorded with its error. A `CorpusError` is for what would make all others
        fail as well: there is no voice, or no room on the disk.
        """
        variant = self._plan.variants[batch.variant]
        try:
            with BatchJournal(self._folder, batch, self._run) as journal:
                for index, sentence in zip(batch.indices, batch.sentences, strict=True):
                    if index not in journal.rows:
                        tts = self._voice(variant)
                        with warnings.catch_warnings(record=True) as caught:
                            warnings.simplefilter("always")
                            # The row says so.
                            warnings.simplefilter("ignore", NothingToSayWarning)
                            row = self._row(tts, variant, index, sentence, journal.begin(index))
                        journal.add(row)
                        said = tuple(dict.fromkeys(str(each.message) for each in caught))
                        yield Spoken(row.get("duration_s", 0.0), "error" in row, said)
        except OSError as error:
            raise CorpusError(f"{platform.node()}: {self._folder} can't be written to: {error}") from error

    def _voice(self, variant: Variant) -> TTS:
        key = (variant.sha256, variant.backend, variant.frontend)
        if key not in self._voices:
            try:
                self._voices[key] = TTS(
                    self._find_voice(variant),
                    n_threads=1,
                    backend=variant.backend,
                    frontend=variant.frontend,
                    sha256=variant.sha256,
                )
            except VoiceError as error:
                raise CorpusError(
                    f"{platform.node()}: the voice {variant.voice} isn't there: {error}"
                ) from error
        return self._voices[key]

    def _row(
        self, tts: TTS, variant: Variant, index: int, sentence: CorpusSentence, may_try: bool
    ) -> dict[str, Any]:
        row: dict[str, Any] = {
            "index": index,
            **sentence._asdict(),
            "voice": variant.voice,
            "precision": variant.precision,
            "strategy": variant.strategy,
            "speaker": variant.speaker,
            "voice_sha256": variant.sha256,
            "seed": sentence.seed(self._plan.seed),
        }
        if not may_try:
            return row | {"error": "the worker ended each time that it was tried"}
        # Whatever a text or a graph brings about is that sentence's; what the disk does is not.
        try:
            chunks, samples, found = self._spoken(tts, variant, sentence, row["seed"])
        except Exception as error:
            return row | {"error": f"{type(error).__name__}: {error}"}
        path = self._plan.audio_path(variant, index, sentence)
        self._write(self._folder / path, chunks, samples)
        return row | {"file_name": path.as_posix()} | found

    def _spoken(
        self, tts: TTS, variant: Variant, sentence: CorpusSentence, seed: int
    ) -> tuple[list[AudioChunk], PCM16Array, dict[str, Any]]:
        """Return an utterance's chunks, its samples, and what the manifest says of it."""
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        # Not those of a calibration, which another machine may not have.
        chunks = list(
            tts.stream(
                sentence.text,
                strategy=variant.strategy,
                seed=seed,
                speaker=variant.speaker,
                chunk_frames=DEFAULT_CHUNK_FRAMES,
            )
        )
        synthesis_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
        if not chunks:
            raise ParameterError("there is nothing to say in the text")
        rate, hop_length = tts.get_sampling_rate(), tts.voice.manifest.hop_length
        samples = np.concatenate([chunk.samples for chunk in chunks])
        phonemes = [span for chunk in chunks for span in chunk.alignment]
        found = {
            "sample_rate": rate,
            "hop_length": hop_length,
            "n_samples": samples.size,
            "duration_s": samples.size / rate,
            "samples_sha256": hashlib.sha256(pcm_bytes(samples)).hexdigest(),
            "phonemes": [span.phoneme for span in phonemes],
            "durations": [round((span.end_s - span.start_s) * rate / hop_length) for span in phonemes],
            "synthesis_s": synthesis_s,
            "cpu_s": cpu_s,
        }
        utterance = Utterance(sentence.text, samples, rate)
        return chunks, utterance.pcm, found | measure_alone(self._metrics, utterance)

    def _write(self, path: Path, chunks: list[AudioChunk], samples: PCM16Array) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rate = chunks[0].sample_rate
        if self._plan.textgrid:
            tiers = {
                "words": [Interval(w.start_s, w.end_s, w.word) for chunk in chunks for w in chunk.words],
                "phonemes": [
                    Interval(p.start_s, p.end_s, p.phoneme) for chunk in chunks for p in chunk.alignment
                ],
            }
            write_textgrid(path.with_suffix(".TextGrid"), samples.size / rate, tiers)
        write_audio(path, samples, sample_rate=rate)


def measure_alone(metrics: list[Metric], utterance: Utterance) -> dict[str, Any]:
    """Return the fields of metrics for an utterance that is compared with none; of a WER, what was heard."""
    found = measure(metrics, utterance)
    if any("transcript" in each.inputs for each in metrics):
        found["transcript"] = utterance.transcript
    return found
