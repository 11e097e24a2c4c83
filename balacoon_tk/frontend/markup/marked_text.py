"""Reads the markup of a text: the one that was asked for, or that the text shows by its beginning."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from types import MappingProxyType
from typing import Literal, TypeAlias, cast, get_args

from balacoon_tk.errors import ParameterError
from balacoon_tk.frontend.markup.inline import InlineMarkup
from balacoon_tk.frontend.markup.markdown import Markdown
from balacoon_tk.frontend.markup.ssml import Ssml, begins_ssml
from balacoon_tk.frontend.naming import without_warnings
from balacoon_tk.frontend.reading.source_text import SourceText
from balacoon_tk.frontend.reading.transducers import Item, Transducer

Markup: TypeAlias = Literal["plain", "markdown", "ssml"]
"""What stands in a text beside what is said: nothing, Markdown's marks, or SSML's elements. None in its place
stands for Markdown's inline marks, or SSML where a text begins with ``<speak``."""


def choose_markup(markup: object) -> Markup | None:
    """Return the markup that was asked for; None leaves it to the text."""
    if markup is not None and markup not in get_args(Markup):
        raise ParameterError(f"markup={markup!r} must be None or one of {', '.join(get_args(Markup))}")
    return cast("Markup | None", markup)


def check_marked(text: str, markup: Markup | None) -> None:
    """Refuse a whole text whose markup can't be read, before anything of it is said."""
    if markup == "ssml" or (markup is None and begins_ssml(text)):
        marked = MarkedText(markup)
        with without_warnings():
            for _ in chain(marked.feed(SourceText(text)), marked.finish()):
                pass


_BLANK = re.compile(r"^[\s\ufeff]*")


class MarkedText:
    """The first step of reading: gives what is said, and controls where the markup has some.

    `FLUSH` within an SSML document ends no more than a sentence. Behind its end another text may begin.
    """

    def __init__(self, markup: Markup | None = None) -> None:
        self._markup = markup
        self._step: Transducer | None = None
        self._held = SourceText("")  # while it isn't known what it is
        self._n_lines = 0  # of white space before it

    def feed(self, text: SourceText) -> Iterator[Item]:
        """Take more of the text."""
        if self._step is None:
            text, self._held = self._held + text, SourceText("")
            if self._markup in (None, "ssml"):
                # White space says nothing, may go on for ever, and can't stand before an XML declaration.
                n_blank = len(text) - len(_BLANK.sub("", text.text, count=1))
                self._n_lines += text.text.count("\n", 0, n_blank)
                text = text[n_blank:]
            if (step := self._choose(text.text)) is None:
                self._held = text
                return
            self._step = step
        yield from self._step.feed(text)

    def flush(self) -> Iterator[Item]:
        """Give what is held back."""
        if isinstance(self._step, Ssml) and not self._step.is_over:
            return
        yield from self.finish()

    def finish(self) -> Iterator[Item]:
        """Give the rest; what is fed next may have another markup."""
        step, held = self._step, self._held
        self._step, self._held, self._n_lines = None, SourceText(""), 0
        if step is None:
            if not held.text:
                return
            step = _STEPS.get(self._markup, _AsItIs)()
            yield from step.feed(held)
        yield from step.finish()

    def _choose(self, text: str) -> Transducer | None:
        """Return what reads a text that begins so; None while more of it has to be seen."""
        is_ssml = begins_ssml(text) if self._markup is None else self._markup == "ssml"
        if is_ssml is None or (is_ssml and not text):
            return None
        return Ssml(self._n_lines + 1) if is_ssml else _STEPS.get(self._markup, _AsItIs)()


class _AsItIs:
    """Nothing is markup."""

    def feed(self, text: SourceText) -> Iterable[Item]:
        return (text,)

    def finish(self) -> Iterable[Item]:
        return ()


_STEPS: Mapping[Markup | None, Callable[[], Transducer]] = MappingProxyType(
    {None: InlineMarkup, "markdown": Markdown}
)
