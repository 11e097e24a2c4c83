"""The rules of splitting.py, one table; then laws that hold for any text."""
# ruff: noqa: RUF001 - the look-alikes of ASCII are meant

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balacoon_tk.frontend.reading.cleaning import clean_text, has_speech
from balacoon_tk.frontend.reading.lines import WRAPPED_LINE
from balacoon_tk.frontend.reading.reader import read
from balacoon_tk.frontend.reading.source_text import SourceText
from balacoon_tk.frontend.reading.splitting import MAX_SENTENCE_PHONEMES, shorten


def split(text: str) -> list[str]:
    return [sentence.text.text for sentence in read(text)]


TABLE = {
    "plain": "One two. | Three? | Four! | Five",
    "no space, no end": "See a.com or 3.14 at v2.0.1 now.",
    "titles": "Mr. Smith met Dr. Jones and Prof. Ng. | They spoke.",
    "titles of others": "Mme. Curie met Sr. Gomez. | Fine.",
    "latin": "Take fruit, e.g. Apples, i.e. This one. | Good.",
    "initials": "J. R. R. Tolkien met George W. Bush. | Really.",
    "the pronoun is no initial": "So do I. | Then Newton came.",
    "an initial that looks like a pronoun": "I. Newton wrote it. | True.",
    "letters with dots, going on": "The U.S. Army left. | Good.",
    "letters with dots, ending": "He lives in the U.S. | The end.",
    "degrees": "Ann Lee, Ph.D. spoke. | She left.",
    "companies": "Acme Inc. Chief Bob left Acme Inc. | He was tired.",
    "times": "At 5:30 p.m. we left. | At 6 p.m. | Bob came.",
    "numbers": "It cost 3.50. | It is 1,000.5 now. | 5 people came.",
    "words before numbers": "See No. 5 in Fig. 3 on p. 12 of Jan. 5. | Go.",
    "the same words elsewhere": "Is it so? | No. | It isn't.",
    "etc.": "We had tea, etc. and cake. | We had tea etc. | Bob left.",
    "lower case goes on": "It was approx. five or misc. stuff. | OK.",
    "lower case ends after ! and ?": "What? | no way! | fine.",
    "lower case text": "hello there. | how are you? | i'm fine.",
    "lower case text with an abbreviation": "it cost approx. five. | ask mr. smith.",
    "quotes": "“Stop!” he said. | “Why?” | She ran. | 'Go.' | He went.",
    "brackets": "(He left.) | She stayed (why?) and sang.",
    "quoted full stop": '"I know." | He nodded.',
    "ellipsis that ends": "He left... | Then he slept… | Good.",
    "ellipsis that goes on": "Well... maybe… not.",
    "runs": "What?! | No!!! | Hmm....",
    "chinese": "你好。|世界！|再见？|好",
    "japanese": "「こんにちは。」|元気ですか？|はい。",
    "arabic": "كيف حالك؟ | جيد.",
    "hindi": "नमस्ते। | कैसे हो?",
    "armenian": "Բարեւ։ | Ինչպես ես",
    "cyrillic": "Привет, мир. | Как дела? | хорошо.",
    "mixed with digits": "Version 2.0. | It works.",
    "nothing to say between": "One. ... Two. ) ? | Three.",
    "capitals that come later": "hello there. | how are you? | I'm fine.",
    "no space after a question": "Is it?|A fish. | Wow!|that's it. | What?!|Really?",
    "no space after a full stop": "It is over.|Then he left.|I stayed.|It's so.|A fish.|Done. | End.",
    "a word after it that ends the line": "It is over.|Done",
    "addresses": "See www.Google.com, x.y/?a=b, a.b/what?Then or foo?bar=1, a.com!Yes and me@x.y?Z now.",
    "names with dots": "Use Node.js, ASP.NET, file.Name(x), Console.WriteLine, file.name and a_b.Then now.",
    "abbreviations without space": "Mr.Smith, e.g.This, i.e.That, U.S.Army, Ph.D.Students and Inc.The met.",
    "numbers without space": "It is 3.5, v2.Then, 5?Then or 1.000.Then now.",
}
NOT_A_SEPARATOR = {"nothing to say between": ["One.", "Two.", "Three."]}


