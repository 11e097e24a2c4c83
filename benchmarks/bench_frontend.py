"""Text to phonemes: what stands between a person's text and the encoder, in time to first audio."""

import subprocess
import sys

import pytest

from balacoon_tk.frontend import CharacterFrontend, EspeakFrontend, GruutFrontend, PhonemeMap
from frontend_sentences import HELD_OUT, SENTENCES

N_PHONEMES = 60
SENTENCE = "The quick brown fox jumps over the lazy dog near a river."
PARAGRAPH = " ".join(SENTENCES[:10])
TEN_MINUTES = " ".join([*SENTENCES, *HELD_OUT] * 2)

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


def test_ids(benchmark):
    (sentence,) = CharacterFrontend().phonemize(SENTENCE)
    symbols = ["_", "^", "$", *sorted(set(sentence.phonemes))]
    phoneme_map = PhonemeMap({symbol: [index] for index, symbol in enumerate(symbols)})
    encoded = benchmark(lambda: phoneme_map.encode(sentence.phonemes))
    assert len(encoded.phoneme_ids) == 2 * len(sentence.phonemes) + 3
