"""A small subset of SSML 1.1 (W3C, 2010), read as it comes: its text, and controls between stretches of it.

==============  ==========================================================================
``speak``       around all of it
``p``, ``s``    paragraphs and sentences, which end where they end
``break``       silence: ``time="300ms"`` or ``"1.5s"``, or one of `STRENGTHS_S` as ``strength``
``say-as``      ``interpret-as="characters"`` or ``"spell-out"``: character by character
``phoneme``     ``ph``, in the IPA (``alphabet="ipa"``), instead of the text in it
``sub``         ``alias`` instead of the text in it
``prosody``     ``rate``: one of `RATES`, a factor or percent (``"120%"``, ``"+20%"``)
==============  ==========================================================================

Other elements are named in one warning and their text is spoken, but for those of `REFUSED`, without which
something else would be said. The characters are those of the caller's text, tags counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from balacoon_tk.errors import ParameterError
from balacoon_tk.frontend.markup.xml_source import Event, Start, XmlSource
from balacoon_tk.frontend.naming import LeftOutNames
from balacoon_tk.frontend.reading.source_text import SourceText
from balacoon_tk.frontend.reading.transducers import Control, Item

STRENGTHS_S: Mapping[str, float] = {
    "none": 0.0, "x-weak": 0.1, "weak": 0.2, "medium": 0.4, "strong": 0.7, "x-strong": 1.2,
}  # fmt: skip
"""Seconds of silence by the strength of a break; medium is that of a break that says nothing."""
RATES: Mapping[str, float] = {
    "x-slow": 0.5, "slow": 0.75, "medium": 1.0, "default": 1.0, "fast": 1.5, "x-fast": 2.0,
}  # fmt: skip
"""Factors on the speed by their names."""
REFUSED = frozenset(["audio", "desc", "lexicon", "lookup", "media", "meta", "metadata", "par", "seq"])
"""Elements that hold what isn't spoken, or stand for something else than their text."""
MAX_DEPTH = 64
"""Most elements inside one another."""
MAX_BREAK_S = 10.0
_RATES_WITHIN = (0.1, 10.0)

_ATTRIBUTES: Mapping[str, frozenset[str]] = {
    "p": frozenset(),
    "s": frozenset(),
    "break": frozenset(["time", "strength"]),
    "say-as": frozenset(["interpret-as", "format", "detail"]),
    "phoneme": frozenset(["alphabet", "ph"]),
    "sub": frozenset(["alias"]),
    "prosody": frozenset(["rate"]),
}
_BEGINS = re.compile(r"[\s\ufeff]*(?:<\?xml[^>]{0,200}>\s*)?<speak[\s/>]")
_MAY_BEGIN = re.compile(r"[\s\ufeff]*(?:<\?xml[^>]{0,200}(?:>\s*)?)?(<?\??\w{0,5})")
_SPACE = re.compile(r"[^\S ]")  # other than the one it becomes
_NUMBER = r"(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})"
_TIME = re.compile(rf"\+?{_NUMBER}(ms|s)")
_RATE = re.compile(rf"([+-]?){_NUMBER}(%?)")
_MARKS = ".,!?;:…)]\"'»\u201d\u2019"
_BETWEEN = re.compile(r"(?<=\S)\s*(?=\S)")


class SsmlWarning(UserWarning):
    """A text in SSML holds elements or attributes that are passed over."""


def begins_ssml(text: str) -> bool | None:
    """Say by its beginning whether a text is SSML; None while more of it has to be seen."""
    if _BEGINS.match(text):
        return True
    found = _MAY_BEGIN.fullmatch(text)
    return None if found and any(tag.startswith(found[1]) for tag in ("<speak", "<?xml")) else False


@dataclass(slots=True)
class _Element:
    """One that is open."""

    start: Start
    rate: float
    """Factor on the speed in it."""
    inside: list[SourceText] | None = None
    """Its text, where something else is said instead."""


