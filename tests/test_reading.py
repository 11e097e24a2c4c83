"""Text in pieces: however it is cut, its sentences are those of the whole, and come as early as they can."""
# ruff: noqa: RUF001 - the look-alikes of ASCII are meant

import itertools
import sys
import tracemalloc
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from balacoon_tk.errors import ParameterError
from balacoon_tk.frontend import FLUSH
from balacoon_tk.frontend.reading.cleaning import Cleaner, _begins_anew, clean_text
from balacoon_tk.frontend.reading.reader import DEFAULT_READING, Reader, Reading, read
from balacoon_tk.frontend.reading.source_text import SourceText
from balacoon_tk.frontend.reading.splitting import MAX_SENTENCE_PHONEMES
from balacoon_tk.frontend.reading.transducers import run

# What rules of reading look at, alone and together, and characters that compose or vanish.
ATOMS = [
    *"aAbzXI05.!?…,;:'\"()[]-–—#>*/=@_ \n\r\t\f你好。！",
    *("\u0301", "\u0308", "\u200b", "\u200d", "\u200c", "\u3164", "\ud83d", "\x07", "\u2028", "\u00a0", "😀"),
    *("e\u0301", "క", "\u0c4d", "\u1100", "\u1161", "\u11a8", "가", "\uff0e", "\uff9e", "ﬁ", "\u0338", "ß"),
    *(
        " ",
        " ",
        ". ",
        ".\n",
        "\n\n",
        "Mr.",
        "p.m.",
        "U.S.",
        ". The ",
        ".Then ",
        "?No",
        " then",
        "[[",
        "]]",
        "[[a]]",
    ),
    *("- ", "# ", "word ", "a wrapped line of so many characters that nobody wrote it by hand\n"),
]
PLACES = st.lists(st.integers(0, 10_000), max_size=8)
# Of all atoms, and of a few that so meet more often.
FEW = st.lists(st.sampled_from(ATOMS), min_size=1, max_size=6).flatmap(
    lambda atoms: st.lists(st.sampled_from(atoms), max_size=30)
)
TEXTS = st.one_of(st.lists(st.sampled_from(ATOMS), max_size=40), FEW).map("".join)


def cut(text: str, places: list[int]) -> list[str]:
    places = sorted(place % (len(text) + 1) for place in places)
    return [text[start:stop] for start, stop in itertools.pairwise([0, *places, len(text)])]


def outcome(pieces: object, reading: Reading = DEFAULT_READING) -> list[object]:
    found: list[object] = []
    try:
        for sentence in read(pieces, reading):  # type: ignore[arg-type]
            text = sentence.text
            spans = [text.span(place, place + 1) for place in range(len(text))]
            found.append((text.text, spans, sentence.raws, sentence.controls))
    except ParameterError as error:
        found.append(str(error))
    return found


@settings(max_examples=300, deadline=None)
@given(TEXTS, PLACES, st.booleans())
@example("One\r\nTwo", [], False)  # two that are one
@example("Is it?No-one.x is", [], False)  # a word that isn't over yet
@example("Is a .b over", [], False)  # a mark that may end what is before it
@example("A [_[", [], False)  # brackets that meet where markup goes
def test_sentences_are_those_of_the_whole_text_for_every_cut(
    text: str, places: list[int], clause: bool
) -> None:
    reading = Reading(clause=clause)
    whole = outcome([text], reading)
    assert outcome(cut(text, places), reading) == whole
    assert outcome(list(text), reading) == whole
    if whole and isinstance(whole[-1], str):
        with pytest.raises(ParameterError, match="opens raw phonemes"):
            read(text, reading)
    else:
        assert outcome(text, reading) == whole


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(ATOMS), max_size=8),
    st.integers(1, 300),
    PLACES,
)
def test_long_sentences_are_cut_at_the_same_places_for_every_cut(
    atoms: list[str], n: int, places: list[int]
) -> None:
    text = ("".join(atoms) * n)[: 4 * MAX_SENTENCE_PHONEMES]
    assert outcome(cut(text, places)) == outcome([text])


@settings(max_examples=300, deadline=None)
@given(st.one_of(TEXTS, st.text(max_size=30)), PLACES)
def test_a_text_in_pieces_is_cleaned_as_the_whole(text: str, places: list[int]) -> None:
    text = text.replace("\u3164", "")
    starts = [0, *itertools.accumulate(map(len, cut(text, places)))]
    pieces = [SourceText(piece, start) for piece, start in zip(cut(text, places), starts, strict=False)]
    joined = SourceText.join(run((Cleaner(),), pieces, finish=True))  # type: ignore[arg-type]
    whole = clean_text(SourceText(text))
    assert joined.text == whole.text
    each = range(len(whole))
    assert [joined.span(i, i + 1) for i in each] == [whole.span(i, i + 1) for i in each]


def test_every_character_that_composes_with_one_before_it_is_known() -> None:
    second = {
        parts[1]
        for character in map(chr, range(sys.maxunicode + 1))
        if len(parts := unicodedata.normalize("NFD", character)) > 1
    }
    assert not [character for character in second if _begins_anew(character)]
    reordered = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.combining(c)]
    assert not [character for character in reordered if _begins_anew(character)]


def test_an_accent_changes_nothing_that_is_asked_of_a_letter() -> None:
    for character in map(chr, range(sys.maxunicode + 1)):
        letter = unicodedata.normalize("NFD", character)[0]
        if letter != character and letter.isalnum():
            asked = [(c.isalnum(), c.islower(), c.isdigit(), c.isspace()) for c in (letter, character)]
            assert asked[0] == asked[1], character


