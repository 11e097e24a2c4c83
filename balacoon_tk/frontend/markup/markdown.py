r"""Drops the marks of Markdown that stand on lines of their own, beside the inline ones.

Of headings, rules, lists and lists of tasks the marks go. Each row of a table is a sentence and each cell of
it a clause; a row is a line that begins with ``|``. Of a block of code the fences go, and its lines are said
as they stand: to leave code out is the caller's to decide. Tags of HTML go, its characters (``&amp;``) become
what they stand for, footnotes lose their labels, and definitions of links go.
"""

from __future__ import annotations

import html
import re

from balacoon_tk.frontend.markup.inline import MAX_HELD, InlineMarkup, Step

_LEAD = r"[ \t>]{0,32}"
# A line waits while it may still become one of those below.
_BEGUN = re.compile(
    rf"{_LEAD}(?:[-*_=|:+ \t\r]{{0,{MAX_HELD}}}|\#{{1,6}}[ \t]*|`{{1,3}}|~{{1,3}}|[-*+][ \t]+\[[ xX]?\]?"
    rf"|\[[^\]\n]{{0,{MAX_HELD}}}\]?:?[ \t]*)"
)
_FENCE = re.compile(rf"{_LEAD}(```|~~~)")
_RULE = re.compile(rf"{_LEAD}(?=[^\n]*[-*_=]{{2}}|[-*_] [-*_] [-*_])[-*_=|:+ \t\r]{{2,{MAX_HELD}}}(?=\n|\Z)")
_HEADING = re.compile(rf"{_LEAD}#{{1,6}}[ \t]+")
_TASK = re.compile(rf"{_LEAD}[-*+][ \t]+(\[[ xX]\])(?=[ \t])")
_PLUS = re.compile(rf"{_LEAD}(\+)(?=[ \t])")
_ROW = re.compile(rf"{_LEAD}\|[ \t]*")
_DEFINITION = re.compile(rf"{_LEAD}\[(\^?)[^\]\n]{{1,{MAX_HELD}}}\]:[ \t]+")

_CELL_END = re.compile(rf"\|[ \t\r]{{0,{MAX_HELD}}}")
_NAME = r"[A-Za-z][A-Za-z0-9]{0,15}"
_ATTRIBUTES = rf"[\s/][^<>]{{0,{MAX_HELD}}}"
_TAG = re.compile(rf"<(?:/?({_NAME})(?:{_ATTRIBUTES})?|!--[^<>]{{0,{MAX_HELD}}}--)>")
_TAG_BEGUN = re.compile(rf"<(?:/?(?:{_NAME}(?:{_ATTRIBUTES})?)?|!-?|!--[^<>]{{0,{MAX_HELD + 2}}})")
_BREAKS = frozenset(("br", "p", "div", "li", "tr", "hr", "pre", "h1", "h2", "h3", "h4", "h5", "h6"))
_CELLS = frozenset(("td", "th"))
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_ENTITY_BEGUN = re.compile(r"&#?[A-Za-z0-9]{0,31}")


class Markdown(InlineMarkup):
    r"""Drops the marks of Markdown from a text that comes in pieces.

    Examples
    --------
    >>> from balacoon_tk.frontend import SourceText
    >>> [part.text for part in Markdown().feed(SourceText("# One\n- *two*\n| a | b |\n|---|---|\n"))]
    ['One\n\n- two\na , b \n\n\n\n']
    """

    _special = re.compile(r"[*_~`\\\[\]!<\n|&]")

    def _begin(self) -> None:
        super()._begin()
        self._is_line_start = True
        self._fence = ""
        self._is_dropped = self._is_row = self._is_apart = False

    def _end_line(self) -> None:
        super()._end_line()
        self._is_line_start = True
        self._is_dropped = self._is_row = self._is_apart = False

    def _next(self, string: str, place: int, *, final: bool) -> Step | None:
        if self._in_raw:
            return super()._next(string, place, final=final)
        if self._is_line_start:
            if not final and _BEGUN.fullmatch(string, place):
                return None
            self._is_line_start = False
            return self._begin_line(string, place)
        end = string.find("\n", place)
        if end == place:
            # What isn't wrapped text must not look so to the splitter.
            return place + 1, ((place, place, "\n"),) if self._is_apart else ()
        end = len(string) if end < 0 else end
        if self._is_dropped:
            return end, ((place, end, ""),)
        return (end, ()) if self._fence else super()._next(string, place, final=final)

    def _begin_line(self, string: str, place: int) -> Step:
        """Drop what a line begins with."""
        if found := _FENCE.match(string, place):
            if not self._fence or self._fence == found[1]:
                self._fence = "" if self._fence else found[1]
                self._is_dropped = self._is_apart = True
            return place, ()
        if self._fence:
            return place, ()
        if found := _RULE.match(string, place):
            self._is_apart = True
            return found.end(), ((place, found.end(), ""),)
        if found := _HEADING.match(string, place) or _ROW.match(string, place):
            self._is_apart = True
            self._is_row = "|" in found[0]
            return found.end(), ((place, found.end(), ""),)
        if found := _DEFINITION.match(string, place):
            self._is_dropped = not found[1]
            return found.end(), ((place, found.end(), ""),)
        if found := _TASK.match(string, place):
            return found.end(), ((*found.span(1), ""),)
        if found := _PLUS.match(string, place):
            return found.end(), ((*found.span(1), "-"),)
        return place, ()

    def _decide(self, string: str, place: int, *, final: bool) -> Step | None:
        if string[place] == "|" and self._is_row:
            found = _CELL_END.match(string, place)
            assert found is not None
            end = found.end()
            if end == len(string) and not final and end - place <= MAX_HELD:
                return None
            is_last = string[end : end + 1] in ("", "\n")
            return end, ((place, end, "" if is_last else ", "),)
        if string[place] == "&":
            if found := _ENTITY.match(string, place):
                return found.end(), ((*found.span(), html.unescape(found[0])),)
            return None if not final and _ENTITY_BEGUN.fullmatch(string, place) else (place + 1, ())
        if string[place] == "|":
            return place + 1, ()
        return super()._decide(string, place, final=final)

    def _angle(self, string: str, place: int, *, final: bool) -> Step | None:
        if found := _TAG.match(string, place):
            name = (found[1] or "").lower()
            instead = "\n\n" if name in _BREAKS else ", " if name in _CELLS else ""
            return found.end(), ((*found.span(), instead),)
        if not final and _TAG_BEGUN.fullmatch(string, place):
            return None
        return super()._angle(string, place, final=final)
