"""espeak-ng, as Piper voices were trained with it, through the copy that piper-tts carries.

piper-tts is GPL-3.0-or-later, hence an extra; it is imported when a frontend is made, not before.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.machinery import PathFinder
from itertools import islice, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.frontend.assembly import Sentence, assemble_sentences, join_clauses
from balacoon_tk.frontend.backends.gruut import UnknownWordWarning
from balacoon_tk.frontend.backends.piper_text import add_arabic_vowels
from balacoon_tk.frontend.naming import LeftOutNames
from balacoon_tk.frontend.preparation import Preparation
from balacoon_tk.frontend.reading.reader import DEFAULT_READING, Pieces, Reading
from balacoon_tk.frontend.reading.source_text import SourceText
from balacoon_tk.frontend.reading.splitting import shorten
from balacoon_tk.frontend.unspoken import UnspokenWords
from balacoon_tk.runtime.process import hold_across_forks

# espeak-ng keeps its voice and its buffers in globals: one caller at a time in the whole process.
_LOCK = threading.Lock()
hold_across_forks(_LOCK)


_prepare_plain = Preparation("ar")


def _prepare_arabic(sentence: SourceText) -> SourceText:
    # In this order: by its marks the network guesses as well, and knows those of Arabic.
    return _prepare_plain(add_arabic_vowels(sentence))


# What is done to a sentence first, by the name of the voice as piper-tts has it.
_PREPARE: Mapping[str, Callable[[SourceText], SourceText]] = MappingProxyType({"ar": _prepare_arabic})

# For these it has no readings in Japanese, and says that they are Chinese letters.
_KANJI = re.compile("[\u3400-\u9fff\uf900-\ufaff]")

_BRIDGE = "piper.espeakbridge"
_PROBE = "a 1"  # every voice has something to say of it

# espeak-ng marks words that it reads by another language's rules: `(en)wˈɜːd(de)`.
_LANGUAGE_SWITCH = re.compile(r"\([^()]*\)")

# It drops the rest of a word that fills its buffers, which scripts without spaces soon do.
_LONG_WORD = re.compile(r"(\S{40})(?=\S)")

# Of two dots at the end it keeps one, and says "dot" when it is called the next time, whoever calls.
_LAST_DOTS = re.compile(r"\.{2,}$")

# Its other buffers are written beyond their ends: no call may fill them (espeak-ng 1.52, src/libespeak-ng).
# Letters with dots between go into 80 bytes (CheckDottedAbbrev in translateword.c), which 19 of the longest
# fit in; some forty with long names are too many phonemes for one word, and the last ones are not said. Which
# letters those are depends on the language, so all dots count but a sentence's and those in numbers.
MAX_DOTS = 19
_DOT = re.compile(r"\.(?=[^\s\d])|(?<![^\s.]{2})\.(?!\d)")
# A clause has 300 words (N_CLAUSE_WORDS in translate.h); looking for phrases reads beyond the last of them.
MAX_WORDS = 250
_AFTER_LATIN = "\u0250"  # Latin letters come before; beside others they begin a word of their own
_IDEOGRAPHS = "\u3040"  # from here on each letter is a word


def cut_for_espeak(text: str) -> Iterator[str]:
    """Cut a sentence where espeak-ng would crash over it; text that people write stays whole.

    Examples
    --------
    >>> [part.count("a.") for part in cut_for_espeak("a." * 50)]
    [19, 19, 12]
    """
    text = _LONG_WORD.sub(r"\1 ", text)
    start = 0
    if text.count(".") > MAX_DOTS:
        for dot in islice(_DOT.finditer(text), MAX_DOTS - 1, None, MAX_DOTS):
            yield from _cut_words(text[start : dot.end()])
            start = dot.end()
    if start < len(text):
        yield from _cut_words(text[start:])


def _cut_words(text: str) -> Iterable[str]:
    # Counted only where so many words are possible at all, which few sentences are long enough for.
    if len(text) <= MAX_WORDS or _most_words(text) <= MAX_WORDS:
        return (text,)
    return shorten(text, MAX_WORDS)


def _most_words(text: str) -> int:
    """Count the words that espeak-ng may see: at most one for each change of case, script and kind."""
    return 1 + sum(not _in_one_word(before, after) for before, after in pairwise(text))


def _in_one_word(before: str, after: str) -> bool:
    if not before.isalpha():
        return before.isdigit() and after.isdigit()
    one_script = (before < _AFTER_LATIN) == (after < _AFTER_LATIN) and after < _IDEOGRAPHS
    return one_script and after.isalpha() and before.islower() == after.islower()


@functools.cache
def _bridge() -> Any:
    """Load espeak-ng once; the caller holds the lock."""
    module, folder = _load_alone(_BRIDGE)
    if module is None or folder is None:
        raise MissingExtraError("the espeak frontend", extra="espeak")
    module.initialize(str(folder / "espeak-ng-data"))
    return module


def _load_alone(name: str) -> tuple[Any, Path | None]:
    """Load a module without the package that it lies in, under its name there; return that folder as well.

    piper-tts imports ONNX Runtime, which a voice of the native engine has no use for: it would take longer
    than all else in front of the first sound.
    """
    package, _, _ = name.partition(".")
    try:
        around = importlib.util.find_spec(package)
        places = [] if around is None else list(around.submodule_search_locations or ())
        spec = PathFinder.find_spec(name, places)
        if spec is None or spec.origin is None or spec.loader is None:
            return None, None
        if name not in sys.modules:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            sys.modules[name] = module
    # It isn't there, or was built for another system.
    except (ImportError, ValueError):
        return None, None
    return sys.modules[name], Path(spec.origin).parent


# Setting a voice reads its dictionary anew, 0.3 ms of the 0.5 that a sentence takes, and the bridge has no
# function that says which one is set. espeak-ng itself has, in the same library.
class _VoiceStruct(ctypes.Structure):
    """The beginning of `espeak_VOICE` in espeak-ng's speak_lib.h."""

    _fields_ = tuple((name, ctypes.c_char_p) for name in ("name", "languages", "identifier"))


