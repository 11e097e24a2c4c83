"""Makes any text plain enough for a backend, and its punctuation what a voice trained on espeak-ng knows.

A whole text is cleaned character by character (no control characters, no emoji, one kind of space) before it
is split into sentences; punctuation is made plain in a sentence, whose beginning and end the rules must see.
Nothing here knows a language: numbers, dates and money come later, in preparation.py and the backend.
"""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

from balacoon_tk.frontend.reading.raw_phonemes import RAW_MARK
from balacoon_tk.frontend.reading.source_text import SourceText

_LINE_BREAKS = dict.fromkeys("\n\r\v\x85\u2028", "\n") | dict.fromkeys("\f\u2029", "\n\n")
_JOINERS = "\u200c\u200d"
# Part of a keycap's picture, and fillers, which are letters by category.
_INVISIBLE = "\u20e3\u115f\u1160\u3164\uffa0"

# Pictures: arrows, boxes, dingbats and stars, then the planes of emoji. Below them, category So
# holds characters that are read aloud, such as the degree sign.
_PICTURES = range(0x2190, 0x2C00)
_EMOJI_START = 0x1F000

# Blocks of letters, digits and signs in disguise, which no lexicon knows: ligatures and Arabic
# forms, full and half width, mathematical alphabets. NFKC anywhere else would change what is said;
# the wide marks stay, since they end clauses without a space after them.
_WIDE_MARKS = "！？，；：（）"
_DISGUISES = (range(0xFB00, 0xFE00), range(0xFE70, 0xFF00), range(0xFF00, 0xFFF0), range(0x1D400, 0x1D800))


def _replacement(character: str) -> str:
    category, codepoint = unicodedata.category(character), ord(character)
    if character in _LINE_BREAKS:
        return _LINE_BREAKS[character]
    if category == "Zs" or character in "\t\ufffd":  # the latter is what a decoder put where it couldn't read
        return " "
    if character in _JOINERS:
        return character
    # Variation selectors choose between forms, as an emoji in colour; Mn by category, as accents are.
    selects = "VARIATION SELECTOR" in unicodedata.name(character, "")
    if category[0] == "C" or character in _INVISIBLE or selects:
        return ""
    if (category == "So" and codepoint in _PICTURES) or (category[0] == "S" and codepoint >= _EMOJI_START):
        return " "
    if character not in _WIDE_MARKS and any(codepoint in block for block in _DISGUISES):
        return unicodedata.normalize("NFKC", character)
    return character


class _Replacements(dict[int, str]):
    """A table for `str.translate` that remembers what it worked out."""

    def __missing__(self, codepoint: int) -> str:
        self[codepoint] = replacement = _replacement(chr(codepoint))
        return replacement


_REPLACEMENTS = _Replacements()
_NOT_ASCII = re.compile(r"[^\n -~]")
_REPLACED = re.compile(r"\r\n|[^\n -~]")
# Joiners shape words of the scripts from Hebrew to Mongolian; anywhere else they are debris.
_STRAY_JOINER = re.compile(rf"(?<![\u0590-\u1aff])[{_JOINERS}]+|[{_JOINERS}]+(?![\u0590-\u1aff])")
_SPACES = re.compile(r" {2,}")
_LINE_ENDS = re.compile(r" +(?=\n)|(?<=\n) +")
_TIGHT_MARKS = ".,!?;:…"  # with no space before them
_SPACE_BEFORE_MARK = re.compile(rf"(?<=[^\s{_TIGHT_MARKS}]) +(?=[{_TIGHT_MARKS}]+(?:\s|$))")
_SPEECH = re.compile(r"[^\W_]")

# What no rule changes, neither here nor of punctuation, and looking at it once is faster than looking for
# each rule's work: words of ASCII with single spaces between, each with one mark at most.
_PLAIN_WORDS = re.compile(
    r"""
    (?> (?:
        ["'(]*+ [A-Za-z0-9]++ (?> (?:['-][A-Za-z0-9]++)* ) ["')]*+
        (?> (?: [.,!?;:] ["')]*+ )? ) (?:[ ](?!$)|$)
    )* )
    """,
    re.VERBOSE,
)


