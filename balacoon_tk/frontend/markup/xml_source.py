"""XML read as it comes, each tag and text with its place in the caller's text.

expat (https://libexpat.github.io) reads; it takes pieces of any size, and tells at which byte of them it is.
There is no document type and no entity but the five of XML, so that nothing here grows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, NoReturn, TypeAlias
from xml.parsers import expat

from balacoon_tk.errors import ParameterError
from balacoon_tk.frontend.reading.source_text import SourceText

MAX_TAG = 16_384
"""Most characters of a tag or a comment: what isn't complete is kept, and read again with each piece."""
_BLOCK = 2048  # characters that are read before what was found in them is given
_TAG = re.compile(r"<(?:[^\"'>]|\"[^\"]*\"|'[^']*')*>")
_TEXT_OUTSIDE = re.compile("[ \t\r\n]*([^< \t\r\n])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CDATA, _CDATA_END = len("<![CDATA["), len("]]>")


class Start(NamedTuple):
    """An element begins."""

    name: str
    attributes: Mapping[str, str]
    tag: SourceText
    where: str
    """Its line and column, for a message."""


class End(NamedTuple):
    """An element ends."""

    name: str
    tag: SourceText
    """Without characters where the element is empty, as ``<break/>``."""


Event: TypeAlias = Start | End | SourceText


class XmlSource:
    """Reads one document; `line` is the number of its first line.

    Raises
    ------
    ParameterError
        Where it isn't well formed, by line and column.
    """

    def __init__(self, line: int = 1) -> None:
        self._parser = parser = expat.ParserCreate()
        # What is complete is spoken now, and not when more has come (expat 2.6 and later put it off).
        if hasattr(parser, "SetReparseDeferralEnabled"):
            parser.SetReparseDeferralEnabled(False)
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartCdataSectionHandler = self._begin_literal
        parser.EndCdataSectionHandler = self._end_literal
        parser.DefaultHandlerExpand = self._pass_over
        # From the first character that expat hasn't come past: the text, and its bytes, which expat counts.
        self._text, self._data, self._n_data_before = SourceText(""), b"", 0
        self._here = self._here_byte = 0  # where the last event began in them
        self._done = 0
        self._line, self._column = line, 1
        self._is_literal = False
        self._depth = 0
        self._events: list[Event] = []
        self.is_over = False

    def feed(self, text: SourceText) -> Iterator[Event]:
        """Take more of the document, and give what is complete."""
        for start in range(0, len(text), _BLOCK):
            error = self._take(text[start : start + _BLOCK])
            events, self._events = self._events, []
            # What came before a fault is there, however the text was cut.
            yield from events
            if error is not None:
                raise error

    def finish(self) -> None:
        """End the document."""
        if self._depth:
            self._refuse("the document ends where an element is still open", len(self._text))
        self._parse("", last=True)

    def refusal(self, where: str, rule: str) -> ParameterError:
        """Return the error of what is at a place that an event had."""
        return ParameterError(f"SSML, {where}: {rule}")

    def _take(self, text: SourceText) -> ParameterError | None:
        """Read more into events, and return the error that ends them."""
        try:
            if surrogate := _SURROGATE.search(text.text):
                self._read(text[: surrogate.start()])
                self._refuse("half of a surrogate pair", len(self._text))
            self._read(text)
        except ParameterError as error:
            return error
        return None

    def _read(self, text: SourceText) -> None:
        self._text += text
        self._data += text.text.encode()
        self._parse(text.text, last=False)
        self._forget()
        # What is never complete comes to no event.
        self._check_length(len(self._text))

    def _parse(self, text: str, *, last: bool) -> None:
        try:
            self._parser.Parse(text, last)
        except expat.ExpatError as error:
            place = self._come_to(self._parser.ErrorByteIndex)
            # Outside of all elements expat says where a token begins, or where it is wrong if that is there.
            outside = _TEXT_OUTSIDE.match(self._text.text, self._done)
            if not self._depth and outside:
                self._refuse("not well formed: text outside of the document's element", outside.start(1))
            # Of text before a `]]>` expat says nothing, but for what came in a piece of its own. What stands
            # behind the document is none of its text.
            before = self._text[self._done : place]
            if self._depth and before.text and not any(sign in before.text for sign in "<&\r"):
                self._events.append(before)
            self._refuse(f"not well formed: {expat.ErrorString(error.code)}", place)

    def _forget(self) -> None:
        """Drop what expat has come past."""
        passed = self._text.text[: self._done]
        n_bytes = len(passed.encode())
        self._text, self._data = self._text[self._done :], self._data[n_bytes:]
        self._n_data_before += n_bytes
        self._line, self._column = self._line_and_column(passed)
        self._here = self._here_byte = self._done = 0

    def _come_to(self, byte: int) -> int:
        """Return the place of a byte of the document, which isn't before the last one asked for."""
        byte -= self._n_data_before
        self._here += len(self._data[self._here_byte : byte].decode(errors="replace"))
        self._here_byte = byte
        return self._here

    def _place(self) -> int:
        """Return the place of the event that expat is at."""
        return self._come_to(self._parser.CurrentByteIndex)

    def _come_past(self, place: int) -> None:
        self._check_length(place)
        self._done = place

    def _pass_over(self, data: str) -> None:
        place = self._place() + len(data)
        if data.isspace():
            self._done = place
        self._come_past(place)

    def _check_length(self, place: int) -> None:
        if place - self._done > MAX_TAG:
            self._refuse(f"a tag or comment of more than MAX_TAG={MAX_TAG} characters", self._done)

    def _tag(self) -> SourceText:
        place = self._place()
        tag = _TAG.match(self._text.text, place) if self._text.text[place : place + 1] == "<" else None
        stop = tag.end() if tag else place
        self._come_past(stop)
        return self._text[place:stop]

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        where = self._where(self._place())
        self._events.append(Start(name, attributes, self._tag(), where))

    def _end(self, name: str) -> None:
        self._depth -= 1
        # Of `<break/>` expat says the end where the tag has ended.
        self._events.append(End(name, self._tag()))
        self.is_over = not self._depth

    def _characters(self, data: str) -> None:
        place, text = self._place(), self._text.text
        if self._is_literal or text[place] not in "&\r":
            stop = place + len(data)
        elif text[place] == "&":
            stop = text.index(";", place) + 1
        else:
            stop = place + 1 + text.startswith("\r\n", place)
        piece = self._text[place:stop]
        self._done = stop
        self._events.append(piece if piece.text == data else piece.replace([(0, len(piece), data)]))

    def _begin_literal(self) -> None:
        self._come_past(self._place() + _CDATA)
        self._is_literal = True

    def _end_literal(self) -> None:
        self._come_past(self._place() + _CDATA_END)
        self._is_literal = False

    def _doctype(self, *_: object) -> None:
        # expat is at its end by now.
        self._refuse("a document type is not read", self._text.text.rfind("<!", 0, self._place() + 1))

    def _refuse(self, rule: str, place: int) -> NoReturn:
        raise self.refusal(self._where(place), rule)

    def _where(self, place: int) -> str:
        line, column = self._line_and_column(self._text.text[:place])
        return f"line {line}, column {column}"

    def _line_and_column(self, passed: str) -> tuple[int, int]:
        n_lines = passed.count("\n")
        if not n_lines:
            return self._line, self._column + len(passed)
        return self._line + n_lines, len(passed) - passed.rindex("\n")
