"""One sentence before its decoder: encoded, ready to give any of its frames, its phonemes in time."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from balacoon_tk._typing import FloatArray, IntArray
from balacoon_tk.audio import PhonemeSpan, WordSpan
from balacoon_tk.frontend.phoneme_map import FRAME, EncodedSentence
from balacoon_tk.stages.encoder import Encoder
from balacoon_tk.stages.random import noise_stream
from balacoon_tk.stages.settings import Prosody, Settings
from balacoon_tk.stages.upsampler import Upsampler
from balacoon_tk.voice.voice import Voice


@dataclass(frozen=True, slots=True, eq=False)
class PreparedSentence:
    """All that the decoder and the timeline need of a sentence."""

    encoded: EncodedSentence
    upsampler: Upsampler
    """Gives the frames."""
    speaker_embedding: FloatArray | None
    """As the encoder gave it; None where the decoder reads none, so that frames are all its input."""

    @property
    def lead_frames(self) -> int:
        """Frames before the first phoneme that sounds: the silence that a sentence begins with."""
        first = self.encoded.first_spoken
        return 0 if first is None else int(self.upsampler.phoneme_starts[self.encoded.id_starts[first]])

    @property
    def tail_frames(self) -> int:
        """Frames after the last phoneme that sounds: the silence that a sentence ends with."""
        id_starts, last = self.encoded.id_starts, self.encoded.last_spoken
        if last is None or last + 1 == len(id_starts):
            return 0
        return self.upsampler.n_frames - int(self.upsampler.phoneme_starts[id_starts[last + 1]])


def own_settings(voice: Voice, *, seed: int = 0, speaker: str | int | None = None) -> Settings:
    """Return the settings of a stream for which nothing but these two is set."""
    return Settings(
        strategy=voice.strategies[-1],
        seed=seed,
        speaker_id=voice.speaker_id(speaker),
        prosody=Prosody.choose(voice.manifest.prosody),
    )


def prepare_sentence(
    voice: Voice, encoded: EncodedSentence, settings: Settings, *, index: int, encoder: Encoder | None = None
) -> PreparedSentence:
    """Encode a sentence, and set its frames up; its `index` in the text chooses its noise.

    Another `encoder` makes the encodings instead of the voice's own, which still says how long they last.
    """
    own, *others = [
        reader.encode(
            encoded.phoneme_ids,
            length_scale=settings.prosody.length_scale,
            noise_w=settings.prosody.noise_w,
            speaker_id=settings.speaker_id,
            seed=settings.seed,
            stream=noise_stream(index, "durations"),
        )
        for reader in (voice.encoder, encoder)
        if reader is not None
    ]
    # One duration that is off by a frame shifts all that follows: frames would no more be comparable.
    encoding = others[0] if others else own
    upsampler = Upsampler(
        encoding.encodings,
        own.durations,
        log_scales=encoding.log_scales,
        noise_scale=settings.prosody.noise_scale,
        seed=settings.seed,
        stream=noise_stream(index, "frames"),
        gaussian_delta=voice.manifest.gaussian_delta,
    )
    embedding = encoding.speaker_embedding if "speaker_embedding" in voice.decoder.contract.inputs else None
    return PreparedSentence(encoded, upsampler, embedding)


class Timeline:
    """The phonemes and words of one sentence in time, which begins at `start_sample` of its utterance.

    Phonemes tile the sentence: each one ends where the next begins, and the silence around the sentence
    belongs to the symbols that begin and end it. `phoneme_starts` is that of an `Upsampler`. Words leave out
    what lies between them.
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
        self._sentence = encoded.sentence
        self._found: tuple[list[int], tuple[WordSpan, ...]] | None = None
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

    def words(self, start_sample: int, stop_sample: int) -> tuple[WordSpan, ...]:
        """Return the words that begin in these samples, each once as well; from any thread.

        They are found the first time.
        """
        # No lock: what two threads find at once is the same.
        if (found := self._found) is None:
            found = self._found = self._find_words()
        begins, words = found
        return words[bisect_left(begins, start_sample) : bisect_left(begins, stop_sample)]

    def _find_words(self) -> tuple[list[int], tuple[WordSpan, ...]]:
        """Find all words, and the sample at which each begins."""
        if self._sentence is None or self._sentence.words is None:
            return [], ()
        # The sentence's frame is none of its phonemes, though it has a place among them.
        phonemes = ["" if phoneme in FRAME else phoneme for phoneme in self._phonemes]
        words = self._sentence.words.find(phonemes)
        bounds_s = self._bounds_s
        spans = (WordSpan(w.text, bounds_s[w.start], bounds_s[w.stop], w.text_span) for w in words)
        return [self._begins[word.start] for word in words], tuple(spans)
