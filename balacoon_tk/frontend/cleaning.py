"""Makes any text plain enough for a backend, and its punctuation what a voice trained on espeak-ng knows.

A whole text is cleaned character by character (no control characters, no emoji, one kind of space) before it
is split into sentences; punctuation is made plain in a sentence, whose beginning and end the rules must see.
Nothing here knows a language. Numbers, dates and money are the backend's business.
"""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import re
import unicodedata

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
# Joiners shape words of the scripts from Hebrew to Mongolian; anywhere else they are debris.
_STRAY_JOINER = re.compile(rf"(?<![\u0590-\u1aff])[{_JOINERS}]+|[{_JOINERS}]+(?![\u0590-\u1aff])")
_SPACES = re.compile(r" {2,}")
_LINE_ENDS = re.compile(r" *\n *")
_SPACE_BEFORE_MARK = re.compile(r"(?<=[^\s.,!?;:…]) +(?=[.,!?;:…]+(?:\s|$))")
_SPEECH = re.compile(r"[^\W_]")

# What no rule changes, neither here nor of punctuation, and looking at it once is faster than looking for
# each rule's work: words of ASCII with single spaces between, each with one mark at most.
_PLAIN_WORDS = re.compile(
    r"""
    (?: ["'(]*+ [A-Za-z0-9]++ (?:['-][A-Za-z0-9]++)*+ ["')]*+ (?: [.,!?;:] ["')]*+ )?+ (?:[ ](?!$)|$) )*+
    """,
    re.VERBOSE,
)


def clean_text(text: str) -> str:
    r"""Clean a text character by character; what is said stays the same.

    Line breaks of any kind become ``\n`` (page and paragraph breaks two), other white space one
    space, emoji and pictures a space. Control, format, private and unassigned characters vanish, as do
    halves of surrogate pairs. Letters in disguise (full width, ligatures, mathematical alphabets)
    become letters. A space before closing punctuation goes. The result is composed (NFC).

    Examples
    --------
    >>> clean_text("Hi\u00a0there \U0001f600 !\x07")
    'Hi there!'
    """
    # In this order: line breaks of two characters first, which one by one would be two; then characters; then
    # NFC, for what was taken apart by a sign that is gone now; joiners, whose neighbours stand beside them
    # only by then; and spaces last, since all the rest may leave some.
    if is_plain(text):
        return text
    if _NOT_ASCII.search(text):
        text = text.replace("\r\n", "\n").translate(_REPLACEMENTS)
        text = _STRAY_JOINER.sub("", unicodedata.normalize("NFC", text))
    text = _LINE_ENDS.sub("\n", _SPACES.sub(" ", text))
    return _SPACE_BEFORE_MARK.sub("", text)


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
_PLAIN = str.maketrans(
    WIDE_FINAL_MARKS + _WIDE_INNER_MARKS + "“”„‟«»「」『』‘’‛ʼ（）",
    "........" + "!!" + "??????" + ",,,,;;:" + '""""""""""' + "''''" + "()",
)
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


def plain_punctuation(sentence: str) -> str:
    """Write the punctuation of a sentence in ASCII: wide marks, quotes, dashes and ellipses.

    Examples
    --------
    >>> plain_punctuation("“Well… I — that is, we — said：no！？”")
    '"Well, I; that is, we; said: no?"'
    """
    return sentence if is_plain(sentence) else _apply_punctuation_rules(sentence)


def _apply_punctuation_rules(sentence: str) -> str:
    sentence = _AFTER_WIDE.sub(" ", sentence).translate(_PLAIN)
    for pattern, replacement in _PUNCTUATION_RULES:
        sentence = pattern.sub(replacement, sentence)
    return sentence.strip()
