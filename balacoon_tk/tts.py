"""Text to speech: the stages in the order in which the data flows through them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from balacoon_tk._typing import PCM16Array
from balacoon_tk.alignment import Timeline
from balacoon_tk.audio import AudioChunk
from balacoon_tk.default_voice import default_voice_folder
from balacoon_tk.errors import ParameterError, StreamStateError
from balacoon_tk.frontend import EncodedSentence, Frontend, PhonemeMap, Sentence, create_frontend
from balacoon_tk.frontend.phoneme_map import BOS, EOS, PAD
from balacoon_tk.frontend.punctuation import CLAUSE_MARKS
from balacoon_tk.random import noise_stream
from balacoon_tk.settings import Prosody, Settings, choose_chunk_frames, choose_seed
from balacoon_tk.upsampler import Upsampler
from balacoon_tk.voice import Voice, load_voice

__all__ = ["TTS", "SpeechUtterance"]

_NO_SAMPLES: PCM16Array = np.zeros(0, np.int16)
_NOT_SPOKEN = frozenset([BOS, PAD, EOS, " ", *CLAUSE_MARKS])


class TTS:
    """A voice that speaks; one serves many threads, since what changes lives in each stream.

    Parameters
    ----------
    voice : path or Voice, optional
        A voice folder, an .addon file or a loaded voice; the default voice if None, which is exported
        into the user's cache folder the first time.
    frontend : str or Frontend
        Name of the backend from text to phonemes, ``"auto"`` for the best one that is installed, or a
        frontend of one's own.
    n_threads : int, optional
        Threads that one run of a graph may use. A `Voice` brings its own.

    Attributes
    ----------
    voice : Voice
    strategies : tuple of str
        The ways to stream that the voice can do.
    frontend : Frontend
        Gives the phonemes of a text, sentence by sentence.
    phoneme_map : PhonemeMap
        Gives the ids of phonemes, as the encoder reads them.

    Raises
    ------
    VoiceError
        If the voice can't be loaded.
    MissingExtraError
        If the default voice or the frontend needs a package that isn't installed.

    Examples
    --------
    >>> tts = TTS()  # doctest: +SKIP
    >>> samples = tts.synthesize("Hello there.", seed=1)  # doctest: +SKIP
    """

    def __init__(
        self,
        voice: str | os.PathLike[str] | Voice | None = None,
        *,
        frontend: str | Frontend = "auto",
        n_threads: int | None = None,
    ) -> None:
        if isinstance(voice, Voice):
            if n_threads is not None:
                raise ParameterError(f"n_threads={n_threads} must be None for a voice that is loaded already")
            self.voice = voice
        else:
            self.voice = load_voice(default_voice_folder() if voice is None else voice, n_threads=n_threads)
        front = self.voice.manifest.frontend
        self.strategies = self.voice.strategies
        self.phoneme_map = PhonemeMap(front.phoneme_ids)
        self.frontend = (
            create_frontend(
                frontend,
                language=front.language,
                phoneme_type=front.phoneme_type,
                symbols=front.phoneme_ids,
            )
            if isinstance(frontend, str)
            else frontend
        )

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
        """Speak a text and return all of it; the parameters are those of `stream`.

        Returns
        -------
        ndarray of shape (n_samples,), int16
            Without samples if there is nothing to say in the text.

        Raises
        ------
        ParameterError
            If an argument is wrong.
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

        Parameters
        ----------
        utterance : SpeechUtterance
        speaker : str or int, optional
            Chosen in the first call; later ones may repeat it or leave it out.

        Returns
        -------
        ndarray of shape (n_samples,), int16
            Without samples when the utterance is over, in every further call as well.

        Raises
        ------
        ParameterError
            If there is no such speaker.
        StreamStateError
            If the utterance was begun with another speaker or by another `TTS`.
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
            Frames of audio in a chunk; the last number of a sequence repeats. None is
            `settings.DEFAULT_CHUNK_FRAMES`. ``strategy="full"`` gives one chunk per sentence.
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
            Nothing if there is nothing to say in the text. It may be left at any point.

        Raises
        ------
        ParameterError
            At the call, if an argument is wrong.
        """
        if not isinstance(text, str):
            raise ParameterError(f"text={text!r} must be a str")
        settings = Settings(
            strategy=self.voice.choose_strategy(strategy),
            seed=choose_seed(seed),
            speaker_id=self.voice.speaker_id(speaker),
            chunk_frames=choose_chunk_frames(chunk_frames),
            prosody=Prosody.choose(
                self.voice.manifest.prosody,
                speed=speed,
                volume=volume,
                noise_scale=noise_scale,
                noise_w=noise_w,
            ),
        )
        return self._speak(self.frontend.phonemize(text), settings)

    def _speak(self, sentences: Iterable[Sentence], settings: Settings) -> Iterator[AudioChunk]:
        voice, prosody, seed = self.voice, settings.prosody, settings.seed
        start = 0
        for index, encoded in enumerate(self._with_ids(sentences)):
            encoding = voice.encoder.encode(
                encoded.phoneme_ids,
                length_scale=prosody.length_scale,
                noise_w=prosody.noise_w,
                speaker_id=settings.speaker_id,
                seed=seed,
                stream=noise_stream(index, "durations"),
            )
            upsampler = Upsampler(
                encoding.encodings,
                encoding.durations,
                log_scales=encoding.log_scales,
                noise_scale=prosody.noise_scale,
                seed=seed,
                stream=noise_stream(index, "frames"),
                gaussian_delta=voice.manifest.gaussian_delta,
            )
            timeline = Timeline(
                encoded,
                upsampler.phoneme_starts,
                hop_length=voice.manifest.hop_length,
                sample_rate=voice.manifest.sample_rate,
                start_sample=start,
            )
            for samples in voice.decode(
                upsampler, encoding.speaker_embedding, settings.strategy, settings.chunk_frames
            ):
                stop = start + len(samples)
                yield AudioChunk(
                    samples=samples * np.float32(prosody.volume),
                    sample_rate=voice.manifest.sample_rate,
                    start_sample=start,
                    alignment=timeline.spans(start, stop),
                )
                start = stop

    def _with_ids(self, sentences: Iterable[Sentence]) -> Iterator[EncodedSentence]:
        """Give the ids of each sentence of which the voice has something to say."""
        for sentence in sentences:
            encoded = self.phoneme_map.encode(sentence.phonemes)
            if not _NOT_SPOKEN.issuperset(encoded.phonemes):
                yield encoded


class SpeechUtterance:
    """A text, and how far `TTS.synthesize_chunk` has come with it; for one thread at a time.

    Parameters
    ----------
    text : str
        What to say.
    seed : int, optional
        In [0, 2**64); None draws a new one.
    """

    def __init__(self, text: str, *, seed: int | None = None) -> None:
        self.text = text
        self.seed = seed
        self._tts: TTS | None = None
        self._speaker_id: int | None = None
        self._chunks: Iterator[AudioChunk] = iter(())

    def open(self, tts: TTS, speaker: str | int | None) -> Iterator[AudioChunk]:
        """Return the chunks that are still to come; the first call begins the stream.

        Raises
        ------
        StreamStateError
            If the stream was begun with another speaker or by another `TTS`.
        """
        speaker_id = tts.voice.speaker_id(speaker)
        if self._tts is None:
            self._chunks = tts.stream(self.text, seed=self.seed, speaker=speaker)
            self._tts, self._speaker_id = tts, speaker_id
        if tts is not self._tts:
            raise StreamStateError("the utterance was begun by another TTS: make a new SpeechUtterance")
        if speaker is not None and speaker_id != self._speaker_id:
            raise StreamStateError(
                f"speaker={speaker!r} can't take over in the middle: make a new SpeechUtterance"
            )
        return self._chunks
