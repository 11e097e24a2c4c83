"""What a listening test plays in which order: chosen at random, by a seed, and known to no page.

::

    AB    sentence ─▶ A, B in an order that is balanced   which is better?
    ABX   sentence ─▶ A, B likewise, X a toss of a coin   which of them is X?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Side = Literal["A", "B"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One question to a listener."""

    number: int
    """From 1."""
    sentence: str
    a: str
    """Name of what sounds as A."""
    b: str
    x: Side | None
    """Which of them sounds as X; None where there is none."""


def plan_trials(
    names: Sequence[str], sentences: Sequence[str], *, n_repeats: int, with_x: bool, seed: int, listener: str
) -> tuple[Trial, ...]:
    """Put the trials of one listener in order.

    All sentences come before one comes again. In half of the trials the first name is A (one more or less if
    their number is odd), so that whoever always says "A" prefers neither. What X is, a coin says each time:
    were it balanced too, the last ones could be told from those before.
    """
    # Each listener has an order of their own, and a kernel that starts again finds the same one.
    random = np.random.default_rng([seed, *listener.encode()])
    order = [int(k) for _ in range(n_repeats) for k in random.permutation(len(sentences))]
    swapped = random.permutation(np.arange(len(order)) % 2 == 0)
    coins = random.integers(0, 2, size=len(order))
    sides: tuple[Side, Side] = ("A", "B")
    return tuple(
        Trial(
            number=number,
            sentence=sentences[k],
            a=names[int(swap)],
            b=names[1 - int(swap)],
            x=sides[int(coin)] if with_x else None,
        )
        for number, (k, swap, coin) in enumerate(zip(order, swapped, coins, strict=True), 1)
    )
