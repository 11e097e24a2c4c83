"""Text to phonemes: what stands between a person's text and the encoder, in time to first audio."""

import random
import statistics
import subprocess
import sys
import time

import pytest

from balacoon_tk.frontend import CharacterFrontend, EspeakFrontend, GruutFrontend, PhonemeMap
from balacoon_tk.frontend.preparation import Preparation
from balacoon_tk.frontend.reading.reader import read
from frontend_sentences import HELD_OUT, SENTENCES
from speed.texts import TEXTS

N_PHONEMES = 60
SENTENCE = "The quick brown fox jumps over the lazy dog near a river."
PARAGRAPH = " ".join(SENTENCES[:10])
TEN_MINUTES = " ".join([*SENTENCES, *HELD_OUT] * 2)

N_ROUNDS = 200

FRONTENDS = {"espeak": EspeakFrontend, "gruut": GruutFrontend, "text": CharacterFrontend}
PACKAGES = {"espeak": "piper.espeakbridge", "gruut": "gruut", "text": "balacoon_tk"}


@pytest.fixture(params=FRONTENDS)
def frontend(request):
    pytest.importorskip(PACKAGES[request.param])
    return FRONTENDS[request.param]()


def test_sentence(benchmark, frontend):
    (sentence,) = frontend.phonemize(SENTENCE)
    assert abs(len(sentence.phonemes) - N_PHONEMES) <= 6
    benchmark.extra_info["n_phonemes"] = len(sentence.phonemes)
    assert benchmark(lambda: list(frontend.phonemize(SENTENCE))) == [sentence]


def test_paragraph(benchmark, frontend):
    sentences = list(frontend.phonemize(PARAGRAPH))
    assert [sentence.text for sentence in sentences] == SENTENCES[:10]
    benchmark.extra_info["n_phonemes"] = sum(len(sentence.phonemes) for sentence in sentences)
    assert benchmark(lambda: list(frontend.phonemize(PARAGRAPH))) == sentences


def test_first_sentence_of_ten_minutes(benchmark, frontend):
    first = benchmark(lambda: next(frontend.phonemize(TEN_MINUTES)))
    assert first.text == SENTENCES[0]


# What plain sentences, and others, take before any backend sees them.
@pytest.mark.parametrize(
    ("text", "n_sentences"),
    [
        pytest.param(SENTENCE, 1, id="plain"),
        pytest.param("He paid $3.50 on May 6, 1999 for 5 kg of World War II, didn't he?", 1, id="numbers"),
        pytest.param("The **quick** brown [fox](http://x.y/z) jumps—over “the” lazy dog…", 1, id="marks"),
    ],
)
def test_reading_and_rules(benchmark, text, n_sentences):
    prepare = Preparation("en-us")
    assert len(benchmark(lambda: [prepare(sentence.text) for sentence in read(text)])) == n_sentences


@pytest.mark.parametrize("name", FRONTENDS)
def test_first_use(benchmark, name):
    """Time a new process from making the frontend to its first phonemes; Python's own start is left out."""
    pytest.importorskip(PACKAGES[name])
    made = FRONTENDS[name].__name__
    code = (
        f"import time; from balacoon_tk.frontend import {made}; start = time.perf_counter(); "
        f"print(len(next({made}().phonemize({SENTENCE!r})).phonemes), time.perf_counter() - start)"
    )

    def first_use():
        output = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, text=True
        ).stdout
        n_phonemes, seconds = output.split()
        assert abs(int(n_phonemes) - N_PHONEMES) <= 6
        return float(seconds)

    times = []
    benchmark.pedantic(lambda: times.append(first_use()), rounds=3)
    benchmark.extra_info["first_use_s"] = sorted(times)[len(times) // 2]


@pytest.mark.parametrize("again", [True, False], ids=["again", "new"])
@pytest.mark.parametrize("key", ["60", "200", "440"])
def test_plain_english_against_gruuts_parser(benchmark, key, again):
    """A sentence is read with and without gruut's tree, in turn: the same one again, or a new one each time.

    A new one begins as the text does, which is what decides whether it must be tagged, and goes on in words
    that other sentences had.
    """
    pytest.importorskip("gruut")
    frontend = GruutFrontend()
    processor = frontend._processor
    readers = {"plain": processor._plain, "parsed": None}
    first, *rest = TEXTS[key].rstrip("?.").split()
    rng, words = random.Random(0), sorted({word.strip(".,;?!").lower() for word in TEN_MINUTES.split()})
    times, order = {name: [] for name in readers}, list(readers)

    def pair():
        text = TEXTS[key] if again else f"{first} {' '.join(rng.sample(words, len(rest)))}."
        read = {}
        order.reverse()
        for name in order:
            processor._plain = readers[name]
            start = time.perf_counter()
            read[name] = list(frontend.phonemize(text))
            times[name].append(time.perf_counter() - start)
        assert read["plain"] == read["parsed"]

    try:
        benchmark.pedantic(pair, rounds=N_ROUNDS)
    finally:
        processor._plain = readers["plain"]
    benchmark.extra_info.update({f"{name}_s": statistics.median(times[name]) for name in readers})
    benchmark.extra_info["ratio"] = statistics.median(
        plain / parsed for plain, parsed in zip(times["plain"], times["parsed"], strict=True)
    )


def test_ids(benchmark):
    (sentence,) = CharacterFrontend().phonemize(SENTENCE)
    symbols = ["_", "^", "$", *sorted(set(sentence.phonemes))]
    phoneme_map = PhonemeMap({symbol: [index] for index, symbol in enumerate(symbols)})
    encoded = benchmark(lambda: phoneme_map.encode(sentence.phonemes))
    assert len(encoded.phoneme_ids) == 2 * len(sentence.phonemes) + 3
