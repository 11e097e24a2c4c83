r"""Drops the inline marks of Markdown from a text that comes in pieces, and leaves what is said.

Language models write these marks everywhere, so they are dropped by default:

1. ``**strong**``, ``__strong__``, ``~~struck~~`` at the edges of words; ``*emphasis*`` and ``_emphasis_``
   too, where what closes has one of its kind open in the paragraph. So ``5 * 3``, ``a*b``, ``2**3`` and
   ``snake_case`` stay;
2. code between backticks, in which nothing is a mark;
3. ``[text](address)`` and ``![text](address)``, of which the text is said; ``<https://...>``; footnotes
   (``[^1]``), of which nothing is. ``[word]`` alone stays;
4. ``\*``, a mark that is meant as such.

What is dropped is decided only by what no later text can change, so that any pieces of a text give what the
whole gives. A link or code that is open is held back until it closes, at an empty line, or after `MAX_HELD`
characters, when it was none. Emphasis is not: its marks go as they come, and so does one that never closes.
Raw phonemes in ``[[ ]]`` pass as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

from balacoon_tk.frontend.reading.source_text import SourceText

MAX_HELD = 300
"""Characters that the text of a link, or code, may have: they wait until it ends."""
MAX_ADDRESS = 2000
"""Characters that an address may have; nobody waits to hear one."""

Edit: TypeAlias = tuple[int, int, str]
Step: TypeAlias = tuple[int, tuple[Edit, ...]]
"""Up to where a text is decided, and what changes in it; None in its place where more must be known."""

_RUN = re.compile(r"(.)\1*")
_LONGEST_RUN = 3
_ESCAPABLE = frozenset("*_~`[]()<>!#|\\")
_MARKS = {
    **{mark: frozenset([mark]) for mark in ("*", "**", "_", "__", "~~")},
    "***": frozenset(["*", "**"]),
    "___": frozenset(["_", "__"]),
}
_AFTER_WORD = frozenset(",.;:!?)]}\"'\u201d\u2019")
_NEVER_FIRST = frozenset(",.;:!?)]}=|&^%/+")
_FIRST_IDEOGRAPH = "\u2e80"  # from here on words have no spaces between, and none before marks

_EMPTY_LINE = re.compile(r"\n[ \t\r]*\n")
_FOOTNOTE = re.compile(r"\[\^[^\]\s]{1,40}\]")
_FOOTNOTE_BEGUN = re.compile(r"\[\^[^\]\s]{0,40}")
_AUTOLINK = re.compile(r"<(?:[A-Za-z][\w+.-]{1,31}:[^<>\s]{1,1900}|[^<>\s@]{1,64}@[^<>\s@]{1,255})>")
_AUTOLINK_BEGUN = re.compile(r"<[^<>\s]{0,1940}")
_TEXT_END = re.compile(r"[\[\]]|\n[ \t\r]*(?:\n|\Z)")
# Without spaces but before a title, and with one pair of brackets inside at most.
_TARGET = r"(?:<[^<>\n]*+>|[^\s()<>]*+(?>(?:\([^\s()]*+\)[^\s()]*+)*))"
_LINK_ADDRESS = re.compile(rf"""\([ \t]*+{_TARGET}(?:[ \t]++(?:"[^"\n]*+"|'[^'\n]*+'))?[ \t]*+\)""")
_LINK_ADDRESS_BEGUN = re.compile(
    rf"""\([ \t]*+(?:<[^<>\n]*+|{_TARGET}(?:\([^\s()]*+|[ \t]++(?:"[^"\n]*+"?|'[^'\n]*+'?)?[ \t]*+)?)"""
)


def _is_word(character: str) -> bool:
    return (character.isalnum() or character == "_") and character < _FIRST_IDEOGRAPH


def _may_open(run: str, before: str, after: str) -> bool:
    """Say whether emphasis may begin between two characters."""
    if after == "" or after.isspace() or after in _NEVER_FIRST or _is_word(before) or before in ")]":
        return False
    # A star before a digit is a product's.
    return len(run) > 1 or not after.isdigit()


def _ends_word(after: str) -> bool:
    return after == "" or after.isspace() or after in _AFTER_WORD


class InlineMarkup:
    """Drops inline marks from a text that comes in pieces.

    Examples
    --------
    >>> markup = InlineMarkup()
    >>> pieces = [SourceText("See **the [do"), SourceText("cs](x.y)**", 13)]
    >>> "".join(part.text for piece in pieces for part in markup.feed(piece))
    'See the docs'
    """

    _special = re.compile(r"[*_~`\\\[\]!<\n]")

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._held = SourceText("")
        self._previous = "\n"
        self._open: set[str] = set()
        self._is_line_empty = True
        self._in_raw = False
        # Where the text of a link ends, and its address: found at its beginning, gone when they are reached.
        self._link_ends: dict[int, int] = {}

    def feed(self, text: SourceText) -> Iterator[SourceText]:
        """Take more of the text, and give what no later text can change."""
        if decided := self._advance(self._held + text, final=False):
            yield decided

    def finish(self) -> Iterator[SourceText]:
        """Give the rest: the text ends here, and what is fed next begins another one."""
        rest = self._advance(self._held, final=True)
        self._begin()
        if rest:
            yield rest

    def _advance(self, text: SourceText, *, final: bool) -> SourceText:
        string, place, edits = text.text, 0, list[Edit]()
        while place < len(string):
            is_raw, step = self._in_raw, self._next(string, place, final=final)
            if step is None:
                break
            end, changes = step
            if end > place and not string[place:end].isspace():
                self._is_line_empty = False
            if string[place:end] == "\n" and not is_raw:
                self._end_line()
            place = end
            edits += changes
        self._previous = string[place - 1 : place] or self._previous
        self._held = text[place:]
        self._link_ends = {
            first - place: last - place for first, last in self._link_ends.items() if first >= place
        }
        return text[:place].replace(edits)

    def _end_line(self) -> None:
        if self._is_line_empty:
            self._open.clear()
        self._is_line_empty = True

    def _next(self, string: str, place: int, *, final: bool) -> Step | None:
        """Decide about the text from `place` on, as far as one rule goes."""
        if self._in_raw:
            return self._raw(string, place, final=final)
        found = self._special.search(string, place)
        start = found.start() if found else len(string)
        return (start, ()) if start > place else self._decide(string, place, final=final)

    def _decide(self, string: str, place: int, *, final: bool) -> Step | None:
        """Decide about the special character at `place`."""
        character = string[place]
        is_last = place + 1 == len(string)
        if character == "\n":
            return place + 1, ()
        if character == "]":
            end = self._link_ends.pop(place, None)
            return (place + 1, ()) if end is None else (end, ((place, end, ""),))
        if character in "*_~":
            return self._emphasis(string, place, final=final)
        if is_last and not final:
            return None
        if character == "\\":
            escapes = not is_last and string[place + 1] in _ESCAPABLE
            return (place + 2, ((place, place + 1, ""),)) if escapes else (place + 1, ())
        if character == "`":
            return self._code(string, place, final=final)
        if character == "<":
            return self._angle(string, place, final=final)
        return self._bracket(string, place, final=final)

    def _raw(self, string: str, place: int, *, final: bool) -> Step | None:
        end = string.find("]]", place)
        if end >= 0:
            self._in_raw = False
            return end + 2, ()
        end = len(string) - (string.endswith("]") and not final)
        return (end, ()) if end > place else None

    def _emphasis(self, string: str, place: int, *, final: bool) -> Step | None:
        run, end = _run(string, place)
        if end == len(string) and not final and len(run) <= _LONGEST_RUN:
            return None
        before, after = string[place - 1] if place else self._previous, string[end : end + 1]
        marks = _MARKS.get(run)
        if marks is None or before == run[0]:  # too many, or the rest of them
            return end, ()
        is_open = marks <= self._open
        # Strong ones may close between words, as in `**bold**ly`.
        ends = not _is_word(after) if len(run) == 1 or run[0] == "_" else True
        if is_open and ends and (len(run) > 1 or not before.isspace()):
            self._open -= marks
        elif _may_open(run, before, after):
            self._open |= marks
        elif len(run) == 1 or before.isspace() or not _ends_word(after):
            return end, ()  # at the end of a word a strong one goes where nothing is open as well
        return end, ((place, end, ""),)

    def _code(self, string: str, place: int, *, final: bool) -> Step | None:
        run, start = _run(string, place)
        if start == len(string) and not final and len(run) < _LONGEST_RUN:
            return None
        if len(run) >= _LONGEST_RUN or (string[place - 1] if place else self._previous) == "`":
            return start, ((place, start, ""),)  # a fence, or the rest of one
        found = re.compile(rf"(?<!`){run}(?!`)").search(string, start)
        empty_line = _EMPTY_LINE.search(string, start)
        end = found.start() if found else len(string)
        if end > start + MAX_HELD or (empty_line and empty_line.start() < end):
            return start, ()
        if (found is None or found.end() == len(string)) and not final:
            return None
        return (found.end(), ((place, start, ""), (*found.span(), ""))) if found else (start, ())

    def _angle(self, string: str, place: int, *, final: bool) -> Step | None:
        if found := _AUTOLINK.match(string, place):
            end = found.end()
            return end, ((place, place + 1, ""), (end - 1, end, ""))
        return None if not final and _AUTOLINK_BEGUN.fullmatch(string, place) else (place + 1, ())

    def _bracket(self, string: str, place: int, *, final: bool) -> Step | None:
        """Decide about ``[``, or ``!`` which may begin an image."""
        start = string.find("[", place, place + 2)
        following = string[start + 1 : start + 2]
        if start < 0:
            return place + 1, ()
        if start == place and following == "[":
            self._in_raw = True
            return place + 2, ()
        if following == "^":
            if found := _FOOTNOTE.match(string, start):
                return found.end(), ((start, found.end(), ""),)
            begun = not final and _FOOTNOTE_BEGUN.fullmatch(string, start)
            return None if begun else (place + 1, ())
        link = _find_link(string, start, final=final)
        if link is None:
            return None
        text_end, end = link
        if end < 0:
            return place + 1, ()
        self._link_ends[text_end] = end
        return start + 1, ((place, start + 1, ""),)


def _run(string: str, place: int) -> tuple[str, int]:
    run = _RUN.match(string, place)
    assert run is not None
    return run[0], run.end()


_NO_LINK = (-1, -1)


def _find_link(string: str, start: int, *, final: bool) -> tuple[int, int] | None:
    """Give where the text of a link ends that opens at `start`, and its address, or that none does."""
    unknown = _NO_LINK if final else None
    place, last, in_image = start + 1, start + MAX_HELD, False
    while True:
        found = _TEXT_END.search(string, place)
        end = found.start() if found else len(string)
        if end > last:
            return _NO_LINK
        if found is None or found[0].count("\n") == 1:  # the line below may be empty
            return unknown
        if found[0] == "[" and not in_image and string[end - 1] == "!":
            in_image, place = True, end + 1
        elif found[0] != "]":
            return _NO_LINK
        else:
            if end + 1 == len(string):
                return unknown
            address = _LINK_ADDRESS.match(string, end + 1, end + 1 + MAX_ADDRESS)
            if address is None:
                begun = _LINK_ADDRESS_BEGUN.fullmatch(string, end + 1)
                return unknown if begun and len(string) - end <= MAX_ADDRESS else _NO_LINK
            if not in_image:
                return end, address.end()
            # An image in the text of a link, as in badges.
            in_image, place, last = False, address.end(), last + address.end() - end
