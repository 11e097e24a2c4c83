"""Parts of speech by gruut's model, asked in a third of gruut's time for the same answer."""

from __future__ import annotations

import base64
import functools
from collections.abc import Sequence
from typing import Any

__all__ = ["Tagger"]

_N_REMEMBERED = 2048
"""Words whose features are kept: some 3 kB each."""

_REACH = 2  # words to either side that have a say in a word's tag
_PREFIXES = ("", *(f"-{j}:" for j in range(1, _REACH + 1)), *(f"+{j}:" for j in range(1, _REACH + 1)))
_NAMES = ("bias", "word:", "len(word)", "word[:2]:", "word[:3]:", "word[-2:]:", "word[-3:]:")
_PREFIXED = [[f"{prefix}{name}".encode() for name in _NAMES] for prefix in _PREFIXES]


class Tagger:
    """gruut's tagger for words of letters, apostrophes and hyphens; the caller holds the lock.

    gruut makes the features of a word five times, for itself and for its neighbours, as values that
    pycrfsuite then writes out as strings. Here they are made once, as the bytes that reach the model,
    in gruut's order, so that its sums are the same to the last bit. Features that are zero are left
    out: that a word is a punctuation mark, or a number.

    Parameters
    ----------
    gruut_tagger : gruut.lang.DelayedPartOfSpeechTagger
        Its model is loaded here, not when the first sentence waits for it.
    """

    def __init__(self, gruut_tagger: Any) -> None:
        gruut_tagger([])
        self._tag = gruut_tagger.tagger.crf_tagger.tag
        self._features = functools.lru_cache(_N_REMEMBERED)(_features)

    def __call__(self, words: Sequence[str]) -> list[str]:
        """Give each word's tag."""
        tags: list[str] = self._tag(self.items(words))
        return tags

    def items(self, words: Sequence[str]) -> list[dict[bytes, float]]:
        """Give each word's features, by the names that the model has for them."""
        features = [self._features(word) for word in words]
        last = len(words) - 1
        items = []
        for index, (own, *_) in enumerate(features):
            item = own.copy()
            if index == 0:
                item[b"BOS"] = 1.0
            if index == last:
                item[b"EOS"] = 1.0
            for j in range(1, min(_REACH, index) + 1):
                item |= features[index - j][j]
            for j in range(1, min(_REACH, last - index) + 1):
                item |= features[index + j][_REACH + j]
            items.append(item)
        return items


def _features(word: str) -> tuple[dict[bytes, float], ...]:
    """Give a word's features under each of `_PREFIXES`."""
    coded, length = base64.b64encode(word.encode()), float(len(word))
    two, three, last_two, last_three = (part.encode() for part in (word[:2], word[:3], word[-2:], word[-3:]))
    return tuple(
        {
            bias: 1.0, own + coded: 1.0, n_letters: length,
            first_2 + two: 1.0, first_3 + three: 1.0, last_2 + last_two: 1.0, last_3 + last_three: 1.0,
        }
        for bias, own, n_letters, first_2, first_3, last_2, last_3 in _PREFIXED
    )  # fmt: skip
