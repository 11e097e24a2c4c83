"""What is done to a sentence before a backend reads it: punctuation, spaces, and English as it is said."""

from __future__ import annotations

from collections.abc import Callable, Container

from balacoon_tk.frontend.english.normalizer import EnglishNormalizer
from balacoon_tk.frontend.reading.cleaning import is_plain, plain_punctuation
from balacoon_tk.frontend.reading.source_text import SourceText
from balacoon_tk.frontend.signs import SignWriter
from balacoon_tk.frontend.spacing import space_marks


class Preparation:
    """Prepares the sentences of one language.

    Parameters
    ----------
    language : str
        Its name in espeak-ng, such as ``en-us`` or ``de``.
    lexicon : container of str or None
        gruut's, where gruut reads the sentences.

    Examples
    --------
    >>> Preparation("en-us")(SourceText("“Stop!”he said…It cost $5")).text
    '"Stop!" he said, It cost 5 dollars'
    """

    def __init__(self, language: str, lexicon: Container[str] | None = None) -> None:
        self._normalize: Callable[[SourceText], SourceText] | None
        if language.split("-")[0] == "en":
            self._normalize = EnglishNormalizer(language, lexicon)
        else:  # gruut has its own words for signs
            self._normalize = SignWriter(language) if lexicon is None else None

    def __call__(self, sentence: SourceText) -> SourceText:
        """Write a sentence as the backend shall read it."""
        if not is_plain(sentence.text):
            sentence = space_marks(plain_punctuation(sentence))
        return sentence if self._normalize is None else self._normalize(sentence)