@pytest.mark.parametrize("name", TABLE)
def test_rule(name: str) -> None:
    row = TABLE[name]
    expected = NOT_A_SEPARATOR.get(name) or [part.strip() for part in row.split("|")]
    assert split(row.replace("|", "")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Title\nFirst Line\n\nNext.", ["Title", "First Line", "Next."]),
        ("a wrapped\nline here", ["a wrapped line here"]),
        (f"{'x' * 60}\nLondon line", [f"{'x' * 60} London line"]),
        (f"{'x' * 59}\nLondon line", ["x" * 59, "London line"]),
        (f"{'long ' * 12}end.\nLondon line", [f"{'long ' * 12}end.", "London line"]),
        ("a wrapped\n\nline here", ["a wrapped", "line here"]),
        ("- one item\n- two items\n* three", ["one item", "two items", "three"]),
        ("# Heading\n> quoted", ["Heading", "quoted"]),
        ("-5 degrees\n-----\n***", ["-5 degrees"]),
        ("你好\n世界", ["你好", "世界"]),
        ("", []),
        (" \n\n ", []),
        ("?! ... —", []),
    ],
)
def test_line_breaks(text: str, expected: list[str]) -> None:
    assert WRAPPED_LINE == 60
    assert split(text) == expected


def test_sentences_come_one_by_one() -> None:
    sentences = read("One two. " * 100_000)
    assert [next(sentences).text.text for _ in range(3)] == ["One two."] * 3


@pytest.mark.parametrize(
    ("sentence", "limit", "parts"),
    [
        ("abcd", 4, ["abcd"]),
        ("abcde", 4, ["ab", "cde"]),
        ("aa bb cc dd", 10, ["aa bb", "cc dd"]),
        ("a, bb cc dd eee", 10, ["a, bb", "cc dd eee"]),
        ("aaaa bb, cc dd ee", 12, ["aaaa bb,", "cc dd ee"]),
        ("1,000 2,000 3,000", 12, ["1,000", "2,000 3,000"]),
        ("你好，世界你好，世界", 6, ["你好，", "世界你好，", "世界"]),
        ("नि" * 5, 8, ["निनि", "निनिनि"]),
        ("... abc", 4, ["abc"]),
        ("", 4, []),
    ],
)
def test_long_sentences_are_cut_at_the_best_place(sentence: str, limit: int, parts: list[str]) -> None:
    assert list(shorten(sentence, limit)) == parts


@pytest.mark.parametrize("n", [1, 2, 3, 599, 600, 601, 1199, 1200, 1201, 10_007])
@pytest.mark.parametrize("unit", ["a", "word ", "some words, ", "你"])
def test_no_sentence_is_longer_than_the_limit(unit: str, n: int) -> None:
    text = (unit * n)[:n].strip()
    parts = split(text)
    assert max(map(len, parts)) <= MAX_SENTENCE_PHONEMES
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")
    if len(text) > MAX_SENTENCE_PHONEMES:
        assert min(map(len, parts)) >= MAX_SENTENCE_PHONEMES // 4, "the parts are about even"


ATOMS = [*"abcXYZ019.!?…。,;'\"()-— \n你", "Mr.", "p.m.", "U.S.", ". The"]
TEXTS = st.lists(st.sampled_from(ATOMS), max_size=60).map("".join)


@given(st.one_of(st.text(max_size=60), TEXTS), st.integers(2, 20))
def test_nothing_to_say_is_lost_or_changes_places(text: str, limit: int) -> None:
    cleaned = clean_text(SourceText(text)).text
    sentences = split(text)
    parts = [part for sentence in sentences for part in shorten(sentence, limit)]
    for pieces in (sentences, parts):
        assert [c for piece in pieces for c in piece if c.isalnum()] == [c for c in cleaned if c.isalnum()]
        assert all(has_speech(piece) and piece == piece.strip() for piece in pieces)
    assert all(len(part) <= limit for part in parts)


def test_splitting_takes_time_in_proportion_to_the_text() -> None:
    # Quadratic rules would need hours for each of these.
    for text in (
        "a" * 2_000_000,
        ". " * 50_000,
        "a" * 100_000,
        "(" * 100_000,
        "Mr. " * 50_000,
        "\n" * 100_000,
        "a\n" * 50_000,
    ):
        sum(map(len, split(text)))
