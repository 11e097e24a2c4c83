"""Compare the ids of sentences with those that piper-tts gives: `make piper-ids`.

Each sentence is given to both. Where the ids differ, piper-tts gets it again as the backend got it here, with
its punctuation made plain: if that gives the same ids, the difference was meant. What is left is a fault.
"""

import argparse
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Sequence

from piper.config import PiperConfig
from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP
from piper.voice import PiperVoice

from balacoon_tk.frontend import PhonemeMap, create_frontend
from piper_sentences import HEBREW, JAPANESE, LOCALES, sentences

SAME, DIFFERENT = "the same", "different"
PUNCTUATION = "punctuation made plain"  # wide marks, dashes, quotes and ellipses, as cleaning.py has it
ABBREVIATION = "no end after an abbreviation"  # piper-tts ends a sentence at the dot of `Mr.`


def piper_voice(config: dict[str, object]) -> PiperVoice:
    """Return a voice of piper-tts without a network: what gives phonemes needs none."""
    return PiperVoice(session=None, config=PiperConfig.from_dict(config))  # type: ignore[arg-type]


def config_of(voice: str, phoneme_type: str = "espeak") -> dict[str, object]:
    """Return the JSON of a Piper voice, as far as ids depend on it."""
    return {
        "audio": {"sample_rate": 22050},
        "espeak": {"voice": voice},
        "phoneme_type": phoneme_type,
        "phoneme_id_map": DEFAULT_PHONEME_ID_MAP,
        "num_symbols": 256,
        "num_speakers": 1,
    }


def piper_ids(voice: PiperVoice, text: str) -> list[list[int]]:
    """Return what piper-tts gives, sentence by sentence."""
    return [voice.phonemes_to_ids(phonemes) for phonemes in voice.phonemize(text) if phonemes]


class Comparison:
    """Ours and piper-tts's phonemes of one kind."""

    def __init__(self, voice: str, phoneme_type: str = "espeak") -> None:
        self.piper = piper_voice(config_of(voice, phoneme_type))
        self.phoneme_map = PhonemeMap(DEFAULT_PHONEME_ID_MAP)
        self.frontend = create_frontend(
            language=voice, phoneme_type=phoneme_type, symbols=DEFAULT_PHONEME_ID_MAP
        )

    def judge(self, text: str) -> str:
        """Say how the ids of a text differ."""
        ours, prepared = [], []
        for sentence in self.frontend.phonemize(text):
            encoded = self.phoneme_map.encode(sentence.phonemes)
            if encoded.first_spoken is not None:
                ours.append(encoded.phoneme_ids.tolist())
                prepared.append(sentence.source.text)
        if ours == piper_ids(self.piper, text):
            return SAME
        # One of ours at a time, since sentences may end elsewhere.
        if [piper_ids(self.piper, sentence) for sentence in prepared] == [[ids] for ids in ours]:
            return PUNCTUATION
        return ABBREVIATION if list(map(self._ids_of_one, prepared)) == ours else DIFFERENT

    def _ids_of_one(self, sentence: str) -> list[int]:
        """Return what piper-tts gives, in one sentence: a dot inside says nothing."""
        *before, last = ("".join(phonemes) for phonemes in self.piper.phonemize(sentence))
        joined = "".join(f"{phonemes.removesuffix('.')} " for phonemes in before) + last
        ids: list[int] = self.piper.phonemes_to_ids(list(joined))
        return ids


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare all languages; return 1 if anything differs that isn't meant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=60, help="sentences of each language")
    count = parser.parse_args(arguments).n
    # The default map lacks letters of some languages, which both name.
    warnings.simplefilter("ignore")
    logging.disable()
    runs = [(voice, "espeak", sentences(voice, count)) for voice in LOCALES]
    runs += [("ja", "japanese", JAPANESE), ("he", "hebrew", HEBREW)]
    total: Counter[str] = Counter()
    for voice, phoneme_type, texts in runs:
        comparison = Comparison(voice, phoneme_type)
        found = Counter[str]()
        for text in texts:
            found[verdict := comparison.judge(text)] += 1
            if verdict == DIFFERENT:
                print(f"{voice}: {text!r}")
        total += found
        said = ", ".join(f"{number} {kind}" for kind, number in found.most_common())
        print(f"{voice:12} {phoneme_type:9} {said}")
    print(f"{sum(total.values())} sentences in {len(runs)} kinds:", dict(total))
    return 1 if total[DIFFERENT] else 0


if __name__ == "__main__":
    sys.exit(main())
