"""How often a word's phonemes are exactly those that espeak-ng itself says are its: ``make word-boundaries``.

espeak-ng tells of words and phonemes only while it speaks, by events, which no frontend can wait for. Here
they are the truth, for words that it doesn't join (it has one event for ``of the``).
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import unicodedata
from collections.abc import Iterator

from balacoon_tk.frontend import EspeakFrontend
from balacoon_tk.metrics import hard_sentences, plain_sentences
from frontend_sentences import HELD_OUT, SENTENCES, random_sentences

_SYNCHRONOUS, _PHONEME_EVENTS_IN_IPA = 2, 1 | 2
_UTF_8 = 1
_WORD, _PHONEME = 1, 7


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
    """Give each event's words with their phonemes by espeak-ng's events, and by the alignment."""
    for sentence in frontend.phonemize(text):
        assert sentence.words is not None
        words, events = sentence.words.find(sentence.phonemes), espeak.words(text)
        bounds = [start for start, _ in events] + [len(text)]
        for (start, phonemes), stop in zip(events, bounds[1:], strict=True):
            own = [word for word in words if start <= word.text_span[0] < stop]
            said = "".join(sentence.phonemes[own[0].start : own[-1].stop]) if own else ""
            plain = unicodedata.normalize("NFD", phonemes)
            yield text[start:stop], plain, said.replace(" ", "")


def main() -> None:
    """Print the share of words and of boundaries between them that are right, and those that aren't."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voice", default="en-us")
    parser.add_argument("--random", type=int, default=400, help="sentences of random words")
    parser.add_argument("file", nargs="?", help="sentences instead, one a line")
    args = parser.parse_args()
    if args.file:
        with open(args.file, encoding="utf-8") as file:  # noqa: PTH123
            texts = [line.strip() for line in file if line.strip()]
    else:
        texts = [*plain_sentences(), *hard_sentences(), *SENTENCES, *HELD_OUT, *random_sentences(args.random)]
    frontend, espeak = EspeakFrontend(args.voice), SpeakingEspeak(args.voice)
    n_words = n_right = 0
    for text in texts:
        if len(list(frontend.phonemize(text))) != 1:
            continue
        for word, expected, said in compare(frontend, espeak, text):
            n_words += 1
            n_right += expected == said
            if expected != said:
                print(f"{word!r}: {expected} by espeak-ng, {said} here, in {text!r}")
    print(f"{len(texts)} sentences, {n_words} words, {n_right / n_words:.2%} with exactly their phonemes")


if __name__ == "__main__":
    main()
