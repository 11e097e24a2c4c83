"""gruut: phonemes under a permissive licence, close to espeak-ng's.

gruut parses, reads out numbers, dates and money, and looks words up; a model guesses those that the
lexicon lacks. Plain English goes a shorter way to the same phonemes: see gruut_plain.py. gruut is
imported when a frontend is made, not before: that takes most of a second.
"""

from __future__ import annotations

import functools
import re
import threading
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.frontend.assembly import Sentence, assemble_sentences, join_clauses
from balacoon_tk.frontend.backends.gruut_plain import Lexicon, PlainReader, SpokenWord
from balacoon_tk.frontend.english.joins import join_english
from balacoon_tk.frontend.naming import LeftOutNames
from balacoon_tk.frontend.preparation import Preparation
from balacoon_tk.frontend.reading.cleaning import CLAUSE_MARKS, has_speech
from balacoon_tk.frontend.reading.reader import DEFAULT_READING, Pieces, Reading
from balacoon_tk.runtime.process import hold_across_forks

# gruut promises nothing about threads: its taggers hold the sentence that they work on, and its models
# load on first use. So one caller at a time; Python code gains nothing from a second thread anyway.
_LOCK = threading.Lock()
hold_across_forks(_LOCK)

_ALPHABET = "espeak"
_N_GUESSES = 4096
_DIGIT = re.compile(r"\d")
# What a sentence is read as where gruut fails over it: digit by digit, word by word.
_PIECE = re.compile(r"\d|[^\W\d]+|\S")
_FINAL_MARK = re.compile(r"([.,!?;:])[\"')\]}\s]*$")


# gruut holds dateparser below 1.2, which calls utcnow() when it is imported and for each date. Python 3.12
# deprecates that; where warnings are errors, gruut would not import, and would leave out dates.
@contextmanager
def _utcnow_allowed() -> Iterator[None]:
    """Silence that one warning of dateparser; under the lock, since filters belong to all threads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*utcnow\(\) is deprecated", DeprecationWarning, "dateparser")
        yield


def _leaves(graph: Any, node: Any) -> list[Any]:
    """Give the leaves of gruut's tree in order, as its own function of this name does."""
    following, data = graph._adj, graph._node  # the dicts themselves: their views are most of the walk
    found, waiting = [], [node.node]
    while waiting:
        name = waiting.pop()
        children = following[name]
        if children:
            waiting.extend(reversed(children))
        else:
            found.append(data[name]["data"])
    return found


class _Processor:
    """gruut for one language; the caller holds the lock."""

    def __init__(self, language: str) -> None:
        from gruut import TextProcessor, text_processor, utils
        from gruut.lang import get_settings

        # gruut walks over its tree 16 times a sentence, by a general search that is most of its time.
        # Both modules hold it by name; what it gives is the same, as a test compares.
        for module in (utils, text_processor):
            vars(module)["leaves"] = _leaves
        self.language = language
        folder = utils.find_lang_dir(language)
        lexicon_path = Path(folder or "", _ALPHABET, "lexicon.db").resolve()
        if folder is None or not lexicon_path.is_file():
            raise ParameterError(
                f"language={language!r} needs gruut's lexicon in espeak's alphabet: "
                f"pip install gruut-lang-{language.split('-')[0]}"
            )
        self.lexicon = Lexicon(lexicon_path)
        settings: Any = get_settings(
            language, lang_dir=folder, model_prefix=_ALPHABET, lookup_phonemes=self.lexicon
        )
        # Languages without a model for unknown words leave these out. A guess takes a millisecond or two.
        if settings.guess_phonemes is not None:
            guess = self._guess = functools.lru_cache(_N_GUESSES)(settings.guess_phonemes)
            # A copy, since gruut's French appends to it.
            settings.guess_phonemes = lambda word, role=None: list(guess(word) or ())
        self._parse = TextProcessor(
            default_lang=language, model_prefix=_ALPHABET, settings={language: settings}
        )
        has_models = settings.guess_phonemes and settings.get_parts_of_speech
        is_plain = language.startswith("en-") and has_models
        self._plain = PlainReader(self.lexicon, settings) if is_plain else None

    def words(self, text: str) -> Sequence[SpokenWord]:
        """Read a text; what gruut takes for sentences of their own is one here."""
        plain = self._plain.words(text) if self._plain else None
        if plain is not None:
            return plain
        try:
            return self.parsed(text)
        except Exception:
            # Whatever it is: gruut and what it reads numbers, dates and money with promise no errors of their
            # own, and raise decimal.InvalidOperation for thirty commas between digits.
            return [word for piece in _PIECE.findall(text) for word in self._piece(piece)]

    def _piece(self, piece: str) -> list[SpokenWord]:
        try:
            return self.parsed(piece)
        except Exception:
            return [SpokenWord(piece, "")]  # which is left out, and named

    def parsed(self, text: str) -> list[SpokenWord]:
        """Read a text by gruut's own parser, which knows everything and is slow."""
        # Without a digit nothing is a number, which gruut finds out by an exception for each word.
        has_digit = _DIGIT.search(text) is not None
        with _utcnow_allowed():
            graph, root = self._parse(text, lang=self.language, detect_numbers=has_digit)
        return [
            SpokenWord(word.text, "".join(word.phonemes or ()), word.is_major_break or word.is_minor_break)
            for sentence in self._parse.sentences(graph, root)
            for word in sentence
        ]


