"""Text to speech: the stages in the order in which the data flows through them.

::

    text ─▶ sentences ─▶ ids           frontend, phoneme_map
    ids ─▶ encodings ─▶ frames         prepare_sentence, in a thread of `Prefetch` but for the first sentence
    frames ─▶ chunks of samples        Voice.render, one push after another as the caller asks for them

All that changes lies in the generator `TTS._speak`; what leaves a stream in the middle only closes that.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from balacoon_tk._typing import PCM16Array
from balacoon_tk.audio import AudioChunk
from balacoon_tk.decoder import Strategy
from balacoon_tk.errors import ParameterError, StreamStateError
from balacoon_tk.frontend import EncodedSentence, Frontend, PhonemeMap, Sentence, create_frontend
from balacoon_tk.pacing.calibration import Calibration, load_calibration
from balacoon_tk.pacing.pacer import Pacer, PacingPlan, plan_pacing
from balacoon_tk.pacing.schedule import MAX_CHUNK_S, SAFETY_FACTOR, check_safety_factor
from balacoon_tk.runtime.background import Background, Prefetch
from balacoon_tk.runtime.options import Backend, RuntimeOptions
from balacoon_tk.runtime.scheduler import ScheduledStream, scheduler_of
from balacoon_tk.stages.sentence import PreparedSentence, Timeline, prepare_sentence
from balacoon_tk.stages.settings import (
    DEFAULT_CHUNK_FRAMES,
    Prosody,
    Settings,
    choose_chunk_frames,
    choose_seed,
)
from balacoon_tk.stages.upsampler import MAX_FRAMES
from balacoon_tk.voice.manifest import FrontendInfo
from balacoon_tk.voice.voice import Voice, load_voice, read_manifest

__all__ = ["TTS", "SpeechUtterance"]

_NO_SAMPLES: PCM16Array = np.zeros(0, np.int16)
# So much audio is made of a sentence before the next one is begun.
_AHEAD_S = MAX_CHUNK_S
# A thread that begins with the first chunk waits until that has been taken.
_HANDED_OVER_S = 0.005


class TTS:
    """A voice that speaks; one serves many threads, since what changes lives in each stream.

    Making one runs both graphs once, so that the first sentence takes no longer than others.

    Parameters
    ----------
    voice : path or Voice, optional
        A voice folder, an .addon file or a loaded voice; the default voice if None, which is exported
        into the user's cache folder the first time.
    frontend : str or Frontend
        Name of the backend from text to phonemes, ``"auto"`` for the best one that is installed, or a
        frontend of one's own.
    n_threads : int, optional
        Threads that one run of a graph may use. A `Voice` brings its own. One thread is best for many
        streams at once: `balacoon_tk.runtime.scheduler` lets one run follow another.
    backend : {"auto", "native", "onnxruntime"}, optional
        What runs the decoder, as `load_voice` has it. A `Voice` brings its own.
    options : RuntimeOptions, optional
        Threads, backend, execution providers and device. A `Voice` brings its own.
    sha256 : str, optional
        Of the voice's voice.json, as `load_voice` has it: another voice is refused.
    calibration : Calibration, optional
        What each stage costs, from which `stream` works out its chunks; that of ``balacoon-tk calibrate``
        in the user's cache if None, and safe chunks if there is none for this voice and its threads.
    safety_factor : float
        How many times as long as measured everything may take before playback waits, >= 1. It only counts
        with a calibration.

    Attributes
    ----------
    voice : Voice
    strategies : tuple of str
        The ways to stream that the voice can do.
    frontend : Frontend
        Gives the phonemes of a text, sentence by sentence.
    phoneme_map : PhonemeMap
        Gives the ids of phonemes, as the encoder reads them.
    calibration : Calibration or None
    safety_factor : float

    Raises
    ------
    VoiceError
        If the voice can't be loaded.
    MissingExtraError
        If the default voice or the frontend needs a package that isn't installed.

    Examples
    --------
    >>> samples = TTS().synthesize("Hello there.", seed=1)  # doctest: +SKIP
    """

    def __init__(
        self,
        voice: str | os.PathLike[str] | Voice | None = None,
        *,
        frontend: str | Frontend = "auto",
        n_threads: int | None = None,
        backend: Backend | None = None,
        options: RuntimeOptions | None = None,
        sha256: str | None = None,
        calibration: Calibration | None = None,
        safety_factor: float = SAFETY_FACTOR,
    ) -> None:
        check_safety_factor(safety_factor)
        if isinstance(voice, Voice):
            loaded_with = {"n_threads": n_threads, "backend": backend, "options": options, "sha256": sha256}
            for name, given in loaded_with.items():
                if given is not None:
                    raise ParameterError(f"{name}={given} must be None for a voice that is loaded already")
            self.voice = voice
            self.frontend = _make_frontend(frontend, voice.manifest.frontend)
        else:
            if voice is None:
                from balacoon_tk.voice.default import default_voice_folder

                voice = default_voice_folder()
            # Before anything is loaded: a vocoder is refused at once.
            front = read_manifest(voice, sha256=sha256).frontend
            # gruut takes as long to be imported as the graphs to be loaded, and leaves them the other cores.
            making = Background(lambda: _make_frontend(frontend, front), name="make-frontend")
            try:
                self.voice = load_voice(
                    voice, n_threads=n_threads, backend=backend, options=options, sha256=sha256
                )
            finally:
                making.wait()
            self.frontend = making.result()
        self.strategies = self.voice.strategies
        self.phoneme_map = PhonemeMap(self.voice.manifest.frontend.phoneme_ids)
        self.calibration = load_calibration(self.voice) if calibration is None else calibration
        self.safety_factor = safety_factor
        self._plans: dict[Strategy, PacingPlan | None] = {}
        # Of the strategy that a stream takes by itself, since its first chunk can't wait for it.
        self._plan(self.strategies[-1])

    def get_chunk_frames(self, strategy: str | None = None) -> tuple[int, ...]:
        """Return the frames of audio in each chunk of a text's first sentence, as `stream` cuts it.

        The last number repeats. They are those of the calibration, or `settings.DEFAULT_CHUNK_FRAMES`. The
        first chunk is longer where the sentence begins with more silence than that: it reaches to the first
        phoneme that sounds. `strategy` is as for `stream`.
        """
        plan = self._plan(self.voice.choose_strategy(strategy))
        return (plan and plan.chunk_frames) or DEFAULT_CHUNK_FRAMES

    def get_speakers(self) -> list[str]:
        """Return the names of the voice's speakers; a lone speaker has the voice's name."""
        return list(self.voice.speakers)

    def get_sampling_rate(self) -> int:
        """Return the sample rate in Hz."""
        return self.voice.manifest.sample_rate

    def synthesize(
        self,
        text: str,
        speaker: str | int | None = None,
        seed: int | None = None,
        *,
        speed: float = 1.0,
        volume: float = 1.0,
        noise_scale: float | None = None,
        noise_w: float | None = None,
    ) -> PCM16Array:
        """Speak a text and return all of it; the parameters and errors are those of `stream`.

        Returns
        -------
        ndarray of shape (n_samples,), int16
            Without samples if there is nothing to say in the text.
        """
        chunks = self.stream(
            text,
            strategy="full",
            seed=seed,
            speaker=speaker,
            speed=speed,
            volume=volume,
            noise_scale=noise_scale,
            noise_w=noise_w,
        )
        return np.concatenate([_NO_SAMPLES, *(chunk.pcm16 for chunk in chunks)])

    def synthesize_chunk(self, utterance: SpeechUtterance, speaker: str | int | None = None) -> PCM16Array:
        """Return the next samples of an utterance, which keeps its place between the calls.

        The speaker is chosen in the first call; later ones may repeat it or leave it out. `ParameterError`
        says that there is no such speaker, `StreamStateError` that the utterance was begun with another one,
        or by another `TTS`.

        Returns
        -------
        ndarray of shape (n_samples,), int16
            Without samples when the utterance is over, in every further call as well.
        """
        chunk = next(utterance.open(self, speaker), None)
        return _NO_SAMPLES if chunk is None else chunk.pcm16

    def stream(
        self,
        text: str,
        *,
        strategy: str | None = None,
        seed: int | None = None,
        speaker: str | int | None = None,
        chunk_frames: int | Sequence[int] | None = None,
        speed: float = 1.0,
        volume: float = 1.0,
        noise_scale: float | None = None,
        noise_w: float | None = None,
    ) -> Iterator[AudioChunk]:
        """Speak a text and hand over the audio as it is made, beginning with the first sentence.

        Parameters
        ----------
        text : str
            Any length; sentences are read when their turn comes.
        strategy : {"stateful", "overlap", "full"}, optional
            How the decoder is run; the exact one that costs least if None.
        seed : int, optional
            In [0, 2**64). Equal seeds give equal audio, whatever the strategy and the chunks; None
            draws a new one.
        speaker : str or int, optional
            Name or id; the first one if None.
        chunk_frames : int or sequence of int, optional
            Frames of audio in a chunk; the last number of a sequence repeats, and each sentence begins
            with the first. None gives those with which sound comes earliest and playback never waits: from
            the calibration if there is one, else `settings.DEFAULT_CHUNK_FRAMES`. They change what is
            handed over when, and no sample. ``strategy="full"`` gives one chunk per sentence.
        speed : float
            In [0.1, 10]; 2 is twice as fast as the voice itself.
        volume : float
            In [0, 10]: a factor on the samples.
        noise_scale, noise_w : float, optional
            How much the sound and the rhythm vary from seed to seed, in [0, 10]; the voice's own
            values if None.

        Returns
        -------
        iterator of AudioChunk
            Nothing if there is nothing to say in the text. It may be left at any point. While a sentence
            is heard, the next one is made ready in a thread, which ends with the iterator.

        Raises
        ------
        ParameterError
            At the call, if an argument is wrong.
        """
        if not isinstance(text, str):
            raise ParameterError(f"text={text!r} must be a str")
        own = self.voice.manifest.prosody
        prosody = Prosody.choose(own, speed=speed, volume=volume, noise_scale=noise_scale, noise_w=noise_w)
        settings = Settings(
            strategy=self.voice.choose_strategy(strategy),
            seed=choose_seed(seed),
            speaker_id=self.voice.speaker_id(speaker),
            prosody=prosody,
        )
        pacer = self._pacer(settings.strategy, choose_chunk_frames(chunk_frames))
        return self._speak(self.frontend.phonemize(text), settings, pacer)

    def _speak(self, sentences: Iterable[Sentence], settings: Settings, pacer: Pacer) -> Iterator[AudioChunk]:
        manifest, volume, start, begun = self.voice.manifest, settings.prosody.volume, 0, False
        options, closed = self.voice.options, threading.Event()
        stream = scheduler_of(options.device).join(options.n_threads)
        coming = Prefetch(self._prepare(sentences, settings, stream, closed), closed)
        try:
            while (sentence := coming.take()) is not None:
                upsampler = sentence.upsampler
                timeline = Timeline(
                    sentence.encoded,
                    upsampler.phoneme_starts,
                    hop_length=manifest.hop_length,
                    sample_rate=manifest.sample_rate,
                    start_sample=start,
                )
                first, end = start, start + upsampler.n_frames * manifest.hop_length
                sizes = pacer.chunk_frames(sentence)
                chunks = self.voice.render(upsampler, sentence.speaker_embedding, settings.strategy, sizes)
                while start < end:
                    # A slot for one push, and none while the caller has the chunk.
                    with stream.slot():
                        samples = next(chunks)
                    stop = start + len(samples)
                    is_ahead = stop == end or stop - first >= _AHEAD_S * manifest.sample_rate
                    if is_ahead and not sentence.encoded.last:
                        # Nothing may come between the first sound and whoever waits for it.
                        coming.begin(delay_s=0.0 if begun else _HANDED_OVER_S)
                    begun = True
                    # Before it is handed over: while the caller has it, this generator stands still.
                    stream.hand_over(len(samples) / manifest.sample_rate)
                    yield AudioChunk(
                        samples=samples if volume == 1.0 else samples * np.float32(volume),
                        sample_rate=manifest.sample_rate,
                        start_sample=start,
                        alignment=timeline.spans(start, stop),
                    )
                    start = stop
        finally:
            coming.close()

    def _prepare(
        self,
        sentences: Iterable[Sentence],
        settings: Settings,
        stream: ScheduledStream,
        closed: threading.Event,
    ) -> Iterator[PreparedSentence]:
        for index, encoded in enumerate(self.encode_sentences(sentences)):
            if closed.is_set():
                return
            with stream.slot():
                prepared = prepare_sentence(self.voice, encoded, settings, index=index)
            # Outside of the slot: while a generator waits it would hold what others wait for.
            yield prepared

    def _pacer(self, strategy: Strategy, chunk_frames: tuple[int, ...] | None) -> Pacer:
        if strategy == "full":
            return Pacer((MAX_FRAMES,), None)
        return Pacer(chunk_frames, None if chunk_frames is not None else self._plan(strategy))

    def _plan(self, strategy: Strategy) -> PacingPlan | None:
        """Return what the calibration says of a strategy, worked out once."""
        if self.calibration is not None and strategy not in self._plans:
            costs = self.calibration.costs
            self._plans[strategy] = plan_pacing(self.voice, strategy, costs, safety_factor=self.safety_factor)
        return self._plans.get(strategy)

    def encode_sentences(self, sentences: Iterable[Sentence]) -> Iterator[EncodedSentence]:
        """Give the ids of each sentence of which the voice has something to say."""
        for sentence in sentences:
            encoded = self.phoneme_map.encode(sentence.phonemes, last=sentence.last)
            if encoded.first_spoken is not None:
                yield encoded


def _make_frontend(frontend: str | Frontend, info: FrontendInfo) -> Frontend:
    if not isinstance(frontend, str):
        return frontend
    return create_frontend(
        frontend, language=info.language, phoneme_type=info.phoneme_type, symbols=info.phoneme_ids
    )


class SpeechUtterance:
    """A text, and how far `TTS.synthesize_chunk` has come with it; for one thread at a time.

    `seed` is as for `TTS.stream`.
    """

    def __init__(self, text: str, *, seed: int | None = None) -> None:
        self.text = text
        self.seed = seed
        self._tts: TTS | None = None
        self._speaker_id: int | None = None
        self._chunks: Iterator[AudioChunk] = iter(())

    def open(self, tts: TTS, speaker: str | int | None) -> Iterator[AudioChunk]:
        """Return the chunks that are still to come; the first call begins the stream."""
        speaker_id = tts.voice.speaker_id(speaker)
        if self._tts is None:
            self._chunks = tts.stream(self.text, seed=self.seed, speaker=speaker)
            self._tts, self._speaker_id = tts, speaker_id
        # Another voice would go on in the middle with other ids.
        if tts is not self._tts:
            raise StreamStateError("the utterance was begun by another TTS: make a new SpeechUtterance")
        if speaker is not None and speaker_id != self._speaker_id:
            raise StreamStateError(
                f"speaker={speaker!r} can't take over in the middle: make a new SpeechUtterance"
            )
        return self._chunks
