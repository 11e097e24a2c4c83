"""Text to speech: the stages in the order in which the data flows through them.

::

    text ─▶ sentences ─▶ ids           frontend, phoneme_map
    ids ─▶ chunks of samples           `balacoon_tk.stages.speaking`, one push after another

How many are spoken at once, `balacoon_tk.runtime.admission` decides.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self, TypeVar, cast

import numpy as np

from balacoon_tk._typing import PCM16Array
from balacoon_tk.audio import AudioChunk
from balacoon_tk.decoder import Strategy
from balacoon_tk.errors import ParameterError, StreamStateError
from balacoon_tk.frontend import EncodedSentence, Frontend, PhonemeMap, Pieces, Sentence, create_frontend
from balacoon_tk.frontend.assembly import PiecesFrontend
from balacoon_tk.frontend.markup.marked_text import Markup, choose_markup
from balacoon_tk.frontend.reading.reader import DEFAULT_READING, Reading, check_pieces
from balacoon_tk.frontend.reading.transducers import Flush
from balacoon_tk.pacing.calibration import Calibration, load_calibration
from balacoon_tk.pacing.pacer import Pacer, PacingPlan, plan_pacing
from balacoon_tk.pacing.schedule import SAFETY_FACTOR, check_safety_factor
from balacoon_tk.runtime.admission import Crowd, Load, StreamCounts
from balacoon_tk.runtime.background import Background
from balacoon_tk.runtime.options import Backend, RuntimeOptions
from balacoon_tk.runtime.process import generation
from balacoon_tk.runtime.scheduler import scheduler_of
from balacoon_tk.runtime.session import survives_forks
from balacoon_tk.runtime.speech_stream import AsyncSpeechStream, SpeechStream
from balacoon_tk.runtime.text_feed import TextFeed, feed_all, feed_from
from balacoon_tk.stages.settings import (
    DEFAULT_CHUNK_FRAMES,
    Pauses,
    Prosody,
    Settings,
    choose_chunk_frames,
    choose_seed,
)
from balacoon_tk.stages.speaking import Speaking
from balacoon_tk.stages.upsampler import MAX_FRAMES
from balacoon_tk.voice.manifest import FrontendInfo
from balacoon_tk.voice.voice import Voice, load_voice, read_manifest

__all__ = ["TTS", "SpeechUtterance"]

_NO_SAMPLES: PCM16Array = np.zeros(0, np.int16)

# For the one who loads a voice anew in a child, while the others wait. Each process has one of its own: that
# of its parent may be held by a thread that it hasn't.
_LOADING: dict[int, threading.Lock] = {}


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
        What runs encoder and decoder, as `load_voice` has it. A `Voice` brings its own.
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
    max_streams : int, optional
        Streams that play at once, >= 1; more of them wait, in the order in which they came. If None, as many
        as this machine serves without a gap, by what their chunks have been measured to take.
    max_waiting : int, optional
        Streams that wait for their turn, >= 0; one more is a `BusyError`. 1000 if None.

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

    Notes
    -----
    Pickled, it is its recipe: the path and the checksum of the voice and these arguments, from which another
    process loads it anew. A copy shares the voice. In a child that was forked a voice of one thread
    (``n_threads=1``) goes on as it is; any other is loaded anew with the child's first stream, since a fork
    leaves threads behind.

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
        max_streams: int | None = None,
        max_waiting: int | None = None,
    ) -> None:
        check_safety_factor(safety_factor)
        self._crowd = Crowd(max_streams, max_waiting)
        self._frontend_name = frontend if isinstance(frontend, str) else None
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
        self.phoneme_map = PhonemeMap.of(self.voice.manifest.frontend)
        self.calibration = load_calibration(self.voice) if calibration is None else calibration
        self.safety_factor = safety_factor
        self._process = generation()
        self._plans: dict[Strategy, PacingPlan | None] = {}
        self._loads: dict[Strategy, Load] = {}
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

    def count_streams(self) -> StreamCounts:
        """Return how many streams of this TTS play and how many wait, so that a server can say so."""
        return scheduler_of(self.voice.options.device).admission.count(self._crowd)

    def synthesize(
        self,
        text: str | Pieces,
        speaker: str | int | None = None,
        seed: int | None = None,
        *,
        speed: float = 1.0,
        volume: float = 1.0,
        noise_scale: float | None = None,
        noise_w: float | None = None,
        clause: bool = False,
        sentence_pause: float | None = None,
        paragraph_pause: float | None = None,
        markup: Markup | None = None,
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
            clause=clause,
            sentence_pause=sentence_pause,
            paragraph_pause=paragraph_pause,
            markup=markup,
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
        text: str | Pieces,
        *,
        strategy: str | None = None,
        seed: int | None = None,
        speaker: str | int | None = None,
        chunk_frames: int | Sequence[int] | None = None,
        speed: float = 1.0,
        volume: float = 1.0,
        noise_scale: float | None = None,
        noise_w: float | None = None,
        clause: bool = False,
        sentence_pause: float | None = None,
        paragraph_pause: float | None = None,
        markup: Markup | None = None,
    ) -> SpeechStream:
        """Speak a text and hand over the audio as it is made, beginning with the first sentence.

        Parameters
        ----------
        text : str or iterable of str
            Any length; sentences are read when their turn comes. Pieces may be cut anywhere, and the samples
            are those of the whole text: a sentence is spoken when nothing that follows can change it, as
            soon as the next word begins. `FLUSH` among them says what has come so far. They are taken in a
            thread of the stream's own, a few hundred ahead at most, unless they come in a list or a tuple.
        strategy : {"stateful", "overlap", "full"}, optional
            How the decoder is run; the exact one that costs least if None.
        seed : int, optional
            In [0, 2**64). Equal seeds give equal audio, whatever the strategy and the chunks; None
            draws a new one.
        speaker : str or int, optional
            Name or id; the voice's default if None.
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
            How much the sound (in [0, 10]) and the rhythm (in [0, 2]) vary from seed to seed; the voice's
            own values if None.
        clause : bool
            Whether the first clause of a text, and of what follows a `FLUSH`, is spoken before the rest of
            its sentence is there. Sound comes earlier, and its melody knows less.
        sentence_pause, paragraph_pause : float, optional
            In [0, 10]: seconds of silence between sentences and between paragraphs, which an empty line
            parts, from the last sound to the next one. What the voice leaves there by itself counts; only
            what is missing is put in, as samples of 0, and nothing is cut. If None, what the voice does, or
            for paragraphs as for sentences.
        markup : {"plain", "markdown", "ssml"}, optional
            What stands in the text beside what is said. If None, SSML where it begins with ``<speak``.

        Returns
        -------
        SpeechStream
            An iterator of `AudioChunk`; without any if there is nothing to say in the text. It may be left at
            any point, and closed by any thread. The first chunk waits until there is room for one more
            stream. While a sentence is heard, the next one is made ready in a thread, which ends with the
            iterator.

        Raises
        ------
        ParameterError
            At the call, if an argument is wrong. If a piece is neither a str nor `FLUSH`, when all that came
            before it is spoken.
        BusyError
            With the first chunk, if as many streams wait as may.

        Notes
        -----
        An error of the iterable passes on as it is, once what came before it is spoken. `close` ends a wait
        for a piece at once; the iterable's own wait, in its thread, ends when it does, and then a generator
        is closed. Whoever waits for text takes no slot and no place from others.
        """
        reading = Reading(clause, choose_markup(markup))
        self._check_text(text, reading)
        pauses, chosen = Pauses.choose(sentence_pause, paragraph_pause), self.voice.choose_strategy(strategy)
        settings = self._settings(chosen, seed, speaker, speed, volume, noise_scale, noise_w, pauses)
        return self._begin(text, reading, settings, choose_chunk_frames(chunk_frames))

    def astream(
        self,
        text: str | Pieces | AsyncIterable[str | Flush],
        *,
        strategy: str | None = None,
        seed: int | None = None,
        speaker: str | int | None = None,
        chunk_frames: int | Sequence[int] | None = None,
        speed: float = 1.0,
        volume: float = 1.0,
        noise_scale: float | None = None,
        noise_w: float | None = None,
        clause: bool = False,
        sentence_pause: float | None = None,
        paragraph_pause: float | None = None,
        markup: Markup | None = None,
    ) -> AsyncSpeechStream:
        """Speak a text as `stream` does, for ``async for``: the same arguments, and the same samples.

        The text may be an asynchronous iterable of pieces as well, which is advanced in the loop in which the
        first chunk is asked for.

        All work is done in a thread of the stream's own, and the loop is free meanwhile. A chunk is made when
        it is asked for, so that whoever takes them slowly has no more of them in memory than `stream` has.
        Cancelling the task that waits for a chunk ends the stream, as ``await chunks.aclose()`` does.

        Returns
        -------
        AsyncSpeechStream
            An asynchronous iterator of `AudioChunk`.

        Raises
        ------
        ParameterError
            At the call, if an argument is wrong; with the first chunk, if something in the text is.
        BusyError
            With the first chunk, if as many streams wait as may.

        Examples
        --------
        >>> async def say(tts, text, send):
        ...     async for chunk in tts.astream(text):
        ...         await send(chunk.pcm16.tobytes())
        """
        write = None
        if isinstance(text, AsyncIterable):
            given: str | Pieces = (feed := TextFeed())
            write = partial(feed_all, text, feed)
        else:
            given = text
        reading = Reading(clause, choose_markup(markup))
        self._check_text(given, reading)
        pauses, chosen = Pauses.choose(sentence_pause, paragraph_pause), self.voice.choose_strategy(strategy)
        settings = self._settings(chosen, seed, speaker, speed, volume, noise_scale, noise_w, pauses)
        # A long text takes a while to be looked at, and another strategy's chunks to be worked out.
        begin = partial(self._begin, given, reading, settings, choose_chunk_frames(chunk_frames))
        return AsyncSpeechStream(begin, write)

    def _settings(
        self,
        strategy: Strategy,
        seed: int | None,
        speaker: str | int | None,
        speed: float,
        volume: float,
        noise_scale: float | None,
        noise_w: float | None,
        pauses: Pauses,
    ) -> Settings:
        own = self.voice.manifest.prosody
        prosody = Prosody.choose(own, speed=speed, volume=volume, noise_scale=noise_scale, noise_w=noise_w)
        return Settings(
            strategy=strategy,
            seed=choose_seed(seed),
            speaker_id=self.voice.speaker_id(speaker),
            prosody=prosody,
            pauses=pauses,
        )

    def _begin(
        self, text: str | Pieces, reading: Reading, settings: Settings, chunk_frames: tuple[int, ...] | None
    ) -> SpeechStream:
        self._come_to_this_process()
        pacer, options = self._pacer(settings.strategy, chunk_frames), self.voice.options
        stream = scheduler_of(options.device).join(options.n_threads)
        # What may keep us waiting is taken in a thread of its own, which `close` doesn't wait for.
        if not isinstance(text, (str, list, tuple)):
            stream.text = text = text if isinstance(text, TextFeed) else feed_from(text)
        sentences = self._encode(self._phonemize(text, reading))
        speaking = Speaking(self.voice, settings, pacer, stream)
        return SpeechStream(speaking.chunks(sentences, self._crowd, self._load(settings.strategy)), stream)

    def _check_text(self, text: object, reading: Reading) -> None:
        if not isinstance(text, str):
            check_pieces(text)
        elif reading == DEFAULT_READING:
            return
        if not getattr(self.frontend, "takes_pieces", False):
            asked = f"clause={reading.clause}" if reading.markup is None else f"markup={reading.markup!r}"
            what = asked if isinstance(text, str) else "text in pieces"
            raise ParameterError(
                f"{what}: {type(self.frontend).__name__} must be a frontend with takes_pieces=True, or text "
                "a str without clause and markup"
            )

    def _phonemize(self, text: str | Pieces, reading: Reading) -> Iterator[Sentence]:
        # A frontend of somebody's own may know no more than a text.
        if isinstance(text, str) and reading == DEFAULT_READING:
            return self.frontend.phonemize(text)
        return cast(PiecesFrontend, self.frontend).phonemize(text, reading)

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

    def _load(self, strategy: Strategy) -> Load:
        """Return what is known of the load of a strategy's streams, which all of them add to."""
        if (load := self._loads.get(strategy)) is None:
            plan = None if strategy == "full" else self._plan(strategy)
            runs = scheduler_of(self.voice.options.device).join(self.voice.n_threads)
            expected = None if plan is None else plan.pace.load * runs.n_threads
            load = self._loads.setdefault(strategy, Load(expected))
        return load

    def _come_to_this_process(self) -> None:
        """Load the voice anew in a child that was forked, if its threads were left behind."""
        if self._process == generation():
            return
        with _LOADING.setdefault(generation(), threading.Lock()):
            old = self.voice
            if self._process != generation() and not survives_forks(old.options):
                self.voice = load_voice(old.path, options=old.options, sha256=old.sha256)
                self.phoneme_map = PhonemeMap.of(old.manifest.frontend)
            self._process = generation()

    def _recipe(self) -> dict[str, object]:
        return {
            "frontend": self._frontend_name or self.frontend,
            "options": self.voice.options,
            "calibration": self.calibration,
            "safety_factor": self.safety_factor,
            "max_streams": self._crowd.max_streams,
            "max_waiting": self._crowd.max_waiting,
        }

    def __reduce__(self) -> tuple[object, ...]:
        # Sessions can't be pickled; the process that reads this loads the voice from where it lies, and only
        # if it is still the same.
        recipe = {**self._recipe(), "sha256": self.voice.sha256}
        return _make_tts, (type(self), str(self.voice.path.absolute()), recipe)

    def __copy__(self) -> Self:
        recipe = {**self._recipe(), "frontend": self.frontend, "options": None}
        return _make_tts(type(self), self.voice, recipe)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        # Nobody changes a voice or a frontend, so that a copy of them would only take memory.
        return self.__copy__()

    def encode_sentences(self, sentences: Iterable[Sentence]) -> Iterator[EncodedSentence]:
        """Give the ids of each sentence of which the voice has something to say."""
        return (encoded for encoded in self._encode(sentences) if encoded.first_spoken is not None)

    def _encode(self, sentences: Iterable[Sentence]) -> Iterator[EncodedSentence]:
        for sentence in sentences:
            encoded = self.phoneme_map.encode(sentence.phonemes, last=sentence.last)
            yield replace(encoded, sentence=sentence)