def clean_text(text: SourceText) -> SourceText:
    r"""Clean a text character by character; what is said stays the same.

    Line breaks of any kind become ``\n`` (page and paragraph breaks two), other white space one
    space, emoji and pictures a space. Control, format, private and unassigned characters vanish, as do
    halves of surrogate pairs. Letters in disguise (full width, ligatures, mathematical alphabets)
    become letters. A space before closing punctuation goes. The result is composed (NFC).

    Examples
    --------
    >>> clean_text(SourceText("Hi\u00a0there \U0001f600 !\x07")).text
    'Hi there!'
    """
    # In this order: line breaks of two characters first, which one by one would be two; then characters; then
    # NFC, for what was taken apart by a sign that is gone now; joiners, whose neighbours stand beside them
    # only by then; and spaces last, since all the rest may leave some.
    if is_plain(text.text):
        return text
    if _NOT_ASCII.search(text.text):
        if text.text.translate(_REPLACEMENTS) != text.text:
            text = text.sub(_REPLACED, lambda match: _REPLACEMENTS[ord(match[0][-1])])
        text = _compose(text).sub(_STRAY_JOINER, "")
    return text.sub(_SPACES, " ").sub(_LINE_ENDS, "").sub(_SPACE_BEFORE_MARK, "")


def _compose(text: SourceText) -> SourceText:
    if unicodedata.is_normalized("NFC", text.text):
        return text
    starts = [place for place, character in enumerate(text.text) if not place or _begins_anew(character)]
    edits = []
    for start, stop in pairwise([*starts, len(text)]):
        group = text.text[start:stop]
        composed = unicodedata.normalize("NFC", group)
        if composed != group:
            n_same = 0
            while group[n_same] == composed[n_same]:  # what isn't touched stands for itself alone
                n_same += 1
            edits.append((start + n_same, stop, composed[n_same:]))
    return text.replace(edits)


# Vowels and finals of Korean, and a few letters of scripts that came to Unicode late, compose with what is
# before them; of all else that does, the category says so.
_COMPOSING_LETTERS = (
    *map(range, (0x1100, 0xA960, 0xD7B0), (0x1200, 0xA980, 0xD800)),
    range(0x10000, 0x20000),
)


@functools.lru_cache(4096)
def _begins_anew(character: str) -> bool:
    """Say whether a character composes with nothing before it, whatever that is."""
    category, codepoint = unicodedata.category(character), ord(character)
    if category == "Lo":
        return not any(codepoint in block for block in _COMPOSING_LETTERS)
    return category[0] != "M"


@functools.lru_cache(4096)
def _is_settled(character: str) -> bool:
    """Say whether nothing before a character changes by it, but for marks and joiners that it touches."""
    first = _REPLACEMENTS[ord(character)][:1]
    return bool(first) and not first.isspace() and first not in _TOUCHY and _begins_anew(first)


_TOUCHY = frozenset(_TIGHT_MARKS + _JOINERS)  # what follows may change them, or the space before them


class Cleaner:
    r"""Cleans a text that comes in pieces, as `clean_text` cleans the whole.

    A text may be cut before a character that composes with nothing, unless a mark or a joiner touches it, and
    behind a line break: what is before the cut is cleaned to the same as without it, and so is what follows,
    but for spaces at the beginning of a line. What lies behind the last such place is held back. Raw phonemes
    part the texts that are cleaned.

    Examples
    --------
    >>> cleaner = Cleaner()
    >>> [part.text for part in cleaner.feed(SourceText("Cafe"))]
    ['Caf']
    >>> [part.text for part in cleaner.feed(SourceText("\u0301 , yes", 4))]
    ['é, ye']
    """

    def __init__(self) -> None:
        self._held: list[SourceText] = []
        # Of what is held: its last character that isn't blank, and whether there is a space behind it.
        self._last, self._has_space = "", False
        self._begins_line = False
        self._held_from = ""  # the first character that is held, where one was cut before it

    @property
    def next_letter(self) -> str:
        """The letter or digit that comes next, perhaps with an accent that isn't there yet; else nothing."""
        letter = _REPLACEMENTS[ord(self._held_from)][:1] if self._held_from else ""
        return letter if letter.isalnum() else ""

    def feed(self, text: SourceText) -> Iterator[SourceText]:
        """Take more of the text."""
        while (mark := text.text.find(RAW_MARK)) >= 0:
            self._held.append(text[:mark])
            yield from self.finish()
            yield text[mark : mark + 1]
            text = text[mark + 1 :]
        cut = self._last_cut(text.text)
        self._last, self._has_space = self._end(text.text, len(text))
        if cut is None:
            self._held.append(text)
        else:
            settled, self._held = SourceText.join([*self._held, text[:cut]]), [text[cut:]]
            self._held_from = text.text[cut : cut + 1]
            yield from self._clean(settled)

    def finish(self) -> Iterator[SourceText]:
        """Give the rest."""
        settled, self._held = SourceText.join(self._held), []
        yield from self._clean(settled)
        self._last, self._has_space, self._begins_line, self._held_from = "", False, False, ""

    def _clean(self, text: SourceText) -> Iterator[SourceText]:
        cleaned = clean_text(text)
        if self._begins_line:
            cleaned = cleaned[len(cleaned) - len(cleaned.text.lstrip(" ")) :]
        if cleaned.text:
            self._begins_line = cleaned.text.endswith("\n")
            yield cleaned

    def _last_cut(self, text: str) -> int | None:
        # From the end, where it seldom is further than a letter.
        for place in range(len(text) - 1, -1, -1):
            character = text[place]
            # The first half of a line break may be all of it, or not.
            if character in _LINE_BREAKS and not (character == "\r" and place == len(text) - 1):
                return place + 1
            if _is_settled(character):
                last, has_space = self._end(text, place)
                if has_space or last not in _TOUCHY:
                    return place
        return None

    def _end(self, text: str, stop: int) -> tuple[str, bool]:
        """Return the last character before `stop` that isn't blank, unless there is a space behind it."""
        for place in range(stop - 1, -1, -1):
            if replaced := _REPLACEMENTS[ord(text[place])]:
                return replaced[-1], replaced == " "
        return self._last, self._has_space


