r"""Splits a text into sentences, the same for every backend.

A sentence ends

1. at a wide mark (``。！？`` and those of other scripts), whatever follows;
2. at ``!`` or ``?``, if white space follows; not if a quote or bracket closes first and the next word
   is in lower case (``"Stop!" he said.``);
3. at ``.`` or an ellipsis, if white space follows and the next word isn't in lower case, and the dot
   doesn't belong to an abbreviation. In a paragraph without capitals, lower case says nothing;
4. at an empty line, and at the end of a line, unless the text looks wrapped there: the next line
   begins in lower case, or the line is longer than `WRAPPED_LINE` and has no mark at its end;
5. at `MAX_SENTENCE_PHONEMES`, where it would not end before: at the clause mark, else the space,
   nearest to an even division, else anywhere.

Closing quotes and brackets stay with the sentence they close. A dot belongs to an abbreviation after
a title or its like (``Mr.``, ``e.g.``: always), after a word that names a number (``No.``, ``Jan.``:
before a digit), after an initial, letters with dots between (``U.S.``) and a known abbreviation
(``Inc.``), these three unless the next word is one that often begins a sentence. Dots inside numbers,
times and addresses have no space after them and end nothing.
"""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import re
from collections.abc import Iterator

from balacoon_tk.frontend.cleaning import WIDE_FINAL_MARKS, has_speech

MAX_SENTENCE_PHONEMES = 600
"""No sentence is longer, in characters and in phonemes: about half a minute of speech.

The encoder's attention grows with the square of a sentence's length.
"""

# A line of so many characters was probably broken by an editor, not by its writer.
WRAPPED_LINE = 60


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Always followed by the rest of the sentence.
_TITLES = _words(
    "mr mrs ms mx messrs dr drs prof rev hon gen col lt capt cmdr sgt cpl maj adm gov sen rep amb mt ft "
    "mme mlle sr sra srta hr e.g i.e eg ie vs cf viz ca approx z.b d.h bzw incl excl al"
)
_BEFORE_NUMBERS = _words(
    "no nos nr fig figs eq eqs sec ch chap vol p pp pg art para tab "
    "jan feb mar apr jun jul aug sep sept oct nov dec"
)
_ABBREVIATIONS = _words("inc ltd co corp bros jr sr st ave blvd rd hwy dept univ assn est misc gmbh")
# After these the day or the list is over more often than not, when a capital follows.
_ENDING = _words("a.m p.m etc")
_STARTERS = _words(
    "the this that these those there here he she it we they you i his her its our their my your "
    "and but or so then if when while after before in on at for from as what who why how where "
    "yes no not now however finally still also another some many most all"
)

_MARKS = re.compile(rf"([.!?…{WIDE_FINAL_MARKS}]+)([\"'”’»)\]}}›」』】〉》）]*)")
_NEXT_WORD = re.compile(r"[\W_]{0,8}(\w*)")
_WORD_BEFORE = re.compile(r"[^\W_][\w.&'’-]*$")
_LOOK_BACK = 24  # characters; longer words are no abbreviations
_DOTTED = re.compile(r"(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}")
_ENDED_LINE = re.compile(r"\W$")

_LINE = re.compile(r"[^\n]+")
_BULLET = re.compile(r"\s*(?:[-–—*•·‣▪◦>]\s+|#+\s+)*")
_CLAUSE_END = re.compile(rf"[,;:](?=\s)|[，、،፣；؛：—―{WIDE_FINAL_MARKS}]|\s[–-](?=\s)|[.!?…](?=\s)")
_SPACE = re.compile(r"\s")
_SPACES = re.compile(r"\s*")


def split_sentences(text: str) -> Iterator[str]:
    """Give the sentences of a cleaned text one at a time; those without speech are left out.

    Examples
    --------
    >>> list(split_sentences("Mr. Smith paid $3.50. He left at 5 p.m. Nobody saw him!"))
    ['Mr. Smith paid $3.50.', 'He left at 5 p.m.', 'Nobody saw him!']
    """
    for paragraph in _paragraphs(text):
        for sentence in _sentences(paragraph):
            if has_speech(sentence):
                yield from shorten(sentence)


