"""gruut: phonemes under a permissive licence, close to espeak-ng's.

gruut parses, reads out numbers, dates and money, and looks words up; a model guesses those that the
lexicon lacks. Plain English goes a shorter way to the same phonemes: see gruut_plain.py. gruut is
imported when a frontend is made, not before: that takes most of a second.
"""

from __future__ import annotations

import functools
import logging
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.frontend.assembly import assemble_sentences
from balacoon_tk.frontend.cleaning import has_speech
from balacoon_tk.frontend.english_joins import join_english
from balacoon_tk.frontend.english_text import spell_out
from balacoon_tk.frontend.gruut_lexicon import Lexicon
from balacoon_tk.frontend.gruut_plain import PlainReader, SpokenWord
from balacoon_tk.frontend.protocol import Sentence
from balacoon_tk.frontend.punctuation import CLAUSE_MARKS

_LOGGER = logging.getLogger(__name__)

# gruut promises nothing about threads: its taggers hold the sentence that they work on, and its models
# load on first use. So one caller at a time; Python code gains nothing from a second thread anyway.
_LOCK = threading.Lock()

_ALPHABET = "espeak"
_N_GUESSES = 4096
_DIGIT = re.compile(r"\d")
_FINAL_MARK = re.compile(r"([.,!?;:])[\"')\]}\s]*$")

# gruut holds dateparser below 1.2, which calls utcnow() when it is imported and for each date. Python 3.12
# deprecates that; where warnings are errors, gruut would not import, and would leave out dates.
_UTCNOW_IS_DEPRECATED = sys.version_info >= (3, 12)


@contextmanager
def _utcnow_allowed() -> Iterator[None]:
    """Silence that one warning of dateparser; under the lock, since filters belong to all threads."""
    if not _UTCNOW_IS_DEPRECATED:
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*utcnow\(\) is deprecated", DeprecationWarning, "dateparser")
        yield


class _Guesser:
    """gruut's guesses at words that the lexicon lacks, kept: each takes a millisecond or two."""

    def __init__(self, guess: Callable[[str], Iterable[str] | None]) -> None:
        self._guess = functools.lru_cache(_N_GUESSES)(guess)

    def __call__(self, word: str, role: str | None = None) -> list[str]:
        return list(self._guess(word) or ())  # a copy, since gruut's French appends to it


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
        from gruut.utils import find_lang_dir

        # gruut walks over its tree 16 times a sentence, by a general search that is most of its time.
        for module in (utils, text_processor):
            vars(module)["leaves"] = _leaves
        self.language = language
        folder = find_lang_dir(language)
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
        if settings.guess_phonemes is not None:
            settings.guess_phonemes = _Guesser(settings.guess_phonemes)
        self._parse = TextProcessor(
            default_lang=language, model_prefix=_ALPHABET, settings={language: settings}
        )
        has_models = settings.guess_phonemes and settings.get_parts_of_speech
        is_plain = language.startswith("en-") and has_models
        self._plain = PlainReader(self.lexicon, settings) if is_plain else None

    def words(self, text: str) -> Sequence[SpokenWord]:
        """Read a text; what gruut takes for sentences of their own is one here."""
        plain = self._plain.words(text) if self._plain else None
        return self.parsed(text) if plain is None else plain

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
    resolved: str = resolve_lang(language)
    return resolved


class GruutFrontend:
    """Phonemes from gruut, written as espeak-ng writes them; safe to call from many threads.

    Words that gruut can't pronounce (of another script, say) are left out, with a log record.

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

    def __init__(self, language: str = "en-us") -> None:
        with _LOCK:
            self._processor = _processor(_resolve(language))
        self.language = self._processor.language
        self._is_english = self.language.startswith("en-")

    def phonemize(self, text: str) -> Iterator[Sentence]:
        """Give the sentences of a text lazily; see `Frontend.phonemize`."""
        return assemble_sentences(text, self._to_phonemes)

    def _to_phonemes(self, text: str) -> str:
        if self._is_english:
            text = spell_out(text, self._processor.lexicon)
        with _LOCK:
            words = self._processor.words(text)
        spoken = _speak(words, is_english=self._is_english)
        # gruut takes the dot of `p.m.` or `plan B.` for a part of the word.
        mark = _FINAL_MARK.search(text)
        return spoken + mark[1] if mark and spoken[-1:] not in CLAUSE_MARKS else spoken


def _speak(words: Iterable[SpokenWord], *, is_english: bool) -> str:
    """Write gruut's words as espeak-ng writes them, clause by clause."""
    spoken = ""
    clause: list[tuple[str, str]] = []
    for word in words:
        if word.is_break:
            mark = word.text if word.text in CLAUSE_MARKS else ","
            spoken = _add_clause(spoken, clause, mark, is_english=is_english)
            clause = []
        elif word.phonemes:
            clause.append((word.text, word.phonemes))
        elif has_speech(word.text):
            _LOGGER.warning("gruut can't pronounce %r, which is left out", word.text)
    return _add_clause(spoken, clause, "", is_english=is_english)


def _add_clause(spoken: str, clause: list[tuple[str, str]], mark: str, *, is_english: bool) -> str:
    if not clause:
        return spoken
    if spoken:
        # A full stop inside the sentence was an abbreviation's: the splitter knows better.
        spoken = spoken.removesuffix(".") + " "
    joined = join_english(clause) if is_english else " ".join(phonemes for _, phonemes in clause)
    return spoken + joined + mark
