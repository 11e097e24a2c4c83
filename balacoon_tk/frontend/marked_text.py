"""Reads the markup of a text: the one that was asked for, or that the text shows by its beginning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias, get_args

from balacoon_tk.errors import ParameterError
from balacoon_tk.frontend.naming import without_warnings
from balacoon_tk.frontend.source_text import SourceText
from balacoon_tk.frontend.ssml import Ssml, begins_ssml
from balacoon_tk.frontend.transducers import Item, Transducer

Markup: TypeAlias = Literal["plain", "markdown", "ssml"]
"""What stands in a text beside what is said: nothing, Markdown's marks, or SSML's elements."""


def choose_markup(markup: object) -> Markup | None:
    """Return the markup that was asked for; None leaves it to the text."""
    for known in get_args(Markup):
        if markup == known:
            return known  # type: ignore[no-any-return]
    if markup is not None:
        raise ParameterError(f"markup={markup!r} must be None or one of {', '.join(get_args(Markup))}")
    return None


def check_marked(text: str, markup: Markup | None) -> None:
    """Refuse a whole text whose markup can't be read, before anything of it is said."""
    if markup == "ssml" or (markup is None and begins_ssml(text)):
        ssml = Ssml()
        with without_warnings():
            for _ in (*ssml.feed(SourceText(text)), *ssml.finish()):
                pass


class MarkedText:
    """The first step of reading: gives what is said, and controls where the markup has some.

    `FLUSH` within an SSML document ends no more than a sentence. Behind its end another text may begin.
    """

    def __init__(self, markup: Markup | None = None) -> None:
        self._markup = markup
        self._step: Transducer | None = None
        self._held = SourceText("")  # while it isn't known what it is

    def feed(self, text: SourceText) -> Iterator[Item]:
        """Take more of the text."""
        if self._step is None:
            text = self._held + text
            is_ssml = self._markup == "ssml" or (begins_ssml(text.text) if self._markup is None else False)
            if is_ssml is None:
                # White space says nothing, and may go on for ever.
                self._held = text[len(text) - len(text.text.lstrip()) :]
                return
            self._held = SourceText("")
            self._step = Ssml() if is_ssml else _AsItIs()
        yield from self._step.feed(text)

    def flush(self) -> Iterator[Item]:
        """Give what is held back."""
        if isinstance(self._step, Ssml) and not self._step.is_over:
            return
        yield from self.finish()

    def finish(self) -> Iterator[Item]:
        """Give the rest; what is fed next may have another markup."""
        step, held = _AsItIs() if self._step is None else self._step, self._held
        self._step, self._held = None, SourceText("")
        if held.text:
            yield from step.feed(held)
        yield from step.finish()


class _AsItIs:
    """Nothing is markup."""

    def feed(self, text: SourceText) -> Iterable[Item]:
        return (text,)

    def finish(self) -> Iterable[Item]:
        return ()
