"""Which phoneme is said when."""

from __future__ import annotations

from bisect import bisect_left

from balacoon_tk._typing import IntArray
from balacoon_tk.audio import PhonemeSpan
from balacoon_tk.frontend.phoneme_map import EncodedSentence


class Timeline:
    """The phonemes of one sentence in time.

    They tile the sentence: each one ends where the next begins, and the silence around the sentence
    belongs to the symbols that begin and end it.

    Parameters
    ----------
    encoded : EncodedSentence
        The phonemes, and which ids are whose.
    phoneme_starts : ndarray of shape (n_ids + 1,), int64
        Where the frames of each id begin, and where the last one's end.
    hop_length : int
        Samples per frame.
    sample_rate : int
        Hz
    start_sample : int
        Where the sentence begins in its utterance.
    """

    def __init__(
        self,
        encoded: EncodedSentence,
        phoneme_starts: IntArray,
        *,
        hop_length: int,
        sample_rate: int,
        start_sample: int,
    ) -> None:
        # Lists, since there are few: between two runs of a graph arrays take ten times as long.
        frames: list[int] = phoneme_starts.tolist()
        bounds = [start_sample + frames[first] * hop_length for first in encoded.id_starts.tolist()]
        end = start_sample + frames[-1] * hop_length
        self._phonemes = encoded.phonemes
        self._bounds_s = [bound / sample_rate for bound in (*bounds, end)]
        # A last phoneme of no length begins where the sentence ends, and no chunk holds that sample.
        self._begins = [min(bound, end - 1) for bound in bounds]

    def spans(self, start_sample: int, stop_sample: int) -> tuple[PhonemeSpan, ...]:
        """Return the phonemes that begin in the samples [start_sample, stop_sample) of the utterance.

        Where these ranges tile the sentence, every phoneme comes out once.
        """
        first, end = bisect_left(self._begins, start_sample), bisect_left(self._begins, stop_sample)
        bounds_s = self._bounds_s[first : end + 1]
        return tuple(map(PhonemeSpan, self._phonemes[first:end], bounds_s, bounds_s[1:]))
