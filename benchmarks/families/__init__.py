"""Decoders of today as their authors write them: tiny, with random weights, to see which of them stream.

`transformers` has some; the others stand in `own`, written after the papers, with the names of the papers'
parts. What matters is how they are built, not how they sound.
"""

from __future__ import annotations

from families.family import Family
from families.own import OWN
from families.published import PUBLISHED

__all__ = ["FAMILIES", "Family"]

FAMILIES: dict[str, Family] = {family.name: family for family in (*PUBLISHED, *OWN)}
"""By name, in the order of the table."""
