"""What Piper has for single languages, in place of espeak-ng or before it; piper-tts is called for all of it.

====================  ======================================================  ============
language              what piper-tts does                                     extra
====================  ======================================================  ============
Arabic (``ar``)       libtashkeel adds the vowels, then espeak-ng             ``espeak``
``hebrew``            Nakdimon adds the vowels, then rules                    ``espeak``
``japanese``          OpenJTalk: readings, pauses and pitch accents           ``ja``
``thai``              TLTK: words and tones                                   ``th``
====================  ======================================================  ============

Models and lexica are loaded once in a process, when the first frontend is made that needs them. The two
networks run on one thread: their sentences are short, and such a session goes on in a child that was forked.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any

from balacoon_tk.errors import MissingExtraError
from balacoon_tk.frontend.assembly import Sentence, assemble_sentences
from balacoon_tk.frontend.backends.gruut import UnknownWordWarning
from balacoon_tk.frontend.naming import LeftOutNames
from balacoon_tk.frontend.reading.reader import DEFAULT_READING, Pieces, Reading
from balacoon_tk.frontend.reading.source_text import SourceText
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.process import hold_across_forks, runs
from balacoon_tk.runtime.session import Session

_TASHKEEL_THRESHOLD = 0.8  # what piper-tts hands to libtashkeel; 1.8 takes no notice of it

# OpenJTalk keeps a sentence in one object for the whole process, and TLTK in globals. No session may run
# while it is held: a run waits for the end of a fork, and the fork for the lock.
_ONE_AT_A_TIME = frozenset({"japanese", "thai"})
_LOCK = threading.Lock()
hold_across_forks(_LOCK)


_LETTER = re.compile("[^\u064b-\u0652][\u064b-\u0652]*")  # and the marks of its vowels


class _OneThread:
    """A network in place of piper-tts's own session, which has a thread for each processor."""

    def __init__(self, path: Path) -> None:
        self._session = Session(path, RuntimeOptions(n_threads=1))

    def run(self, names: list[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
        return list(self._session.run(feeds, names).values())


@functools.cache
def _tashkeel() -> Callable[[str], str]:
    from piper.tashkeel import TASHKEEL_DIR, TashkeelDiacritizer

    with runs:
        diacritizer = TashkeelDiacritizer()
    diacritizer.session = _OneThread(TASHKEEL_DIR / "model.onnx")
    return functools.partial(diacritizer, taskeen_threshold=_TASHKEEL_THRESHOLD)


def add_arabic_vowels(text: SourceText) -> SourceText:
    """Write the vowels that Arabic leaves out, as libtashkeel guesses them; each belongs to its letter.

    Raises
    ------
    MissingExtraError
        If piper-tts is not installed.
    """
    try:
        diacritize = _tashkeel()
    except ImportError as error:
        raise MissingExtraError("Arabic by espeak-ng", extra="espeak") from error
    vowelled = _LETTER.findall(diacritize(text.text))
    letters = _LETTER.finditer(text.text.rstrip(), len(text) - len(text.text.lstrip()))
    edits = ((*match.span(), new) for match, new in zip(letters, vowelled, strict=True))
    return text.replace(edit for edit in edits if text.text[edit[0] : edit[1]] != edit[2])


@functools.cache
def _hebrew() -> Any:
    from piper.hebrew import DEFAULT_MODEL_PATH
    from piper.phonemize_hebrew import HebrewPhonemizer

    with runs:
        phonemizer = HebrewPhonemizer()
    phonemizer.diacritizer.session = _OneThread(Path(DEFAULT_MODEL_PATH))
    return phonemizer


@functools.cache
def _japanese() -> Any:
    from piper.phonemize_japanese import JapanesePhonemizer

    return JapanesePhonemizer()


@functools.cache
def _thai() -> Any:
    from piper.phonemize_thai import ThaiPhonemizer

    return ThaiPhonemizer()


# Words of other letters and digits are left out by the rules.
_UNREAD: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "hebrew": re.compile(r"(?:(?![\u0590-\u05ff])[^\W_])+"),
        "japanese": re.compile(
            r"(?:(?![0-9A-Za-z\u0370-\u03ff\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff])[^\W_])+"
        ),
        "thai": re.compile(r"(?:(?![0-9\u0e00-\u0e7f])[^\W_])+"),
    }
)
_LOADERS: Mapping[str, tuple[str, Callable[[], Any]]] = MappingProxyType(
    {"hebrew": ("espeak", _hebrew), "japanese": ("ja", _japanese), "thai": ("th", _thai)}
)


class PiperFrontend:
    """Phonemes of a language for which Piper has rules of its own; safe to call from many threads.

    Words of another script, and numbers where the rules have none, are left out and named in an
    `UnknownWordWarning`.

    Parameters
    ----------
    phoneme_type : {"hebrew", "japanese", "thai"}
        As a Piper voice names it.

    Raises
    ------
    MissingExtraError
        If piper-tts or what it needs for the language is not installed; the message names the extra.
    """

    takes_pieces = True

    def __init__(self, phoneme_type: str) -> None:
        self.phoneme_type = phoneme_type
        extra, load = _LOADERS[phoneme_type]
        try:
            load()
        except ImportError as error:
            raise MissingExtraError(f"phoneme_type={phoneme_type!r}", extra=extra) from error
        message = f"the rules for phoneme_type={phoneme_type!r} can't read these words, so they are left out"
        self._unread = LeftOutNames(message, UnknownWordWarning)

    def phonemize(self, text: str | Pieces, reading: Reading = DEFAULT_READING) -> Iterator[Sentence]:
        """Give the sentences of a text lazily; see `Frontend.phonemize`."""
        # Punctuation stays as it is written, wide marks and all: the rules know it so.
        return assemble_sentences(text, self._to_phonemes, reading, prepare=SourceText.strip)

    def _to_phonemes(self, text: str) -> str:
        self._unread.warn(_UNREAD[self.phoneme_type].findall(text), stacklevel=2)
        phonemizer = _LOADERS[self.phoneme_type][1]()
        with _LOCK if self.phoneme_type in _ONE_AT_A_TIME else nullcontext():
            sentences = phonemizer.phonemize(text)
        # What the rules take for several sentences was one to the splitter.
        return "".join(phoneme for sentence in sentences for phoneme in sentence)
