"""Cut texts into pieces at random, and look whether anything that is read or said depends on the cuts.

Of every cut the sentences, the place of each character in the text, and espeak-ng's phonemes are compared
with those of the whole text; of some also gruut's phonemes, and the samples of a tiny voice. Half of the
texts are what people write, in several scripts and with markup, half are what nobody writes.

  PYTHONPATH=tests python tests/cuts.py -n 10000 --out benchmarks/results/cuts.json
"""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from balacoon_tk import TTS
from balacoon_tk.errors import BalacoonError
from balacoon_tk.frontend import FLUSH, EspeakFrontend, GruutFrontend, Reading
from balacoon_tk.frontend.assembly import PiecesFrontend
from balacoon_tk.metrics.sentences import hard_sentences, plain_sentences
from fuzz.texts import random_texts, text_of
from tiny_voice import build_tiny_voice

N_TEXTS = 200
_MOST = 600  # characters of a text that nobody writes: longer ones only take longer
_MARKED = [
    "# Title\n\nSome **bold** text, [a link](https://a.bc/d?e=f) and `code`.\n\n- one\n- two\n\n> quoted\n",
    "It is over.Then it?A fish. Call(me) at 5 p.m. or mail me@x.yz! See www.a.com/b?c=d, v2.0.1, 1,000.5.",
    "<speak>Hello <break time='300ms'/> <s>there</s> <prosody rate='fast'>my friend</prosody>. Bye.</speak>",
    "Say [[wˈɜːld]] again, un[[ə]]able. [[ˈa]]\n[[b]] Then an open one: [[wˈɜː",
    "你好。世界！再见？好，我很好。「こんにちは。」元気ですか？はい。كيف حالك؟ جيد. नमस्ते। कैसे हो?",
    "hello there. how are you? i'm fine, thanks: it rained in oslo, bergen and " + "very " * 200 + "far.",
    "A wrapped line of a text that an editor broke where it was long enough for it\nand its end.\n\nOh.",
    "Cafe\u0301 nai\u0308ve \U0001f600 , really\u200b? \u1112\u1161\u11ab\u1100\u1173\u11af. \ufb01ne Ａ！",
]


def texts(seed: int) -> Iterator[str]:
    """Give texts without end."""
    rng, odd = random.Random(seed), random_texts(seed)
    sentences = [*plain_sentences(), *itertools.chain.from_iterable(hard_sentences().values())]
    while True:
        gaps = rng.choices([" ", "\n", "\n\n", " - "], (6, 1, 1, 1), k=4)
        yield "".join(map("".join, zip(rng.sample(sentences, 4), gaps, strict=True)))
        yield text_of(next(odd))[:_MOST]
        yield rng.choice(_MARKED)
        yield "".join((rng.choice(_MARKED), text_of(next(odd))[:_MOST], rng.choice(sentences)))


def pieces_of(text: str, rng: random.Random) -> list[str]:
    """Cut a text at a few places, at many, or everywhere."""
    n_cuts = rng.choice((1, 2, 5, len(text) // 4, len(text)))
    places = (
        sorted(rng.choices(range(len(text) + 1), k=n_cuts)) if n_cuts < len(text) else range(1, len(text))
    )
    return [text[start:stop] for start, stop in itertools.pairwise([0, *places, len(text)])]


def read(frontend: PiecesFrontend, pieces: Iterable[str], reading: Reading) -> list[object]:
    """Return all that is known of the sentences, and the error that ends them."""
    found: list[object] = []
    try:
        for sentence in frontend.phonemize(pieces, reading):
            source = sentence.source
            spans = [source.span(place, place + 1) for place in range(len(source))]
            found.append((sentence.text, source.text, spans, sentence.phonemes, sentence.controls))
    except BalacoonError as error:
        found.append(type(error).__name__)
    return found


def say(tts: TTS, pieces: Iterable[str], reading: Reading) -> list[object]:
    """Return the samples, and the error that ends them."""
    samples, ended = [np.zeros(0, np.float32)], None
    stream = tts.stream(pieces, strategy="overlap", seed=1, clause=reading.clause, markup=reading.markup)
    try:
        samples.extend(chunk.samples for chunk in stream)
    except BalacoonError as error:
        ended = type(error).__name__
    return [np.concatenate(samples).tobytes(), ended]


def main() -> int:
    """Cut, compare and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, default=10_000, help="cuts in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the counts there")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # of what can't be said
    rng = random.Random(args.seed)
    counts = {"texts": N_TEXTS, "seed": args.seed, "cuts": 0, "gruut": 0, "samples": 0, "differ": []}
    espeak, gruut = EspeakFrontend(), GruutFrontend()
    with tempfile.TemporaryDirectory() as folder:
        tts = TTS(build_tiny_voice(Path(folder) / "tiny"), n_threads=1)
        for number, text in enumerate(itertools.islice(texts(args.seed), N_TEXTS)):
            reading = Reading(
                clause=number % 3 == 0, markup=(None, "markdown", None, "plain")[number // 4 % 4]
            )
            whole = read(espeak, [text], reading)
            by_gruut, said = read(gruut, [text], reading), say(tts, [text], reading)
            for turn in range(args.n // N_TEXTS):
                pieces = pieces_of(text, rng)
                same = read(espeak, iter(pieces), reading) == whole
                counts["cuts"] += 1
                if turn % 10 == 0:
                    same &= read(gruut, iter(pieces), reading) == by_gruut
                    counts["gruut"] += 1
                if turn % 5 == 0:
                    same &= say(tts, rng.choice((list, iter))(pieces), reading) == said
                    counts["samples"] += 1
                # Where it says what has come, it is another text; but nothing may be lost or break.
                read(espeak, itertools.chain(pieces[: turn % 5], [FLUSH], pieces[turn % 5 :]), reading)
                if not same:
                    counts["differ"].append([text, pieces])
            print(f"{number + 1} of {N_TEXTS} texts, {len(counts['differ'])} differ", end="\r", flush=True)
    print()
    if args.out:
        args.out.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
    return int(bool(counts["differ"]))


if __name__ == "__main__":
    raise SystemExit(main())
