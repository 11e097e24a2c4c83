"""Clicks: seams between chunks at which samples bend as speech doesn't."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from balacoon_tk._typing import FloatArray
from balacoon_tk.metrics import boundary_click_db

CLICK_DB: Final = 12.0
"""How much sharper than the 10 ms around it a seam bends that is called a click."""
EXCESS_DB: Final = 6.0
"""How much sharper than the whole utterance at the same place, where that is known."""
_NEAR_S = 0.02


def count_clicks(
    samples: FloatArray, borders: Sequence[int], *, sample_rate: int, whole: FloatArray | None
) -> int:
    """Count the seams at which samples bend far sharper than around them, and than the whole does there.

    Without a whole utterance a seam is compared with what lies around it alone, which is enough between
    sentences, where nothing bends.
    """
    near = round(_NEAR_S * sample_rate)

    def click_db(signal: FloatArray, border: int) -> float:
        first = max(0, border - near)
        return boundary_click_db(signal[first : border + near], [border - first], sample_rate=sample_rate)

    n_clicks = 0
    for border in borders:
        sharp_db = click_db(samples, border)
        # NaN is a seam in silence, and no click; where only the whole is silent there, it is one.
        natural_db = click_db(whole, border) if whole is not None else -np.inf
        n_clicks += bool(sharp_db >= CLICK_DB and not sharp_db - natural_db < EXCESS_DB)
    return n_clicks
