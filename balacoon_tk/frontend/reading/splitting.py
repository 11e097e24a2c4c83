r"""Splits a text into sentences, the same for every backend, by what is known of it so far.

A sentence ends

1. at a wide mark (``。！？`` and those of other scripts), whatever follows;
2. at ``!`` or ``?``, if white space follows; not if a quote or bracket closes first and the next word
   is in lower case (``"Stop!" he said.``);
3. at ``.`` or an ellipsis, if white space follows and the next word isn't in lower case, and the dot
   doesn't belong to an abbreviation. In a paragraph without capitals so far, lower case says nothing;
4. at an empty line, and at the end of a line that isn't wrapped; see `Lines`;
5. where a space was forgotten: at ``!`` or ``?`` between two words, and at ``.`` between one that ends in
   lower case and one that is written as a sentence begins (``over.Then``). What touches other signs is no
   word of this kind: ``x.y/?a=b``, ``Node.js``, ``file.Name(x)``;
6. at `MAX_SENTENCE_PHONEMES`, where it would not end before: at the last clause mark or else space that
   leaves a quarter of that to the next, else anywhere.

Closing quotes and brackets stay with the sentence they close. A dot belongs to an abbreviation after
a title or its like (``Mr.``, ``e.g.``: always), after a word that names a number (``No.``, ``Jan.``:
before a digit), after an initial, letters with dots between (``U.S.``) and a known abbreviation
(``Inc.``), these three unless the next word is one that often begins a sentence. Dots inside numbers,
times and addresses have no space after them and end nothing.

So an end is known once the next letter is there, or it is known that none follows. After an abbreviation, and
where a space was forgotten, the next word has to be whole.
"""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from balacoon_tk.frontend.reading.cleaning import WIDE_FINAL_MARKS, has_speech
from balacoon_tk.frontend.reading.source_text import SourceText, Span
from balacoon_tk.frontend.reading.transducers import GOES_ON, Item

MAX_SENTENCE_PHONEMES = 600
"""No sentence is longer, in characters and in phonemes: about half a minute of speech.

The encoder's attention grows with the square of a sentence's length.
"""


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
    "the this that these that those there here he she it we they you i his her its our their my your "
    "and but or so then if when while after before in on at for from as what who why how where "
    "yes no not now however finally still also another some many most all"
)

_MARKS = re.compile(rf"([.!?…{WIDE_FINAL_MARKS}]+)([\"'”’»)\]}}›」』】〉》）]*)")
_NEXT_WORD = re.compile(r"[\W_]{0,8}(\w*)")
_WORD_BEFORE = re.compile(r"[^\W_][\w.&'’-]*$")
_LOOK_BACK = 24  # characters; longer words are no abbreviations
_LOOK_AHEAD = 32  # characters; longer words begin no sentence
_DOTTED = re.compile(r"(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}")

# A word of letters, which begins behind a space or what opens: not a part of an address or of a formula.
_LETTERS_BEFORE = re.compile(r"(?<![^\s\"'“‘«(\[{—–，、；：-])[^\W\d_]{2,}(?:['’-][^\W\d_]+)*$")
_LETTERS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_GLUING = frozenset("=/&@_#%+*~<>\\|^$([{")  # and digits: what follows a word in an address or a formula

_CLAUSE_END = re.compile(rf"[,;:](?=\s)|[，、،፣；؛：—―{WIDE_FINAL_MARKS}]|\s[–-](?=\s)|[.!?…](?=\s)")
CLAUSE_CHARACTERS = 20
"""A clause that is spoken alone is at least so long, about a second: a shorter one would sound cut off, and
be over before the rest is there."""
_FIRST_CLAUSE = re.compile(
    rf"(?s:.{{{CLAUSE_CHARACTERS - 1},}}?)(?:[,;:](?=\s)|[，、،፣；;：—―]|\s[–-]{{1,2}}(?=\s))(?=\s?\S)"
)
_SPACE = re.compile(r"\s")
_SPACES = re.compile(r"\s*")