_processor = functools.cache(_Processor)


def _resolve(language: str) -> str:
    """Import gruut and give its own name of a language; the caller holds the lock."""
    try:
        with _utcnow_allowed():
            import gruut
            from gruut.utils import resolve_lang
    except ImportError as error:
        raise MissingExtraError("the gruut frontend", extra="voice") from error
    if not gruut.is_language_supported(language):
        known = ", ".join(sorted(gruut.get_supported_languages()))
        raise ParameterError(f"language={language!r} must be one that gruut knows: {known}")
    return str(resolve_lang(language))


class UnknownWordWarning(UserWarning):
    """A sentence holds words that the frontend can't pronounce; they were left out."""


class GruutFrontend:
    """Phonemes from gruut, written as espeak-ng writes them; safe to call from many threads.

    Words that gruut can't pronounce (of another script, say) are left out, and named in an
    `UnknownWordWarning` the first time that this frontend meets them.

    Parameters
    ----------
    language : str
        A language that gruut knows and whose lexicon is installed, such as ``en-us``.

    Raises
    ------
    MissingExtraError
        If gruut is not installed.
    ParameterError
        If gruut has no such language, or its lexicon is not installed.
    """

    takes_pieces = True

    def __init__(self, language: str = "en-us") -> None:
        with _LOCK:
            self._processor = _processor(_resolve(language))
        self.language = self._processor.language
        self._is_english = self.language.startswith("en-")
        self._prepare = Preparation(self.language, self._processor.lexicon)
        self._unknown = LeftOutNames(
            "gruut can't pronounce these words, so they are left out", UnknownWordWarning
        )

    def phonemize(self, text: str | Pieces, reading: Reading = DEFAULT_READING) -> Iterator[Sentence]:
        """Give the sentences of a text lazily; see `Frontend.phonemize`."""
        return assemble_sentences(text, self._to_phonemes, reading, prepare=self._prepare)

    def _to_phonemes(self, text: str) -> str:
        with _LOCK:
            words = self._processor.words(text)
        spoken = join_clauses(_clauses(words, is_english=self._is_english))
        silent = (word.text for word in words if not (word.is_break or word.phonemes))
        # It says nothing of signs: those that it can say are words by now.
        signs = (
            () if text.isascii() else (c for c in text if ord(c) > 127 and unicodedata.category(c)[0] == "S")
        )
        self._unknown.warn((*filter(has_speech, silent), *signs), stacklevel=2)
        # gruut takes the dot of `p.m.` or `plan B.` for a part of the word.
        mark = _FINAL_MARK.search(text)
        return spoken + mark[1] if mark and spoken[-1:] not in CLAUSE_MARKS else spoken


def _clauses(words: Iterable[SpokenWord], *, is_english: bool) -> Iterator[tuple[str, str]]:
    """Give the phonemes of each clause as espeak-ng writes them, and the mark that ends it."""
    clause: list[tuple[str, str]] = []
    for word in (*words, SpokenWord("", "", is_break=True)):
        if word.is_break:
            joined = join_english(clause) if is_english else " ".join(phonemes for _, phonemes in clause)
            # gruut also breaks at marks that no voice was trained on; the empty one ends the text.
            yield joined, word.text if word.text in CLAUSE_MARKS else ","
            clause = []
        elif word.phonemes:
            clause.append((word.text, word.phonemes))
