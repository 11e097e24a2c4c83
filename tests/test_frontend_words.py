"""Which words a sentence has, where the caller wrote them, and which of its phonemes are theirs."""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balacoon_tk.frontend.alignment import word_ranges
from balacoon_tk.frontend.reading.source_text import SourceText
from balacoon_tk.frontend.words import SentenceWords

# What espeak-ng says of two words alone, and of both together, which it joins; a bar parts them by ear.
JOINED = [
    ("ʌv ðˈə", "ʌv|ðə"),
    ("ˈɪn ðˈə", "ɪn|ðə"),
    ("ˈæt ˈeɪ", "æɾ|ə"),
    ("ˈæt wˈʌns", "ɐt|wˈʌns"),
    ("kˈʊd hˈæv", "kˌʊd|ɐv"),
    ("dˈɪd nˈɑːt", "dɪd|nˌɑːt"),
    ("dˈuː nˈɑːt", "duː|nˌɑːt"),
    ("dˈʌz nˈɑːt", "dʌz|nˌɑːt"),
    ("fˈɔːɹ ˈeɪ", "fɚɹ|ə"),
    ("fˈɔːɹ ˈæn", "fɚɹ|ən"),
    ("hˈæd bˈɪn", "hɐd|bɪn"),
    ("nˈoʊ wˈʌn", "nˈoʊ|wˈʌn"),
    ("ˈaʊt ʌv", "ˌaʊɾ|əv"),
    ("ðˈæn ˈæn", "ðˌæn|ən"),
    ("ðˈæt ˈɪt", "ðˌɐɾ|ɪt"),
    ("ðˈɛɹ ˈɑːɹ", "ðɛɹ|ˌɑːɹ"),
    ("ðˈɛɹ wˈʌz", "ðɛɹ|wˌʌz"),
    ("tˈuː bˈiː", "tə|bi"),
    ("wˈʊd hˈæv", "wʊd|hɐv"),
]


@pytest.mark.parametrize(("alone", "together"), JOINED)
def test_words_that_are_joined_are_parted_where_they_meet(alone, together):
    first, second = together.split("|")
    ranges = word_ranges(alone.split(), first + second)
    assert ranges == [(0, len(first)), (len(first), len(first + second))]


@pytest.mark.parametrize(
    ("alone", "said", "parts"),
    [
        (["mˈɔːɹ", "ʌv", "ˈɪt"], "mˈɔːɹ əv ɪt.", ["mˈɔːɹ", "əv", "ɪt"]),
        (["hˈɪɹ", "ˈæz"], "hˈɪɹɹæz", ["hˈɪɹɹ", "æz"]),  # a linking consonant ends the first word
        (["ðə", "ˈænd"], "ðəˈænd", ["ðə", "ˈænd"]),  # a stress begins the second
        (["a", "b"], ", a; b .", ["a", "b"]),
        (["fˈaɪv hˈʌndɹɪd", "bˈiː"], "fˈaɪvhˈʌndɹɪd bˈiː", ["fˈaɪvhˈʌndɹɪd", "bˈiː"]),
        (["wˈʌn", "", "tˈuː"], "wˈʌn tˈuː", ["wˈʌn", "", "tˈuː"]),
        (["wˈʌn", "dˈæʃ", "tˈuː"], "wˈʌn, tˈuː", ["wˈʌn", "", "tˈuː"]),
        ([], "abc", []),
        (["abc"], "", [""]),
        ([""], "abc", ["abc"]),
    ],
)
def test_each_word_has_the_phonemes_in_which_it_is_said(alone, said, parts):
    assert [said[start:stop] for start, stop in word_ranges(alone, said)] == parts


def test_a_symbol_of_several_characters_is_of_one_word():
    assert word_ranges(["da", "ʒa"], ["d", "a", "ʒa"]) == [(0, 2), (2, 3)]
    assert word_ranges(["at", "as"], ["a", "ta", "s"]) == [(0, 2), (2, 3)]


