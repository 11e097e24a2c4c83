"""Makes any text plain enough for a backend: no control characters, no emoji, one kind of space.

Nothing here knows a language. Numbers, dates and money are the backend's business.
"""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import re
import unicodedata

_LINE_BREAKS = dict.fromkeys("\n\r\v\x85\u2028", "\n") | dict.fromkeys("\f\u2029", "\n\n")
_JOINERS = "\u200c\u200d"
_KEYCAP = "\u20e3"
_FILLERS = "\u115f\u1160\u3164\uffa0"  # invisible, though letters by category

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
    """Say what one character becomes."""
    category, codepoint = unicodedata.category(character), ord(character)
    if character in _LINE_BREAKS:
        return _LINE_BREAKS[character]
    if category == "Zs" or character == "\t":
        return " "
    if character in _JOINERS:
        return character
    if category[0] == "C" or character == _KEYCAP or character in _FILLERS:
        return ""
    if "VARIATION SELECTOR" in unicodedata.name(character, ""):
        return ""
    if (category == "So" and codepoint in _PICTURES) or (category[0] == "S" and codepoint >= _EMOJI_START):
        return " "
    if character == "\ufffd":  # what a decoder put where it couldn't read
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
