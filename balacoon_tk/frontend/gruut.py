"""gruut: phonemes under a permissive licence, close to espeak-ng's.

gruut parses, reads out numbers, dates and money, and looks words up; a model guesses those that the
lexicon lacks. It is imported when a frontend is made, not before: that takes most of a second.
"""

from __future__ import annotations

import functools
import logging
import re
import sqlite3
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.frontend.assembly import assemble_sentences
from balacoon_tk.frontend.cleaning import has_speech
from balacoon_tk.frontend.english_joins import join_english
from balacoon_tk.frontend.english_text import spell_out
from balacoon_tk.frontend.protocol import Sentence
from balacoon_tk.frontend.punctuation import CLAUSE_MARKS

__all__ = ["GruutFrontend"]

_LOGGER = logging.getLogger(__name__)

# gruut promises nothing about threads: its taggers hold the sentence that they work on, and its models
# load on first use. So one caller at a time; Python code gains nothing from a second thread anyway.
_LOCK = threading.Lock()

_ALPHABET = "espeak"
_NON_WORD = re.compile(r"\W")
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


class _Word(Protocol):
    """What gruut says of one word or mark."""

    text: str
    phonemes: list[str] | None
    is_major_break: bool
    is_minor_break: bool


class _Lexicon:
    """gruut's pronunciations, all in memory.

    gruut itself asks the database word by word; that has no index, so each question reads all of
    it, and those for marks and numbers are asked again every time. Its connection would also be
    tied to the thread that opened it.
    """

    def __init__(self, path: Path) -> None:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            # The last row of a word stays: that of no role before any other, then the first one listed.
            self._plain: dict[str, str] = dict(
                database.execute(
                    "SELECT word, phonemes FROM word_phonemes ORDER BY role = '', pron_order DESC"
                )
            )
            roles = database.execute(
                "SELECT word, role, phonemes FROM word_phonemes WHERE role != '' ORDER BY pron_order DESC"
            )
            self._by_role = {(word, role): phonemes for word, role, phonemes in roles}

    def __contains__(self, word: object) -> bool:
        return word in self._plain

    def __call__(self, word: str, role: str | None = None, do_transforms: bool = True) -> list[str] | None:
        """Look a word up as gruut does: as it stands, in lower case, without marks."""
        bare = _NON_WORD.sub("", word)
        for spelling in (word, word.lower(), bare, bare.lower()) if do_transforms else (word,):
            phonemes = self._plain.get(spelling)
            if phonemes is not None:
                return (self._by_role.get((spelling, role), phonemes) if role else phonemes).split()
        return None


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
        self.lexicon = _Lexicon(lexicon_path)
        settings = get_settings(
            language, lang_dir=folder, model_prefix=_ALPHABET, lookup_phonemes=self.lexicon
        )
        self._parse = TextProcessor(
            default_lang=language, model_prefix=_ALPHABET, settings={language: settings}
        )

    def words(self, text: str) -> list[_Word]:
        """Parse a text; what gruut takes for sentences of their own is one here."""
        # Without a digit nothing is a number, which gruut finds out by an exception for each word.
        has_digit = _DIGIT.search(text) is not None
        with _utcnow_allowed():
            graph, root = self._parse(text, lang=self.language, detect_numbers=has_digit)
        return [word for sentence in self._parse.sentences(graph, root) for word in sentence]


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


def _speak(words: Iterable[_Word], *, is_english: bool) -> str:
    """Write gruut's words as espeak-ng writes them, clause by clause."""
    spoken = ""
    clause: list[tuple[str, str]] = []
    for word in words:
        if word.is_major_break or word.is_minor_break:
            mark = word.text if word.text in CLAUSE_MARKS else ","
            spoken = _add_clause(spoken, clause, mark, is_english=is_english)
            clause = []
            continue
        phonemes = "".join(word.phonemes or ())
        if phonemes:
            clause.append((word.text, phonemes))
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