@pytest.mark.parametrize(
    ("pieces", "n_needed"),
    [
        (["Hello", " there", ".", " It", " is"], 4),
        (["What", "?", " ", "now"], 4),
        (["你好", "。", "世", "界"], 3),
        (["So it is", ".", " I", " think"], 3),
        (["See No", ".", " 5", " now"], 4),
        (["Title", "\n\n"], 2),
        (["One", ".", FLUSH, "x"], 3),
        (["He met Mr", ".", " Smith", ".", " Then", " he"], 5),
        (["In the U.S", ".", " The", " end"], 4),
        (["over", ".", "Then ", "he"], 4),
    ],
)
def test_a_sentence_comes_with_the_piece_that_completes_it(pieces: list[str], n_needed: int) -> None:
    n_taken = 0

    def come() -> object:
        nonlocal n_taken
        for n_taken, piece in enumerate(pieces, 1):  # noqa: B007 - it is looked at outside
            yield piece

    next(read(come()))  # type: ignore[arg-type]
    assert n_taken == n_needed


def test_flush_says_what_has_come_and_begins_anew() -> None:
    found = [
        sentence.text.text
        for sentence in read(["He is he", "re wi", FLUSH, "th. and so", FLUSH, FLUSH, " on"])
    ]
    assert found == ["He is here wi", "th.", "and so", "on"]
    spans = [sentence.text.span(0, len(sentence.text)) for sentence in read(["ab ", FLUSH, "cd"])]
    assert spans == [(0, 2), (3, 5)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "When it rains out here, we stay home, or not. So",
            ["When it rains out here,", "we stay home, or not.", "So"],
        ),
        (
            "Well, it rains, and we stay. So, as ever, it is",
            ["Well, it rains, and we stay.", "So, as ever, it is"],
        ),
        ("As it costs 1,000,000 euros: no. Oh", ["As it costs 1,000,000 euros:", "no.", "Oh"]),
        ("Mr. Smith of Oslo came - and left.", ["Mr. Smith of Oslo came -", "and left."]),
        (
            "你好，我是一个很长的句子而且没有结束所以，再见。",
            ["你好，我是一个很长的句子而且没有结束所以，", "再见。"],
        ),
        ("It is over now, my dear", ["It is over now, my dear"]),
        ("It is over and done with,", ["It is over and done with,"]),
    ],
)
def test_the_first_clause_is_a_sentence_of_its_own_where_it_is_asked_for(
    text: str, expected: list[str]
) -> None:
    reading = Reading(clause=True)
    assert [sentence.text.text for sentence in read(text, reading)] == expected
    again = [sentence.text.text for sentence in read([text, FLUSH, text], reading)]
    assert again == expected * 2


def test_an_open_bracket_is_refused_at_a_flush_and_what_came_before_is_given() -> None:
    sentences = read(["Well then [[a", FLUSH, "]]"])
    assert next(sentences).text.text == "Well then"
    with pytest.raises(ParameterError, match=r"text\[10:\]='\[\[a' opens"):
        next(sentences)


def test_an_error_of_the_iterable_passes_on_when_all_before_it_was_given() -> None:
    class LineLostError(Exception):
        pass

    def come() -> object:
        yield "One two. Three"
        yield " fo"
        raise LineLostError

    sentences = read(come())  # type: ignore[arg-type]
    assert [next(sentences).text.text for _ in range(2)] == ["One two.", "Three fo"]
    with pytest.raises(LineLostError):
        next(sentences)


@pytest.mark.parametrize(
    ("wrong", "kind"), [(b"x", "bytes"), (None, "NoneType"), (5, "int"), (["x"], "list")]
)
def test_a_piece_that_is_no_text_is_named_when_all_before_it_was_given(wrong: object, kind: str) -> None:
    sentences = read(["So", " it is", wrong, "x"])  # type: ignore[list-item]
    assert next(sentences).text.text == "So it is"
    with pytest.raises(ParameterError, match=rf"text\[2\] is of type {kind} and must be a str, or FLUSH"):
        next(sentences)


@pytest.mark.parametrize("wrong", [None, 5, b"abc", bytearray(b"a")])
def test_what_is_neither_text_nor_pieces_is_refused_at_the_call(wrong: object) -> None:
    with pytest.raises(ParameterError, match="must be a str, or an iterable of str and FLUSH"):
        read(wrong)  # type: ignore[arg-type]


def test_a_generator_is_closed_with_the_sentences() -> None:
    closed = []

    def come() -> object:
        try:
            yield from ["One. Two", " three"]
        finally:
            closed.append(True)

    pieces = come()
    sentences = read(pieces)  # type: ignore[arg-type]
    next(sentences)
    sentences.close()  # type: ignore[attr-defined]
    assert closed == [True]


def test_the_last_sentence_is_known_where_it_can_be() -> None:
    assert [sentence.last for sentence in read("One. Two.\n\n")] == [False, True]
    assert [sentence.last for sentence in read(["One. Two. Thr", "ee. Four"])] == [False, False, False, True]


@pytest.mark.parametrize("unit", ["a", "Mr. ", "a\n", "你。"])
def test_a_text_without_end_needs_memory_for_a_sentence(unit: str) -> None:
    reader = Reader()
    tracemalloc.start()
    try:
        for character in unit * (2_000 // len(unit)):
            for sentence in reader.feed(character):
                assert len(sentence.text) <= MAX_SENTENCE_PHONEMES
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 500_000


@pytest.mark.parametrize("unit", [".", "#", "- ", "(", "\u0301", "\u200b", " .", "[[a]]", "?A"])
def test_pieces_of_a_character_take_time_in_proportion_to_the_text(unit: str) -> None:
    # Quadratic rules would need minutes.
    reader = Reader()
    for character in unit * (10_000 // len(unit)):
        list(reader.feed(character))
    list(reader.finish())
