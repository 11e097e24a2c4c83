"""Marks without space between words are pauses; numbers, addresses and well-spaced text stay as they are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balacoon_tk.frontend import EspeakFrontend, GruutFrontend
from balacoon_tk.frontend.reading.cleaning import is_plain
from balacoon_tk.frontend.reading.source_text import SourceText
from balacoon_tk.frontend.spacing import space_marks
from frontend_sentences import HELD_OUT, SENTENCES

TABLE = [
    ("is it?A fish", "is it? A fish"),
    ("call(me)now", "call (me) now"),
    ("word[1] and x{y}z", "word [1] and x {y} z"),
    ("a;b", "a; b"),
    ("one:two", "one: two"),
    ("Yes,no.", "Yes, no."),
    ("Yes,5 and 5,six", "Yes, 5 and 5, six"),
    ("wow!(yes)", "wow! (yes)"),
    ("etc.,and", "etc., and"),
    ("end).Then", "end). Then"),
    ('he said,"go"', 'he said, "go"'),
    ('he said"no"to me', 'he said "no" to me'),
    ('"Go!"he said', '"Go!" he said'),
    ("你好,世界", "你好, 世界"),
]
UNCHANGED = [
    *SENTENCES,
    *HELD_OUT,
    "See example.com, x.com/a?b=c,d:e and http://x.y/a!b;c now.",
    "joe@x.com:5, 3.5, 1,000, 10:30, 5:30pm",
    "e.g. this, U.S. that, don't, and/or, C++, key=value, std::vector",
    "EU:n and USA:s, file(s), 401(k), (very) good [sic] {so}.",
    "\"Yes,\" he said, 'no.' (Why?) “Well.”",
]


@pytest.mark.parametrize(("text", "spaced"), TABLE)
def test_a_mark_without_space_gets_one(text: str, spaced: str) -> None:
    assert space_marks(SourceText(text)).text == spaced
    assert space_marks(SourceText(spaced)).text == spaced


@pytest.mark.parametrize("text", UNCHANGED)
def test_what_is_well_spaced_stays(text: str) -> None:
    assert space_marks(SourceText(text)).text == text


@pytest.mark.parametrize("make", [EspeakFrontend, GruutFrontend])
def test_frontends_read_it_as_if_it_were_well_spaced(make: type[EspeakFrontend | GruutFrontend]) -> None:
    pytest.importorskip({"EspeakFrontend": "piper.espeakbridge", "GruutFrontend": "gruut"}[make.__name__])
    frontend = make()

    def said(text: str) -> str:
        # Well spaced, some are two sentences; inside of one a full stop is no pause.
        return " ".join("".join(sentence.phonemes) for sentence in frontend.phonemize(text)).replace(".", "")

    for text, spaced in TABLE[:-1]:
        assert said(text) == said(spaced)
    assert "," in said("Yes,no.")


_TEXTS = st.text(st.sampled_from("aB1 .,;:!?()[]\"'/@é"), max_size=20)


@settings(max_examples=200)
@given(_TEXTS)
def test_only_spaces_come_in_and_a_plain_text_needs_none(text: str) -> None:
    spaced = space_marks(SourceText(text))
    assert spaced.text.replace(" ", "") == text.replace(" ", "")
    assert not is_plain(text) or spaced.text == text
    for place, character in enumerate(spaced.text):
        first, last = spaced.span(place, place + 1)
        assert character == " " or text[first:last] == character
