"""Where rewritten characters came from."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balacoon_tk.frontend.reading.source_text import SourceText

_DOLLARS = re.compile(r"\$(\d+)")


def test_a_replacement_stands_for_all_that_it_replaces() -> None:
    text = SourceText("I paid $50, twice.").sub(_DOLLARS, r"\1 dollars")
    assert text.text == "I paid 50 dollars, twice."
    assert text.span(7, 9) == text.span(10, 17) == (7, 10)
    assert text.span(17, 18) == (10, 11)
    assert text.span(0, len(text)) == (0, 18)


def test_a_pattern_that_changes_nothing_leaves_the_text_as_it_is() -> None:
    text = SourceText("plain")
    assert text.sub(re.compile("z"), "") is text
    assert text.sub(re.compile("p"), "p") is text


def test_parts_that_are_joined_keep_their_places() -> None:
    first, second = SourceText("ab"), SourceText("cd", 7)
    joined = first + second
    assert joined.text == "abcd"
    assert joined.span(1, 3) == (1, 8)
    assert (SourceText("ab") + SourceText("cd", 2)).span(0, 4) == (0, 4)


def test_a_place_without_characters() -> None:
    text = SourceText("a$1b").sub(_DOLLARS, "")
    assert text.span(1, 1) == (3, 3)
    assert text.span(2, 2) == (4, 4)


def test_a_step_is_refused() -> None:
    with pytest.raises(ValueError, match="step=2 must be 1"):
        SourceText("abc")[::2]


@given(st.text("a $1"), st.integers(0, 5), st.integers(0, 8), st.integers(0, 8))
def test_what_was_not_replaced_stands_where_it_stood(source: str, start: int, first: int, last: int) -> None:
    text = SourceText(source, start).sub(_DOLLARS, "euros")[first:last].strip()
    for place, character in enumerate(text.text):
        begin, end = text.span(place, place + 1)
        own = source[begin - start : end - start]
        assert own == character or _DOLLARS.fullmatch(own)


@given(st.text("ab \u00a0", max_size=8), st.integers(0, 5), st.booleans())
def test_a_character_for_a_character_changes_no_place(source: str, start: int, moved: bool) -> None:
    text = SourceText(source, start)
    if moved:
        text = text.sub(re.compile("^a"), "")
    spaced = text.sub(re.compile("\u00a0"), " ")
    assert spaced.text == text.text.replace("\u00a0", " ")
    for place in range(len(text)):
        assert spaced.span(place, place + 1) == text.span(place, place + 1)


@given(st.lists(st.text("ab", max_size=3), max_size=4), st.booleans())
def test_joining_is_adding_one_after_another(parts: list[str], apart: bool) -> None:
    starts = [(4 if apart else 0) * index + sum(map(len, parts[:index])) for index in range(len(parts))]
    texts = [SourceText(part, start) for part, start in zip(parts, starts, strict=True)]
    joined, added = SourceText.join(texts), SourceText("")
    for text in texts:
        added += text
    assert joined.text == added.text
    for place in range(len(joined)):
        assert joined.span(place, place + 1) == added.span(place, place + 1)
