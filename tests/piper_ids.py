"""Compare the ids of sentences with those that piper-tts gives: `make piper-ids`.

Each sentence is given to both. Where the ids differ, piper-tts gets it again as the backend got it here, with
its punctuation made plain: if that gives the same ids, the difference was meant. What is left is a fault.
"""

import argparse
import logging
import re
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from piper.config import PiperConfig
from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP
from piper.voice import PiperVoice

from balacoon_tk._files import json_text, write_whole
from balacoon_tk.frontend import PhonemeMap, create_frontend
from piper_sentences import HEBREW, JAPANESE, LOCALES, sentences

SAME, DIFFERENT = "the same", "different"
PUNCTUATION = "punctuation made plain"  # wide marks, dashes, quotes and ellipses, as cleaning.py has it
SPACES = "no space first, nor two"  # espeak-ng writes them before some numbers
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
        """Say how the ids of a sentence differ."""
        ours, prepared = [], []
        for sentence in self.frontend.phonemize(text):
            encoded = self.phoneme_map.encode(sentence.phonemes)
            if encoded.first_spoken is not None:
                ours.append(encoded.phoneme_ids.tolist())
                prepared.append(sentence.source.text)
        if ours == piper_ids(self.piper, text):
            return SAME
        if len(ours) > len(self.piper.phonemize(text)):
            return DIFFERENT
        # Of several sentences the difference that is the largest counts.
        kinds = (PUNCTUATION, SPACES, ABBREVIATION, DIFFERENT)
        return max((self._judge_one(*each) for each in zip(prepared, ours, strict=True)), key=kinds.index)

    def _judge_one(self, prepared: str, ids: list[int]) -> str:
        said = ["".join(phonemes) for phonemes in self.piper.phonemize(prepared)]
        single = [re.sub(" +", " ", phonemes).strip() for phonemes in said]
        joined = "".join(f"{phonemes.removesuffix('.')} " for phonemes in single[:-1]) + single[-1]
        for kind, phonemes in ((PUNCTUATION, said), (SPACES, single), (ABBREVIATION, [joined])):
            if [self.piper.phonemes_to_ids(list(each)) for each in phonemes] == [ids]:
                return kind
        return DIFFERENT


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare all languages; return 1 if anything differs that isn't meant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=60, help="sentences of each language")
    parser.add_argument("--out", type=Path, help="write the counts there")
    args = parser.parse_args(arguments)
    count: int = args.n
    # The default map lacks letters of some languages, which both name.
    warnings.simplefilter("ignore")
    logging.disable()
    runs = [(voice, "espeak", sentences(voice, count)) for voice in LOCALES]
    runs += [("ja", "japanese", JAPANESE), ("he", "hebrew", HEBREW)]
    total: Counter[str] = Counter()
    counts: dict[str, dict[str, int]] = {}
    for voice, phoneme_type, texts in runs:
        comparison = Comparison(voice, phoneme_type)
        found = Counter[str]()
        for text in texts:
            found[verdict := comparison.judge(text)] += 1
            if verdict == DIFFERENT:
                print(f"{voice}: {text!r}")
        total += found
        counts[f"{voice}, {phoneme_type}"] = dict(found.most_common())
        said = ", ".join(f"{number} {kind}" for kind, number in found.most_common())
        print(f"{voice:12} {phoneme_type:9} {said}")
    print(f"{sum(total.values())} sentences in {len(runs)} kinds:", dict(total))
    if args.out:
        report = {"sentences": sum(total.values()), "all": dict(total), "kinds": counts}
        write_whole(args.out, json_text(report))
    return 1 if total[DIFFERENT] else 0


if __name__ == "__main__":
    sys.exit(main())