@functools.cache
def _voice_getter() -> Callable[[], object] | None:
    """Return what says which voice espeak-ng has, where the library that the bridge brought shows that."""
    try:
        get = ctypes.PyDLL(_bridge().__file__).espeak_GetCurrentVoice
    except (AttributeError, OSError):  # Windows shows nothing of a module but how to begin it
        return None
    get.argtypes, get.restype = (), ctypes.POINTER(_VoiceStruct)

    def current() -> object:
        voice = pointer.contents if (pointer := get()) else None
        return voice and (voice.name, voice.languages, voice.identifier)

    return current


class EspeakFrontend:
    """Phonemes from espeak-ng, in any of its languages; safe to call from many threads.

    Parameters
    ----------
    voice : str
        Name of an espeak-ng voice, such as ``en-us``, ``de`` or ``cmn``.

    Raises
    ------
    MissingExtraError
        If piper-tts is not installed.
    ParameterError
        If espeak-ng has no such voice, or no dictionary for it.
    """

    takes_pieces = True

    def __init__(self, voice: str = "en-us") -> None:
        self.voice = voice
        with _LOCK:
            bridge = _bridge()
            try:
                bridge.set_voice(voice)
            except (RuntimeError, TypeError, ValueError) as error:
                raise ParameterError(f"voice={voice!r} must be a voice that espeak-ng has") from error
            # Of a few languages piper-tts brings the rules and no dictionary: they would be silent.
            if not any(said.strip() for said, *_ in bridge.get_phonemes(_PROBE)):
                raise ParameterError(
                    f"voice={voice!r} must be a voice of which piper-tts has the dictionary: this one says "
                    "nothing"
                )
            # What espeak-ng calls the voice, which is not what it was asked by: `en` is `en-gb` to it.
            getter = _voice_getter()
            self._own = None if getter is None else getter()
        self._unread = LeftOutNames(
            "espeak-ng can't read these characters, and says what they are", UnknownWordWarning
        )
        self._silent = LeftOutNames(
            "espeak-ng can't pronounce these words, so they are left out", UnknownWordWarning
        )
        self._unspoken = UnspokenWords(self._speak)
        self._prepare = _PREPARE.get(voice) or Preparation(voice)
        self._prepare(SourceText(""))  # loads what it needs

    def __reduce__(self) -> tuple[type[EspeakFrontend], tuple[str]]:
        # espeak-ng is another process's there, which says itself what it can't pronounce.
        return EspeakFrontend, (self.voice,)

    def phonemize(self, text: str | Pieces, reading: Reading = DEFAULT_READING) -> Iterator[Sentence]:
        """Give the sentences of a text lazily; see `Frontend.phonemize`."""
        return assemble_sentences(text, self._to_phonemes, reading, prepare=self._prepare)

    def _to_phonemes(self, text: str) -> str:
        if self.voice == "ja":
            self._unread.warn(_KANJI.findall(text), stacklevel=2)
        self._silent.warn(self._unspoken.find(text), stacklevel=2)
        return self._speak(text)

    def _speak(self, text: str) -> str:
        with _LOCK:
            bridge, getter = _bridge(), _voice_getter()
            # Another frontend may have set its own since. To set one takes as long as to use it.
            if getter is None or self._own is None or getter() != self._own:
                bridge.set_voice(self.voice)
            parts = (_LAST_DOTS.sub(".", part) for part in cut_for_espeak(text))
            clauses = [clause for part in parts for clause in bridge.get_phonemes(part)]
        # The bridge gives clauses, each with the mark that ended it, which espeak-ng itself leaves out.
        return join_clauses((_LANGUAGE_SWITCH.sub("", said).strip(), mark) for said, mark, _ in clauses)