@given(
    st.lists(st.text("aeˈːstŋ ", max_size=6), max_size=6),
    st.lists(st.sampled_from("aeˈː stŋ,."), max_size=30),
)
def test_ranges_follow_one_another_whatever_is_said(words, phonemes):
    ranges = word_ranges(words, phonemes)
    assert len(ranges) == len(words)
    bounds = [bound for each in ranges for bound in each]
    assert bounds == sorted(bounds)
    assert all(0 <= bound <= len(phonemes) for bound in bounds)
    if any(word.strip() for word in words) and any(p not in " ,." for p in phonemes):
        covered = {place for start, stop in ranges for place in range(start, stop)}
        assert {place for place, p in enumerate(phonemes) if p not in " ,."} <= covered


def words_of(text, *rules):
    """Return the words of a sentence that these rules prepared, said by their letters."""
    prepared = SourceText(text, 100)
    for pattern, replacement in rules:
        prepared = prepared.sub(re.compile(pattern), replacement)
    words = SentenceWords(prepared, [], SourceText(text, 100), lambda word, _: word.lower())
    found = words.find(prepared.text.lower())
    for word in found:
        first, last = word.text_span
        assert text[first - 100 : last - 100] == word.text
    return [(word.text, prepared.text[word.start : word.stop]) for word in found]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("So it is.", ["So", "it", "is"]),
        ('He said: "Go (now)!"', ["He", "said", "Go", "now"]),
        ("don't stop, well-known and/or x.y", ["don't", "stop", "well-known", "and/or", "x.y"]),
        ("“Wait…” — she said", ["Wait", "she", "said"]),
        ("In the U.S. at 5 p.m., e.g. Dr. X.", ["In", "the", "U.S.", "at", "5", "p.m.", "e.g.", "Dr", "X"]),
        ("-5 is 50% of $x", ["-5", "is", "50%", "of", "$x"]),
        ("你好，世界。", ["你", "好", "世", "界"]),
        ("2024年 食べる", ["2024", "年", "食", "べる"]),
        ("...", []),
        ("", []),
    ],
)
def test_a_word_stands_between_spaces_without_the_marks_around_it(text, words):
    assert [word for word, _ in words_of(text)] == words


def test_what_comes_from_one_part_of_the_text_is_one_word():
    rule = (r"\$(\d+)", r"\1 dollars")
    assert words_of("It cost $500, or so.", rule) == [
        ("It", "It"),
        ("cost", "cost"),
        ("$500", "500 dollars"),
        ("or", "or"),
        ("so", "so"),
    ]


def test_what_stands_without_a_space_is_one_word_however_it_is_said():
    rules = (r"(?<=\d)%", " percent"), (r"(?<=H)2(?=O)", " 2 "), (r"(?<=a);(?=b)", "; ")
    assert words_of("50% H2O a;b", *rules) == [
        ("50%", "50 percent"),
        ("H2O", "H 2 O"),
        ("a", "a"),
        ("b", "b"),
    ]


def test_a_word_with_marks_inside_is_as_the_caller_wrote_it():
    assert words_of("a *b*c d", (r"\*", "")) == [("a", "a"), ("b*c", "bc"), ("d", "d")]


def test_a_word_of_which_nothing_is_said_has_its_place():
    words = SentenceWords(SourceText("so 你 it"), [], SourceText("so 你 it"), lambda word, _: word)
    assert [(word.text, word.start, word.stop) for word in words.find("so it")] == [
        ("so", 0, 2),
        ("你", 2, 2),
        ("it", 3, 5),
    ]


@settings(max_examples=50)
@given(st.text("ab .,$*5你-", max_size=30))
def test_words_are_in_order_and_never_overlap(text):
    prepared = SourceText(text).sub(re.compile(r"\$(\d)"), r"\1 dollars")
    found = SentenceWords(prepared, [], SourceText(text), lambda word, _: word).find(prepared.text)
    bounds = [bound for word in found for bound in word.text_span]
    assert bounds == sorted(bounds)
    assert all(text[first:last] == word.text for word in found for first, last in [word.text_span])