class Sentences:
    """Gives the sentences of what stands between two breaks; those without speech are left out.

    With `clause` the first one may end with a clause already, of at least `CLAUSE_CHARACTERS`.
    """

    def __init__(self, *, clause: bool = False) -> None:
        self.ends_clause = clause  # whether the next sentence may
        self._begin()

    def feed(self, text: SourceText) -> Iterator[Item]:
        """Take more of the text."""
        self._text += text
        return self._take(finish=False)

    def finish(self) -> Iterator[Item]:
        """Give the rest."""
        yield from self._take(finish=True)
        rest = self._text.strip()
        self._begin()
        if has_speech(rest.text):
            self.ends_clause = False
            yield rest

    def look_at(self, letter: str) -> Iterator[Item]:
        """Give what is certain by the next letter, or digit, which may still get an accent."""
        self._next_letter = letter
        yield from self._take(finish=False)
        self._next_letter = ""

    def _begin(self) -> None:
        self._next_letter = ""
        self._text, self._was_cut = SourceText(""), False
        self._n_scanned = 0  # up to here no sentence ends
        self._has_capitals = False  # in the sentences before, of the same paragraph

    def _take(self, *, finish: bool) -> Iterator[Item]:
        if self._n_scanned == 0:
            self._text = _strip_left(self._text)
        while (end := self._next_end(finish=finish)) is not None:
            text = self._text.text
            stop, following = len(text[:end].rstrip()), _SPACES.match(text, end)
            sentence = self._text[:stop]
            self._text = self._text[following.end() if following else end :]
            self._n_scanned = 0
            self._has_capitals = self._has_capitals or sentence.text != sentence.text.lower()
            if has_speech(sentence.text):
                self.ends_clause = False
                yield sentence
            if self._was_cut:
                yield GOES_ON

    def _next_end(self, *, finish: bool) -> int | None:
        """Return where the next sentence ends, or None while that isn't known."""
        text, self._was_cut = self._text.text, False
        clause_end = self._first_clause(text) if self.ends_clause else None
        for match in _MARKS.finditer(text, self._n_scanned):
            # Before a clause is over the sentence may be, or it isn't known yet.
            if match.end() > MAX_SENTENCE_PHONEMES or (clause_end and clause_end <= match.start()):
                break
            ends = False if match.end() == len(text) and finish else self._ends(match, finish=finish)
            if ends:
                return match.end()
            if ends is None:
                self._n_scanned = match.start()
                return None
            self._n_scanned = match.end()
        else:
            self._n_scanned = len(text)
        if clause_end:
            self._was_cut = True
            return clause_end
        if len(text) > MAX_SENTENCE_PHONEMES and len(text.rstrip()) > MAX_SENTENCE_PHONEMES:
            self._was_cut = True
            return _last_place(text)
        return None

    def _first_clause(self, text: str) -> int | None:
        found = _FIRST_CLAUSE.match(text, 0, MAX_SENTENCE_PHONEMES + 2)
        return found.end() if found and found.end() <= MAX_SENTENCE_PHONEMES else None

    def _ends(self, match: re.Match[str], *, finish: bool) -> bool | None:
        """Apply rules 1 to 3 and 5 to the marks at `match`; None if the answer lies in what is to come."""
        text, (marks, closers) = self._text.text, match.groups()
        ahead = text[match.end() : match.end() + _LOOK_AHEAD]
        # No rule looks further than that.
        is_all = finish or len(ahead) == _LOOK_AHEAD
        if not (ahead or self._next_letter):
            return None
        if any(mark in WIDE_FINAL_MARKS for mark in marks):
            return True
        if not ahead:
            return None
        if not ahead[0].isspace():
            return not closers and _ends_without_space(text, match, ahead, is_all=is_all)
        asks = "!" in marks or "?" in marks
        if asks and not closers:
            return True
        following = _NEXT_WORD.match(ahead)
        word = following[1] if following else ""
        is_whole = is_all or (following is not None and following.end() < len(ahead))
        if not (word or is_whole):
            word = self._next_letter
        if not (word or is_whole):
            return None
        if word[:1].islower() and self._knows_capitals(match.start()):
            return False
        if asks or closers or marks != ".":
            return True
        kind = _abbreviation(text, match.start(), word)
        if kind != "unless a sentence begins":
            return kind is None
        return word.lower() in _STARTERS if is_whole else None

    def _knows_capitals(self, stop: int) -> bool:
        # Chats and transcripts are often all in lower case: there a small letter says nothing.
        before = self._text.text[:stop]
        return self._has_capitals or before != before.lower()


