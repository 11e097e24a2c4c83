"""A text on its way to sentences: steps that are fed pieces, and decide by what no later text can change.

::

    pieces ─▶ MarkedText ─▶ RawPhonemes ─▶ Cleaner ─▶ Lines ─▶ Sentences ─▶ sentences

Each step takes items, stretches of text and controls between them, and gives items. However a text is cut
into pieces, what comes out of the last step is the same; a whole text goes the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, TypeAlias

from balacoon_tk.frontend.reading.source_text import SourceText


class Flush(Enum):
    """The type of `FLUSH`, which is its only value."""

    FLUSH = "flush"

    def __repr__(self) -> str:
        return self.name


FLUSH: Final = Flush.FLUSH
"""Among pieces of text: say what has come so far as if the text ended here, and begin a new sentence."""


@dataclass(frozen=True, slots=True)
class Control:
    """Stands between two stretches of text, ends the sentence before it, and says what is between them."""

    ends_paragraph: bool = False
    goes_on: bool = False
    """Whether the sentence goes on: it was cut, and no pause belongs here."""
    break_s: float = 0.0
    """Silence that the text asks for here, in seconds; it counts instead of a pause."""
    rate: float | None = None
    """Factor on the speed from here on; None leaves it as it is."""


GOES_ON: Final = Control(goes_on=True)


Item: TypeAlias = SourceText | Control


class Transducer(Protocol):
    """One step; for one text at a time, and for the next one when it has been finished."""

    def feed(self, text: SourceText) -> Iterable[Item]:
        """Take more of the text, and give what no later text can change."""

    def finish(self) -> Iterable[Item]:
        """Give the rest: the text ends here, and what is fed next begins another one."""


def run(steps: Sequence[Transducer], items: Iterable[Item], *, finish: bool) -> Iterator[Item]:
    """Send items through the steps as they are asked for; with `finish` the text ends there."""
    current = iter(items)
    for step in steps:
        current = _run(step, current, finish=finish)
    return current


def _run(step: Transducer, items: Iterator[Item], *, finish: bool) -> Iterator[Item]:
    for item in items:
        if isinstance(item, SourceText):
            yield from step.feed(item)
        else:
            # Nothing that follows a control may change what was before it.
            yield from step.finish()
            yield item
    if finish:
        yield from step.finish()
