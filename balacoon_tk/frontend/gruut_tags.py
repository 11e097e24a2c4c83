"""Parts of speech by gruut's model, asked in half of gruut's time for the same answer."""

from __future__ import annotations

import base64
import functools
from collections.abc import Sequence
from typing import Any

_Features = dict[bytes, float]

_N_REMEMBERED = 4096
"""Words whose features are kept: a kilobyte each."""


class Tagger:
    """gruut's tagger for words of letters, apostrophes and hyphens; the caller holds the lock.

    gruut makes the features of a word five times, for itself and for its neighbours, as values that
    pycrfsuite then writes out as strings. Here they are made once, as the bytes that reach the model,
    and pycrfsuite puts the neighbour's place before them. They come in gruut's order, so that the
    model's sums are the same to the last bit. Features that are zero are left out: that a word is a
    punctuation mark, or a number.

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

    def items(self, words: Sequence[str]) -> list[dict[bytes, float | _Features]]:
        """Give each word's features, by the names that the model has for them."""
        features = [self._features(word) for word in words]
        last = len(words) - 1
        items = []
        for index, own in enumerate(features):
            item: dict[bytes, float | _Features] = {**own}
            if index == 0:
                item[b"BOS"] = 1.0
            if index == last:
                item[b"EOS"] = 1.0
            if index >= 1:
                item[b"-1"] = features[index - 1]
            if index >= 2:
                item[b"-2"] = features[index - 2]
            if index <= last - 1:
                item[b"+1"] = features[index + 1]
            if index <= last - 2:
                item[b"+2"] = features[index + 2]
            items.append(item)
        return items


def _features(word: str) -> _Features:
    return {
        b"bias": 1.0,
        b"word:" + base64.b64encode(word.encode()): 1.0,
        b"len(word)": float(len(word)),
        f"word[:2]:{word[:2]}".encode(): 1.0,
        f"word[:3]:{word[:3]}".encode(): 1.0,
        f"word[-2:]:{word[-2:]}".encode(): 1.0,
        f"word[-3:]:{word[-3:]}".encode(): 1.0,
    }