def _abbreviation(
    text: str, dot: int, following: str
) -> Literal["always", "unless a sentence begins"] | None:
    """Say whether the dot belongs to the word before it, and the sentence, which `text` begins, goes on."""
    found = _WORD_BEFORE.search(text[max(0, dot - _LOOK_BACK) : dot])
    if not found:
        return None
    word, key = found[0], found[0].lower()
    if key in _TITLES or (key in _BEFORE_NUMBERS and following[:1].isdigit()):
        return "always"
    # `I` is a pronoun, unless a name begins with it.
    if key in _ENDING or (word == "I" and text[: dot - 1].strip()):
        return None
    is_initial = len(word) == 1 and word.isalpha() and word.isascii()
    if is_initial or key in _ABBREVIATIONS or _DOTTED.fullmatch(word):
        return "unless a sentence begins"
    return None


def _ends_without_space(text: str, match: re.Match[str], ahead: str, *, is_all: bool) -> bool | None:
    """Apply rule 5 to the marks at `match`; `ahead` follows, and is all of it that a rule may look at."""
    marks, dot = match[1], match.start()
    asks = set(marks) <= {"!", "?"}
    before = _LETTERS_BEFORE.search(text, max(0, dot - _LOOK_BACK), dot)
    following = _LETTERS.match(ahead)
    if not (before and following and (asks or marks == ".")):
        return False
    # Both words must be known to their ends, and what a sign behind the second one is.
    after = ahead[following.end() : following.end() + 2]
    if after in ("", ".", "-", "'", "’") and not is_all:
        return None
    word = following[0]
    if not asks:
        is_beginning = word[0].isupper() and (word[1:].islower() or word in ("A", "I"))
        if not (before[0][-1].islower() and is_beginning) or _abbreviation(text, dot, word):
            return False
    if after[:1] == ".":
        return after == "." or after[1].isspace()
    return not (after and (after[0] in _GLUING or after[0].isdigit()))


def _strip_left(text: SourceText) -> SourceText:
    return text[len(text) - len(text.text.lstrip()) :] if text.text[:1].isspace() else text


# What is left may be as short as a letter more than the limit: a quarter of the limit is kept for it.
_LAST_PLACE = MAX_SENTENCE_PHONEMES - MAX_SENTENCE_PHONEMES // 4


def _last_place(text: str) -> int:
    """Choose where to cut what is longer than allowed, and nobody knows how much."""
    if not has_speech(text[:_LAST_PLACE]):
        return _LAST_PLACE
    for pattern, least in ((_CLAUSE_END, _LAST_PLACE // 2), (_SPACE, 1)):
        ends = (match.end() for match in pattern.finditer(text[: _LAST_PLACE + 1]))
        if places := [place for place in ends if least <= place <= _LAST_PLACE]:
            return places[-1]
    return _in_a_word(text, _LAST_PLACE)


def shorten(sentence: str, limit: int) -> Iterator[str]:
    """Cut a sentence into parts of at most `limit` characters, as even as clauses and words allow."""
    return (sentence[start:stop] for start, stop in even_parts(sentence, limit))


def even_parts(sentence: str, limit: int) -> Iterator[Span]:
    """Say where the parts of a sentence begin and end that `shorten` gives: those with something to say."""
    end = len(sentence.rstrip())
    start = len(sentence) - len(sentence.lstrip())
    # By places in the sentence: to copy what is left for each part would take minutes for one of megabytes.
    while (n_left := end - start) > limit:
        # As many parts as it needs and as even as it can be; cutting at the limit would leave a stub.
        n_parts = -(-n_left // limit)
        cut = start + _even_place(sentence[start : start + limit + 1], n_left // n_parts)
        part = sentence[start:cut].rstrip()
        if has_speech(part):
            yield start, start + len(part)
        space = _SPACES.match(sentence, cut)
        start = space.end() if space else cut
    if has_speech(sentence[start:end]):
        yield start, end


def _even_place(window: str, target: int) -> int:
    """Choose where to cut a window one longer than allowed: the good place nearest to `target`."""
    # A clause may be half as long as an even part, no shorter.
    for pattern, least in ((_CLAUSE_END, target // 2), (_SPACE, 1)):
        places = [match.end() for match in pattern.finditer(window[:-1]) if match.end() >= least]
        if places:
            return min(places, key=lambda place: abs(place - target))
    return _in_a_word(window, target)


def _in_a_word(text: str, place: int) -> int:
    while place > 1 and not text[place].isalnum():  # a mark belongs to the letter before it
        place -= 1
    return place
