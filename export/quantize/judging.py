"""What a candidate costs and loses: speed in turn with the voice as it is, quality on the same frames."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from balacoon_tk import TTS
from balacoon_tk._typing import AnyArray, FloatArray, IntArray
from balacoon_tk.audio import to_pcm16
from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics import perception, speech
from balacoon_tk.metrics.signal import log_spectral_distance_db
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.stages.encoder import Encoder, Encoding
from balacoon_tk.stages.random import noise_stream
from balacoon_tk.stages.upsampler import Upsampler

_CHUNK_FRAMES = 64
_N_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Spoken:
    """A text as a decoder reads it."""

    text: str
    feeds: tuple[Mapping[str, AnyArray], ...]
    """One for each sentence in it."""
    phoneme_ids: tuple[IntArray, ...]
    """What the encoder read, for each of them."""

    @property
    def n_frames(self) -> int:
        """Frames of all sentences."""
        return sum(int(feeds["frames"].shape[-1]) for feeds in self.feeds)


def make_frames(
    tts: TTS, sentences: Sequence[str], *, seed: int, encoder: Encoder | None = None
) -> tuple[Spoken, ...]:
    """Have a voice's encoder read sentences, with its own prosody.

    Parameters
    ----------
    tts : TTS
    sentences : sequence of str
    seed : int
        The same one gives the same frames.
    encoder : Encoder, optional
        Makes the encodings instead of the voice's own, which still says how long they last.

    Raises
    ------
    ParameterError
        If there is nothing to say in a sentence.
    """
    prosody, found = tts.voice.manifest.prosody, []
    for number, text in enumerate(sentences):
        feeds, read = [], []
        for index, sentence in enumerate(tts.frontend.phonemize(text)):
            phoneme_ids = tts.phoneme_map.encode(sentence.phonemes).phoneme_ids

            def encode(reader: Encoder, phoneme_ids: IntArray = phoneme_ids, index: int = index) -> Encoding:
                return reader.encode(
                    phoneme_ids,
                    length_scale=prosody.length_scale,
                    noise_w=prosody.noise_w,
                    speaker_id=tts.voice.speaker_id(None),
                    seed=seed,
                    stream=noise_stream(index, "durations"),
                )

            own = encode(tts.voice.encoder)
            encoding = own if encoder is None else encode(encoder)
            upsampler = Upsampler(
                encoding.encodings,
                own.durations,
                log_scales=encoding.log_scales,
                noise_scale=prosody.noise_scale,
                seed=seed,
                stream=noise_stream(index, "frames"),
                gaussian_delta=tts.voice.manifest.gaussian_delta,
            )
            if not upsampler.n_frames:
                continue
            each: dict[str, AnyArray] = {"frames": upsampler.window(0, upsampler.n_frames)[np.newaxis].copy()}
            if (
                encoding.speaker_embedding is not None
                and "speaker_embedding" in tts.voice.decoder.contract.inputs
            ):
                each["speaker_embedding"] = encoding.speaker_embedding
            feeds.append(each)
            read.append(phoneme_ids)
        if not feeds:
            raise ParameterError(f"sentences[{number}]={text[:60]!r} must hold something that can be spoken")
        found.append(Spoken(text, tuple(feeds), tuple(read)))
    return tuple(found)


def decode(graph: OrtEngine, spoken: Spoken) -> FloatArray:
    """Decode a text whole."""
    pieces = [graph.whole(graph.contract.check(feeds))["samples"].reshape(-1) for feeds in spoken.feeds]
    return np.concatenate(pieces)


class Judge:
    """Hears what texts lose; what it has heard of a reference it remembers.

    Parameters
    ----------
    sample_rate : int
        Hz
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._pitches: dict[str, NDArray[np.float64]] = {}

    def __call__(self, samples: FloatArray, reference: FloatArray, text: str) -> dict[str, Any]:
        """Return what one text lost: figures by name, None where one can't be measured.

        Parameters
        ----------
        samples, reference : ndarray of shape (n_samples,), float32
            The same array, if it is the reference that is judged.
        text : str
            Has one reference.

        Raises
        ------
        MissingExtraError
            If the extra `eval` isn't installed.
        """
        rate, cents = self._sample_rate, 0.0
        if text not in self._pitches:
            self._pitches[text] = speech.track_pitch(reference, sample_rate=rate)
        if samples is not reference:
            pitch = speech.track_pitch(samples, sample_rate=rate)
            cents = speech.compare_pitch(pitch, self._pitches[text]).rmse_cents
        values: dict[str, Any] = {
            "lsd_db": log_spectral_distance_db(samples, reference),
            "mcd_db": speech.mel_cepstral_distortion_db(samples, reference, sample_rate=rate),
            "f0_rmse_cents": cents,
        }
        pcm = to_pcm16(samples)
        try:
            values["dnsmos"] = perception.dnsmos(pcm, sample_rate=rate).overall
            transcript = perception.transcribe(pcm, sample_rate=rate)
        except ParameterError:  # silence, or too short: nobody hears a word
            values["dnsmos"], transcript = None, ""
        words, characters = perception.wer(text, transcript), perception.cer(text, transcript)
        values |= {
            "n_word_errors": words.n_errors,
            "n_words": words.n_reference,
            "n_char_errors": characters.n_errors,
            "n_chars": characters.n_reference,
        }
        return {name: None if value != value else value for name, value in values.items()}


def measure_speedup(
    reference: OrtEngine, candidate: onnx.ModelProto, spoken: Sequence[Spoken], *, n_threads: int | None
) -> tuple[float, float]:
    """Decode the same frames by both in turn; return how much faster the candidate is, whole and in chunks.

    Parameters
    ----------
    reference : OrtEngine
    candidate : ModelProto
        Stateful if the reference is.
    spoken : sequence of Spoken
    n_threads : int, optional
        Of the candidate; those of the reference.

    Returns
    -------
    tuple of float
        The median over rounds of the reference's time over the candidate's.
    """
    other = OrtEngine(candidate, RuntimeOptions(n_threads=n_threads))
    ratios: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(_N_ROUNDS):
        for in_chunks, found in ratios.items():
            found.append(_seconds(reference, spoken, in_chunks) / _seconds(other, spoken, in_chunks))
    return statistics.median(ratios[False]), statistics.median(ratios[True])


def _seconds(graph: OrtEngine, spoken: Sequence[Spoken], in_chunks: bool) -> float:
    start_s = time.perf_counter()
    for text in spoken:
        for feeds in text.feeds:
            if in_chunks and graph.streaming is not None:
                _stream(graph, feeds)
            else:
                graph.whole(graph.contract.check(feeds))
    return time.perf_counter() - start_s


def _stream(graph: OrtEngine, feeds: Mapping[str, AnyArray]) -> None:
    decoder, frames = StatefulDecoder(graph), feeds["frames"]
    n_frames = frames.shape[-1]
    for start in range(0, n_frames, _CHUNK_FRAMES):
        stop = start + _CHUNK_FRAMES
        decoder.push({**feeds, "frames": frames[..., start:stop]}, last=stop >= n_frames)