_Tts = TypeVar("_Tts", bound=TTS)


def _make_tts(kind: type[_Tts], voice: str | Voice, recipe: Mapping[str, Any]) -> _Tts:
    return kind(voice, **recipe)


def _make_frontend(frontend: str | Frontend, info: FrontendInfo) -> Frontend:
    if not isinstance(frontend, str):
        return frontend
    return create_frontend(
        frontend, language=info.language, phoneme_type=info.phoneme_type, symbols=info.phoneme_ids
    )


class SpeechUtterance:
    """A text, or its pieces, and how far `TTS.synthesize_chunk` has come with it; for one thread at a time.

    The arguments are those of `TTS.stream`.
    """

    def __init__(
        self,
        text: str | Pieces,
        *,
        seed: int | None = None,
        sentence_pause: float | None = None,
        paragraph_pause: float | None = None,
        markup: Markup | None = None,
    ) -> None:
        self.text = text
        self.seed = seed
        self.sentence_pause = sentence_pause
        self.paragraph_pause = paragraph_pause
        self.markup = markup
        self._tts: TTS | None = None
        self._speaker_id: int | None = None
        self._chunks: Iterator[AudioChunk] = iter(())

    def open(self, tts: TTS, speaker: str | int | None) -> Iterator[AudioChunk]:
        """Return the chunks that are still to come; the first call begins the stream."""
        speaker_id = tts.voice.speaker_id(speaker)
        if self._tts is None:
            self._chunks = tts.stream(
                self.text,
                seed=self.seed,
                speaker=speaker,
                sentence_pause=self.sentence_pause,
                paragraph_pause=self.paragraph_pause,
                markup=self.markup,
            )
            self._tts, self._speaker_id = tts, speaker_id
        # Another voice would go on in the middle with other ids.
        if tts is not self._tts:
            raise StreamStateError("the utterance was begun by another TTS: make a new SpeechUtterance")
        if speaker is not None and speaker_id != self._speaker_id:
            raise StreamStateError(
                f"speaker={speaker!r} can't take over in the middle: make a new SpeechUtterance"
            )
        return self._chunks