def is_plain(text: str) -> bool:
    """Say whether a text is known to need no cleaning, nor its punctuation to be made plain."""
    return _PLAIN_WORDS.fullmatch(text) is not None


def has_speech(text: str) -> bool:
    """Say whether a text holds anything to speak: a letter or a digit of any script."""
    return _SPEECH.search(text) is not None


# Marks that stand among the phonemes, as pauses and tunes of the voice.
CLAUSE_MARKS = ".,!?;:"
# Marks that end a sentence, whatever follows: no script uses them for an abbreviation.
WIDE_FINAL_MARKS = "。।॥۔։።។။！‼？؟⁇⁈⁉፧"
_WIDE_INNER_MARKS = "，、،፣；؛："
_FOREIGN_MARKS = WIDE_FINAL_MARKS + _WIDE_INNER_MARKS + "“”„‟«»「」『』‘’‛ʼ（）"
_IN_ASCII = "........" + "!!" + "??????" + ",,,,;;:" + '""""""""""' + "''''" + "()"
_PLAIN = dict(zip(_FOREIGN_MARKS, _IN_ASCII, strict=True))
_FOREIGN_MARK = re.compile(f"[{_FOREIGN_MARKS}]")
# Wide marks have no space after them, and their ASCII forms are marks only before one.
_AFTER_WIDE = re.compile(rf"(?<=[{WIDE_FINAL_MARKS}{_WIDE_INNER_MARKS}])(?=\w)")

# In this order: dashes and ellipses become marks first, so that the rules of marks that meet see them; what
# begins a sentence goes after that, and white space last, since every rule may leave some.
_PUNCTUATION_RULES = [
    # Dashes between clauses; not the hyphen of a compound nor the dash of a range. espeak-ng reads a
    # spaced dash as a semicolon, so that is what voices have heard.
    (re.compile(r"\s*[—―]\s*|\s+(?:--+|–)\s+"), "; "),
    # An ellipsis at the end is a full stop, elsewhere a pause. Possessive: three hundred dots before a word
    # could be shared out in so many ways that trying all of them takes seconds.
    (re.compile(r"\s*+(?:\.{2,}+|…)[\s.…]*+(?=\W*$)"), "."),
    (re.compile(r"\s*+(?:\.{2,}+|…)[\s.…]*+"), ", "),
    (re.compile(r"[!?]*\?[!?]+|!+\?"), "?"),
    (re.compile(r"!{2,}"), "!"),
    # Where two marks meet, the weak one goes: `Yes,...` and `wait, — no`. A dot before a digit is no mark.
    (re.compile(r"[,;:]\s*(?=[,!?;:]|\.(?!\d))"), ""),
    (re.compile(r"^(?:[\s,!?;:]|\.(?!\d))+"), ""),
    (re.compile(r"\s+"), " "),
]


def plain_punctuation(sentence: SourceText) -> SourceText:
    """Write the punctuation of a sentence in ASCII: wide marks, quotes, dashes and ellipses.

    Examples
    --------
    >>> plain_punctuation(SourceText("“Well… I — that is, we — said：no！？”")).text
    '"Well, I; that is, we; said: no?"'
    """
    if is_plain(sentence.text):
        return sentence
    sentence = sentence.sub(_AFTER_WIDE, " ").sub(_FOREIGN_MARK, lambda match: _PLAIN[match[0]])
    for pattern, replacement in _PUNCTUATION_RULES:
        sentence = sentence.sub(pattern, replacement)
    return sentence.strip()