class Ssml:
    """Reads one document into text and controls; `line` is that of the caller's text on which it begins.

    Raises
    ------
    ParameterError
        When it is known that the document isn't well formed, or says what can't be passed over; by line and
        column.
    """

    def __init__(self, line: int = 1) -> None:
        self._source = XmlSource(line)
        self._open: list[_Element] = []
        self._last = " "  # of the characters that were given
        self._held: list[Item] = []  # changes of rate
        self._left_out = LeftOutNames("SSML that is passed over", SsmlWarning)

    @property
    def is_over(self) -> bool:
        """Whether the document has ended."""
        return self._source.is_over

    def feed(self, text: SourceText) -> Iterator[Item]:
        """Take more of the document, and give what no later text can change."""
        for event in self._source.feed(text):
            for item in self._read(event):
                yield from self._in_order(item)

    def finish(self) -> Iterator[Item]:
        """End the document."""
        self._source.finish()
        yield from self._held
        self._held = []

    def _in_order(self, item: Item) -> Iterator[Item]:
        """Put marks before a change of rate that they follow: they end what is spoken there."""
        if isinstance(item, Control):
            if item.rate is None:
                yield from self._held
                self._held = []
                yield item
            else:
                self._held.append(item)
            return
        n_marks = len(item) - len(item.text.lstrip(_MARKS)) if self._held else 0
        if n_marks:
            yield item[:n_marks]
        if n_marks < len(item):
            yield from self._held
            self._held = []
            yield item[n_marks:]

    def _read(self, event: Event) -> Iterator[Item]:
        if isinstance(event, Start):
            yield from self._begin(event)
        elif isinstance(event, SourceText):
            # Lines are the writer's: what ends a sentence is said by elements and marks.
            yield from self._say(event.sub(_SPACE, " "))
        else:
            yield from self._end(self._open.pop(), event.tag)

    def _say(self, text: SourceText) -> Iterator[Item]:
        for element in reversed(self._open):
            if element.inside is not None:
                element.inside.append(text)
                return
        if text.text:
            # Of one that came in pieces white space may be all of the last one.
            self._last = text.text.rstrip()[-1:] or self._last
            yield text

    def _begin(self, start: Start) -> Iterator[Item]:
        name, around = start.name, self._open[-1] if self._open else None
        if around is None and name != "speak":
            raise self._refusal(start, "must be <speak>, which is around all else")
        if name in REFUSED or (name == "speak" and around is not None):
            raise self._refusal(start, "can't be read, nor passed over")
        if len(self._open) == MAX_DEPTH:
            raise self._refusal(start, f"must be within at most MAX_DEPTH={MAX_DEPTH} elements")
        if around is not None and around.start.name in ("break", "phoneme", "say-as", "sub"):
            raise self._refusal(start, f"can't stand within <{around.start.name}>")
        self._name_left_out(start)
        rate = around.rate if around is not None else 1.0
        element = _Element(start, rate)
        if name in ("p", "s"):
            yield Control(ends_paragraph=name == "p")
        elif name == "break":
            yield from self._pause(start)
        elif name == "prosody" and "rate" in start.attributes:
            element.rate = self._rate(start, rate)
            if element.rate != rate:
                yield Control(rate=element.rate, goes_on=True)
        elif self._is_replaced(start):
            element.inside = []
        self._open.append(element)

    def _end(self, element: _Element, tag: SourceText) -> Iterator[Item]:
        start, around = element.start, self._open[-1] if self._open else None
        if start.name in ("p", "s", "speak"):
            yield Control(ends_paragraph=start.name != "s")
        elif around is not None and around.rate != element.rate:
            yield Control(rate=around.rate, goes_on=True)
        elif element.inside is not None:
            inside = SourceText.join(element.inside)
            yield from self._say(_instead(start, inside.strip()))

    def _name_left_out(self, start: Start) -> None:
        known = _ATTRIBUTES.get(start.name)
        if start.name == "speak":  # what it has by the standard says nothing that is heard
            return
        if known is None:
            self._left_out.warn([f"<{start.name}>"], stacklevel=2)
        else:
            names = (name for name in start.attributes if name not in known)
            self._left_out.warn([f"{name} of <{start.name}>" for name in names], stacklevel=2)

    def _is_replaced(self, start: Start) -> bool:
        """Say whether something else is said than what stands in an element, once it is known what."""
        name, attributes = start.name, start.attributes
        needed = {"phoneme": "ph", "sub": "alias", "say-as": "interpret-as"}.get(name)
        if needed is None:
            return False
        if not attributes.get(needed, "").strip():
            raise self._refusal(start, f"must have {needed}")
        if name == "phoneme" and attributes.get("alphabet", "ipa") != "ipa":
            raise self._refusal(start, f"alphabet={attributes['alphabet']!r} must be 'ipa'")
        if name == "phoneme" and any(bracket in attributes["ph"] for bracket in ("[[", "]]")):
            raise self._refusal(start, f"ph={attributes['ph']!r} must have no brackets")
        if name == "say-as" and attributes[needed] not in ("characters", "spell-out"):
            # Numbers and dates are read as such wherever they stand.
            self._left_out.warn([f"{needed}={attributes[needed]!r}"], stacklevel=2)
            return False
        return True

    def _pause(self, start: Start) -> Iterator[Item]:
        seconds = self._break_s(start)
        if seconds:
            # A voice ends a clause where one ends, and breaks off where nothing says so.
            if self._last.isalnum() or self._last == "]":
                yield from self._say(start.tag.replace([(0, len(start.tag), ",")]))
            yield Control(break_s=seconds, goes_on=True)

    def _break_s(self, start: Start) -> float:
        time, strength = start.attributes.get("time"), start.attributes.get("strength", "medium")
        if time is None:
            if strength not in STRENGTHS_S:
                raise self._refusal(start, f"strength={strength!r} must be one of {', '.join(STRENGTHS_S)}")
            return STRENGTHS_S[strength]
        found = _TIME.fullmatch(time.strip())
        seconds = float(found[1]) / (1000 if found[2] == "ms" else 1) if found else None
        if seconds is None or seconds > MAX_BREAK_S:
            rule = f"must be a number and 's' or 'ms', and at most MAX_BREAK_S={MAX_BREAK_S:g} s"
            raise self._refusal(start, f"time={time!r} {rule}")
        return seconds

    def _rate(self, start: Start, around: float) -> float:
        given = start.attributes["rate"].strip()
        factor = RATES.get(given)
        if factor is None and (found := _RATE.fullmatch(given)):
            sign, number, percent = found[1], float(found[2]), found[3]
            change = number / 100 if percent else number
            factor = {"": change, "+": 1 + change, "-": 1 - change}[sign]
        low, high = _RATES_WITHIN
        if factor is None or not low <= around * factor <= high:
            names = ", ".join(RATES)
            rule = f"must be one of {names}, a factor or a percentage, in all within [{low:g}, {high:g}]"
            raise self._refusal(start, f"rate={given!r} {rule}")
        return around * factor

    def _refusal(self, start: Start, rule: str) -> ParameterError:
        return self._source.refusal(start.where, f"<{start.name}> {rule}")


def _instead(start: Start, inside: SourceText) -> SourceText:
    """Return what is said instead of what stands in an element; of an empty one, its tag is the place."""
    place, attributes = inside if inside.text else start.tag, start.attributes
    if start.name == "say-as":
        # Letter by letter, and not A as the article.
        return inside.replace((*match.span(), ", ") for match in _BETWEEN.finditer(inside.text))
    said = attributes["alias"] if start.name == "sub" else f"[[{attributes['ph'].strip()}]]"
    return place.replace([(0, len(place), said)])