def shorten(sentence: str, limit: int = MAX_SENTENCE_PHONEMES) -> Iterator[str]:
    """Cut a sentence into parts of at most `limit` characters, as even as clauses and words allow."""
    sentence, start = sentence.strip(), 0
    # By places in the sentence: to copy what is left for each part would take minutes for one of megabytes.
    while (n_left := len(sentence) - start) > limit:
        # As many parts as it needs and as even as it can be; cutting at the limit would leave a stub.
        n_parts = -(-n_left // limit)
        cut = start + _cut(sentence[start : start + limit + 1], n_left // n_parts)
        part = sentence[start:cut].rstrip()
        space = _SPACES.match(sentence, cut)
        start = space.end() if space else cut
        if has_speech(part):
            yield part
    if has_speech(rest := sentence[start:]):
        yield rest


def _cut(window: str, target: int) -> int:
    """Choose where to cut a window one longer than allowed: the good place nearest to `target`."""
    # A clause may be half as long as an even part, no shorter.
    for pattern, least in ((_CLAUSE_END, target // 2), (_SPACE, 1)):
        places = [match.end() for match in pattern.finditer(window[:-1]) if match.end() >= least]
        if places:
            return min(places, key=lambda place: abs(place - target))
    cut = target
    while cut > 1 and not window[cut].isalnum():  # a mark belongs to the letter before it
        cut -= 1
    return cut


def _paragraphs(text: str) -> Iterator[str]:
    """Join wrapped lines; give what stands between the line breaks that count."""
    paragraph, previous, end = "", "", 0
    for match in _LINE.finditer(text):
        bullet = _BULLET.match(match[0])
        line = match[0][bullet.end() :] if bullet else match[0]
        unfinished = len(previous) >= WRAPPED_LINE and not _ENDED_LINE.search(previous)
        adjoins = match.start() - end == 1 and not (bullet and bullet[0].strip())
        if paragraph and not (adjoins and (line[:1].islower() or unfinished)):
            yield paragraph
            paragraph = ""
        paragraph += f" {line}" if paragraph else line
        previous, end = line, match.end()
    if paragraph:
        yield paragraph


def _sentences(paragraph: str) -> Iterator[str]:
    # Chats and transcripts are often all in lower case: there a small letter doesn't go on with a sentence.
    has_capitals = paragraph != paragraph.lower()
    start = 0
    for match in _MARKS.finditer(paragraph):
        inside = match.end() < len(paragraph)
        if inside and _ends_sentence(paragraph, start, match, has_capitals=has_capitals):
            yield paragraph[start : match.end()].strip()
            start = match.end()
    yield paragraph[start:].strip()


def _ends_sentence(paragraph: str, start: int, match: re.Match[str], *, has_capitals: bool) -> bool:
    """Apply rules 1 to 3 to the marks at `match`, in the sentence that began at `start`."""
    marks, closers = match[1], match[2]
    if any(mark in WIDE_FINAL_MARKS for mark in marks):
        return True
    if not paragraph[match.end()].isspace():
        return False
    following = _NEXT_WORD.match(paragraph, match.end())
    word = following[1] if following else ""
    continues = has_capitals and word[:1].islower()
    if "!" in marks or "?" in marks:
        return not (closers and continues)
    if continues:
        return False
    if marks != "." or closers:
        return True
    return not _is_abbreviation(paragraph, start, match.start(), word)


def _is_abbreviation(paragraph: str, start: int, dot: int, following: str) -> bool:
    """Say whether the dot belongs to the word before it, and the sentence goes on."""
    found = _WORD_BEFORE.search(paragraph[max(start, dot - _LOOK_BACK) : dot])
    if not found:
        return False
    word, key = found[0], found[0].lower()
    if key in _TITLES or (key in _BEFORE_NUMBERS and following[:1].isdigit()):
        return True
    if key in _ENDING or following.lower() in _STARTERS:
        return False
    if word == "I":  # a pronoun, unless a name begins with it
        return not paragraph[start : dot - 1].strip()
    is_initial = len(word) == 1 and word.isalpha() and word.isascii()
    return is_initial or key in _ABBREVIATIONS or _DOTTED.fullmatch(word) is not None
