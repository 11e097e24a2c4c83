"""Phonemes to ids, laid out as the voice was trained, with the way back for alignment.

A Piper voice reads ``^ _ p₁ _ p₂ _ … pₙ _ $``: a pad follows every symbol but the last. So each phoneme
owns several ids, its own and the pad after it, and its duration is the sum of theirs::

    phoneme_ids   1  0 | 20  0 | 59  0 | 2
    phonemes      ^    |  h    |  ə    | $
    id_starts     0       2       4      6
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

import numpy as np

from balacoon_tk._typing import IntArray
from balacoon_tk.errors import ParameterError
from balacoon_tk.frontend.assembly import Sentence
from balacoon_tk.frontend.naming import LeftOutNames
from balacoon_tk.frontend.reading.cleaning import CLAUSE_MARKS

if TYPE_CHECKING:
    from balacoon_tk.voice.manifest import FrontendInfo

# Begins a sentence, ends it, and follows every symbol but the last.
BOS, EOS, PAD = "^", "$", "_"
FRAME = frozenset([BOS, EOS, PAD])
# What stands for these characters where a voice was trained to say them: their wide forms.
IN_TEXT: Mapping[str, str] = MappingProxyType({BOS: "\uff3e", EOS: "\uff04", PAD: "\uff3f"})

_NOT_SPOKEN = FRAME | {" ", *CLAUSE_MARKS}


class UnknownPhonemeWarning(UserWarning):
    """A sentence holds phonemes that the voice has no ids for; they were skipped."""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedSentence:
    """The ids of a sentence, and which of them belong to which phoneme."""

    phoneme_ids: IntArray
    """Shape (n_ids,), int64: what the encoder reads."""
    phonemes: tuple[str, ...]
    """The phonemes that have ids, `BOS` and `EOS` among them where the voice has these."""
    id_starts: IntArray
    """Shape (len(phonemes),), int64: where each phoneme's ids begin; they end where the next one's begin.

    The spans tile the sentence, so ``np.add.reduceat(durations, id_starts)`` are the frames of each phoneme.
    """
    last: bool = False
    """Whether it is known that nothing follows in the text."""
    sentence: Sentence | None = None
    """What it is of, if that is known."""

    @property
    def first_spoken(self) -> int | None:
        """Index of the first phoneme that sounds: no mark, no space, no end; None if none does."""
        spoken = (index for index, phoneme in enumerate(self.phonemes) if phoneme not in _NOT_SPOKEN)
        return next(spoken, None)

    @property
    def last_spoken(self) -> int | None:
        """Index of the last phoneme that sounds; None if none does."""
        indexes = reversed(range(len(self.phonemes)))
        return next((index for index in indexes if self.phonemes[index] not in _NOT_SPOKEN), None)


class PhonemeMap:
    """The ids of a voice's symbols; safe to use from many threads.

    Parameters
    ----------
    phoneme_ids : mapping of str to sequence of int
        The ids of each symbol. Where it has no `BOS`, `PAD` or `EOS`, none is inserted.
    vowel_clusters : iterable of sequences of str
        Phonemes that are one symbol where they follow each other: the longest that fits, from the left.

    Raises
    ------
    ParameterError
        If a symbol is empty, or has no ids, or one that is not an integer >= 0.

    Examples
    --------
    >>> PhonemeMap({"a": [1], "aɪ": [2]}, vowel_clusters=[("a", "ɪ")]).encode("aaɪ").phonemes
    ('a', 'aɪ')
    """

    def __init__(
        self,
        phoneme_ids: Mapping[str, Sequence[int]],
        *,
        vowel_clusters: Iterable[Sequence[str]] = (),
    ) -> None:
        if not phoneme_ids:
            raise ParameterError("phoneme_ids={} must hold at least one symbol")
        ids = {symbol: _checked_ids(symbol, values) for symbol, values in phoneme_ids.items()}
        bos, pad, eos = (ids.pop(symbol, ()) for symbol in (BOS, PAD, EOS))
        self._ids = ids
        self._begin, self._end = [BOS] * bool(bos), [EOS] * bool(eos)
        # Joined once, since a sentence asks for a hundred of them before its first sound. Only `EOS` has no
        # pad: without one the last phoneme is followed by the end, and padded like the others.
        self._padded = {symbol: (*own, *pad) for symbol, own in (ids | {BOS: bos}).items()} | {EOS: eos}
        self._clusters = frozenset(map(tuple, vowel_clusters))
        self._cluster_sizes = sorted({len(each) for each in self._clusters if len(each) > 1}, reverse=True)
        self._unknown = LeftOutNames(
            "the voice has no ids for these phonemes, so they are skipped",
            UnknownPhonemeWarning,
            lambda phoneme: f"{phoneme!r} (U+{ord(phoneme[0]):04X})",
        )

    @classmethod
    def of(cls, info: FrontendInfo) -> Self:
        """Make the map of a voice."""
        return cls(info.phoneme_ids, vowel_clusters=info.vowel_clusters)

    @property
    def symbols(self) -> frozenset[str]:
        """The phonemes that have ids; `BOS`, `PAD` and `EOS` are not among them."""
        return frozenset(self._ids)

    def encode(self, phonemes: Sequence[str], *, last: bool = False) -> EncodedSentence:
        """Give the ids of a sentence's phonemes.

        Phonemes without ids are skipped, and named in an `UnknownPhonemeWarning` the first time that
        this map meets them. `BOS`, `PAD` and `EOS` stand for the sentence's frame alone: among the
        phonemes they are unknown.
        """
        if self._cluster_sizes:
            phonemes = self._merge(phonemes)
        symbols = [phoneme for phoneme in phonemes if phoneme in self._ids]
        if len(symbols) < len(phonemes):
            self._unknown.warn((p for p in phonemes if p and p not in self._ids), stacklevel=2)
        symbols = self._begin + symbols + self._end
        ids = [self._padded[symbol] for symbol in symbols]
        *starts, _ = accumulate(map(len, ids), initial=0)
        return EncodedSentence(
            phoneme_ids=np.array([*chain(*ids)], dtype=np.int64),
            phonemes=tuple(symbols),
            id_starts=np.array(starts, dtype=np.int64),
            last=last,
        )

    def _merge(self, phonemes: Sequence[str]) -> list[str]:
        """Join the phonemes of clusters."""
        merged, start = list[str](), 0
        while start < len(phonemes):
            sizes = (n for n in self._cluster_sizes if tuple(phonemes[start : start + n]) in self._clusters)
            size = next(sizes, 1)
            merged.append("".join(phonemes[start : start + size]))
            start += size
        return merged


def _checked_ids(symbol: object, ids: object) -> tuple[int, ...]:
    if not isinstance(symbol, str) or not symbol:
        raise ParameterError(f"phoneme_ids: the symbol {symbol!r} must be a text of at least one character")
    if isinstance(ids, str) or not isinstance(ids, Sequence) or not ids:
        raise ParameterError(f"phoneme_ids[{symbol!r}]={ids!r} must be a list of at least one id")
    # A voice's own map was checked when it was read; this one may come from a caller's code.
    for index, value in enumerate(ids):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ParameterError(f"phoneme_ids[{symbol!r}][{index}]={value!r} must be an integer >= 0")
    return tuple(ids)
