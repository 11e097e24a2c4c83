"""Parts words that a mark without space glues together, so that the mark is the pause that it was meant as.

Backends know a mark by the space after it: espeak-ng says ``colon`` in ``one:two``, gruut reads ``call(me)``
as one word. Text that is well spaced is left as it is, and so are numbers, times, addresses and colons inside
of words (``EU:n``). Brackets and quotes make no pause, as in ``call (me)``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from balacoon_tk.frontend.reading.source_text import SourceText

_LETTER = r"[^\W\d_]"
# After a word, or what closes one, and before another; digits on both sides are a number or a time.
_MARK = re.compile(
    rf"(?<=[\w)\]}}\"'.])(?P<mark>[,;:!?])(?=[(\[{{\"]?{_LETTER})"
    rf"|(?<=[)\]}}\"'])(?P<stop>\.)(?={_LETTER})"
    rf"|(?<={_LETTER})(?P<before_digit>[,;:!?])(?=\d)"
    # The endings of `file(s)` and of America's `401(k)` belong to the word.
    rf"|(?<=\w)(?P<opening>[(\[{{])(?!e?s\)|k\))(?=[\w\"'])"
    rf"|(?<=[\w\"'.,;:!?])(?P<closing>[)\]}}])(?=\w)"
    rf"|(?<={_LETTER})(?P<quote>\")(?={_LETTER})|(?<=[.,!?])(?P<after_mark>\")(?={_LETTER})"
)
_ADDRESS = re.compile(r"\S*(?:://|@|\bwww\.|\w\.[a-z]{2,}[/?:])\S*")
# An inflected initialism, as in Finnish and Swedish: `EU:n`.
_INFLECTED = re.compile(rf"(?<=[^\W\d_a-z]):{_LETTER}{{1,4}}\b")


def space_marks(text: SourceText) -> SourceText:
    """Put a space where a mark without one stands between words.

    Parameters
    ----------
    text : SourceText
        A sentence in plain punctuation.

    Examples
    --------
    >>> space_marks(SourceText("Yes,no; at 10:30 call(me),see x.com/a?b")).text
    'Yes, no; at 10:30 call (me), see x.com/a?b'
    """
    return text.replace((place, place, " ") for place in _gaps(text.text))


def _gaps(text: str) -> Iterator[int]:
    addresses = [match.span() for match in _ADDRESS.finditer(text)] if _MARK.search(text) else []
    for match in _MARK.finditer(text):
        start, kind = match.start(), match.lastgroup
        if any(first <= start < last for first, last in addresses):
            continue
        if match[0] == ":" and text[start - 1].isupper() and _INFLECTED.match(text, start):
            continue
        in_quotes = text.count('"', 0, start) % 2 == 1
        # Behind a mark a quote that is open ends, and has the mark inside.
        if (
            in_quotes
            if kind == "mark" and text[match.end()] == '"'
            else kind == "after_mark" and not in_quotes
        ):
            continue
        opens = kind == "opening" or (kind == "quote" and not in_quotes)
        yield start if opens else match.end()
