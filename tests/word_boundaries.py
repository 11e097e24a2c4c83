"""How often a word's phonemes are exactly those that espeak-ng itself says are its.

espeak-ng tells of words and phonemes only while it speaks, by events, which no frontend can wait for. Here
they are the truth, for words that it doesn't join (it has one event for ``of the``). Where it says something
else when it speaks than when it is asked for phonemes, as of ``him`` and ``AAAH``, a word is printed that has
no phoneme of another one. Its events leave out length and tones, so these are not compared.

  PYTHONPATH=tests python tests/word_boundaries.py --out benchmarks/results/word_boundaries.json
"""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import argparse
import ctypes
import re
import sys
import unicodedata
from collections.abc import Iterator
from itertools import chain, islice, pairwise
from pathlib import Path

from balacoon_tk._files import json_text, write_whole
from balacoon_tk.frontend import EspeakFrontend
from balacoon_tk.frontend.reading.source_text import SourceText
from balacoon_tk.frontend.words import SentenceWords
from balacoon_tk.metrics import hard_sentences, plain_sentences
from frontend_sentences import HELD_OUT, SENTENCES, random_sentences

_SYNCHRONOUS, _PHONEME_EVENTS_IN_IPA = 2, 1 | 2
_UTF_8 = 1
_WORD, _PHONEME = 1, 7
_LANGUAGE = re.compile(r"\([a-z-]+\)")


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """`espeak_EVENT` of espeak-ng's speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class SpeakingEspeak:
    """espeak-ng with its events, in the library that the frontend uses as well."""

    def __init__(self, voice: str) -> None:
        from piper import espeakbridge
        from piper.phonemize_espeak import ESPEAK_DATA_DIR

        self._library = ctypes.PyDLL(espeakbridge.__file__)
        self._voice = voice.encode()
        self._words: list[tuple[int, str]] = []
        self._callback = _Callback(self._take)
        data = str(ESPEAK_DATA_DIR).encode()
        self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, _PHONEME_EVENTS_IN_IPA)
        self._library.espeak_SetSynthCallback(self._callback)

    def words(self, text: str) -> list[tuple[int, str]]:
        """Return where each word begins in a text, and its phonemes."""
        self._words = []
        self._library.espeak_SetVoiceByName(self._voice)
        data = text.encode()
        self._library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, _UTF_8, None, None)
        return self._words

    def _take(self, _samples: object, _n_samples: int, events: object) -> int:
        for place in range(sys.maxsize):
            event = events[place]  # type: ignore[index]
            if event.type == _WORD:
                self._words.append((event.text_position - 1, ""))
            elif event.type == _PHONEME and self._words:
                start, phonemes = self._words[-1]
                self._words[-1] = start, phonemes + event.id.string.decode(errors="ignore")
            elif event.type == 0:
                break
        return 0


def compare(frontend: EspeakFrontend, espeak: SpeakingEspeak, text: str) -> Iterator[tuple[str, str, str]]:
    """Give the words of a sentence with their phonemes by espeak-ng's events, and by the alignment.

    Words that espeak-ng joins are taken together, and so are its several events of one word, as of a number.
    """
    (sentence,) = frontend.phonemize(text)
    assert sentence.words is not None
    # As the backend got it: what rules for numbers and marks did before is none of espeak-ng's.
    source = SourceText(sentence.source.text)
    words = SentenceWords(source, (), source, sentence.words._say).find(sentence.phonemes)
    groups: list[tuple[int, str]] = []
    for place, phonemes in espeak.words(source.text):
        index = max((i for i, word in enumerate(words) if word.text_span[0] <= place), default=0)
        before = groups.pop()[1] if groups and groups[-1][0] == index else ""
        groups.append((index, before + phonemes))
    for (index, phonemes), (stop, _) in pairwise([*groups, (len(words), "")]):
        own = words[index:stop]
        said = "".join(sentence.phonemes[own[0].start : own[-1].stop]) if own else ""
        written = " ".join(word.text for word in own)
        yield written, _plain(phonemes), _plain(said)


def _plain(phonemes: str) -> str:
    """Leave out what events have no place for, and the names of languages that others are read by."""
    spelled = unicodedata.normalize("NFD", _LANGUAGE.sub("", phonemes)).replace("ː", "").replace(" ", "")
    return "".join(character for character in spelled if unicodedata.category(character) not in ("Nd", "Mn"))


def texts_of(path: str | None, n_random: int) -> Iterator[str]:
    """Give the sentences: those of a file, or ours and random ones."""
    if path is not None:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        yield from (line.strip() for line in lines if line.strip())
        return
    yield from (*plain_sentences(), *chain(*hard_sentences().values()), *SENTENCES, *HELD_OUT)
    lexicon = {word.strip(".,;?!") for sentence in (*SENTENCES, *HELD_OUT) for word in sentence.split()}
    yield from islice(random_sentences(lexicon, ["read", "live", "lead"], seed=19), n_random)


def main() -> None:
    """Print what is wrong, and the share of words that are right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voice", default="en-us")
    parser.add_argument("--random", type=int, default=300, help="sentences of random words")
    parser.add_argument("--out", type=Path, help="write the counts there")
    parser.add_argument("file", nargs="?", help="sentences of one's own instead, one a line")
    args = parser.parse_args()
    frontend, espeak = EspeakFrontend(args.voice), SpeakingEspeak(args.voice)
    n_sentences = n_words = n_right = 0
    for text in texts_of(args.file, args.random):
        if len(list(frontend.phonemize(text))) != 1:
            continue
        n_sentences += 1
        for written, expected, said in compare(frontend, espeak, text):
            n_words += 1
            n_right += expected == said
            if expected != said:
                print(f"{written!r}: {expected} by its events, {said} here, in {text!r}")
    print(
        f"{n_sentences} sentences, {n_words} words, {n_right / max(1, n_words):.2%} with their phonemes alone"
    )
    if args.out:
        counts = {"voice": args.voice, "sentences": n_sentences, "words": n_words, "exact": n_right}
        write_whole(args.out, json_text(counts))


if __name__ == "__main__":
    main()
