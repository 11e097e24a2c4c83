"""Numbers, signs, capitals and abbreviations of English: both frontends read them as a person would."""
# ruff: noqa: RUF001 - the look-alikes of ASCII are meant

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balacoon_tk.frontend import EspeakFrontend, Frontend, GruutFrontend
from balacoon_tk.frontend.english import normalizer
from balacoon_tk.frontend.english.normalizer import EnglishNormalizer
from balacoon_tk.frontend.reading.source_text import SourceText
from english_texts import READ, rows
from frontend_sentences import HELD_OUT, SENTENCES

WORDS = {"no", "way", "the", "end", "we", "are", "in", "it", "is", "us", "stop", "a", "am", "fine", "go"}
ESPEAK, GRUUT = EnglishNormalizer(), EnglishNormalizer(lexicon=WORDS)


def frontend(backend: str) -> Frontend:
    pytest.importorskip({"espeak": "piper.espeakbridge", "gruut": "gruut"}[backend])
    return EspeakFrontend() if backend == "espeak" else GruutFrontend()


def sound(speaker: Frontend, text: str) -> str:
    """Return what is heard but for stress, pauses and the weak vowels, which digits and words differ in."""
    said = "".join("".join(sentence.phonemes) for sentence in speaker.phonemize(text))
    said = re.sub("[ˈˌʲː .,;:!?]", "", said).replace("ænd", "and")
    return said.translate(str.maketrans("ᵻəʌɾ", "ɪɐɐt"))


@pytest.mark.filterwarnings("ignore::balacoon_tk.frontend.UnknownWordWarning")
@pytest.mark.parametrize("backend", ["espeak", "gruut"])
def test_what_is_written_is_read_as_a_person_reads_it(backend: str) -> None:
    speaker = frontend(backend)
    wrong = [
        (written, sound(speaker, written), sound(speaker, read))
        for written, read in rows(READ)
        if sound(speaker, written) != sound(speaker, read)
    ]
    assert wrong == []


def test_the_table_is_of_what_backends_misread() -> None:
    changed = [written for written, _ in rows(READ) if ESPEAK(SourceText(written)).text != written]
    assert len(rows(READ)) > 200
    assert len(changed) > 120


# What espeak-ng reads right goes to it as it is, so that phonemes stay those that voices were trained on.
@pytest.mark.parametrize(
    "text",
    [
        *SENTENCES,
        *HELD_OUT,
        "It rose 5.5% to 1,234, or 50 cents, at 10:30.",
        "He came 1st, she 21st, at 5pm, 5 p.m. or 5:30pm.",
        "It was -5 on May 6th, e.g. 90° or 3.14.",
        "Write to joe@example.com, R&D, key=value, C++, 5 + 3.",
        "The USA, NASA, IT and the U.S. Army are at www.example.com.",
        "Version 1.2.3, COVID-19, F-16, 007, 2nd, 2005.",
        "What I know, John knows; when I go, he goes: I am.",
        "Malcolm X took vitamin C, an A VI.",
        'He said "5" and left it at 5\' or so.',
    ],
)
def test_what_espeak_reads_right_is_left_as_it_is(text: str) -> None:
    assert ESPEAK(SourceText(text)).text == text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (
            "5kg, 1 km, 1 ft, 5-km at 20°C",
            "5 kilograms, 1 kilometer, 1 foot, 5 kilometer at 20 degrees Celsius",
        ),
        ("5 mg/kg at 9.8 m/s²", "5 milligrams per kilogram at 9.8 meters per second squared"),
        (
            "the 1990s, '80s, 1900s and 2000s",
            "the nineteen nineties, eighties, nineteen hundreds and two thousands",
        ),
        ("See No. 5, Jan. 3, #2.", "See number 5, January 3rd, number 2."),
        ("He said no. Gen. Lee left Acme Co.", "He said no. general Lee left Acme company."),
        ("12 Elm St. and St. John", "12 Elm Street and St. John"),
        (
            "$1.5M or $20-30k, -$5/day, £0.01",
            "1.5 million dollars or 20 to 30 thousand dollars, minus 5 dollars per day, 1 penny",
        ),
        (
            "On 5/13/2024, 2024-05-06 or 13/5/99",
            "On May 13th, twenty 24, May 6th, twenty 24 or May 13th, nineteen 99",
        ),
        ("2024-13-06 and 99/99/2024", "2024-13-06 and 99/99/2024"),
        ("9am-5pm, 5:30-6:30, 5-10", "9am to 5pm, 5:30 to 6:30, 5 to 10"),
        ("10:00, 10:00 AM, 17:00, 0:05", "10 o'clock, 10 AM, 17 hundred, 0 oh 5"),
        ("1500 users in 1500 and 1500 was", "1500 users in fifteen hundred and fifteen hundred was"),
        ("1066 men in 1066", "1066 men in ten 66"),
        ("3/4, 2 1/2, 5/7/8, 24/7, 11/12", "3 quarters, 2 and a half, 5/7/8, 24 7, 11 twelfths"),
        (
            "5-3=2, 5 * 3, 1e-9, 2^10, x³",
            "5 minus 3=2, 5 times 3, 1 times 10 to the minus 9, 2 to the 10, x cubed",
        ),
        (
            "World War I, Louis XIV, the XIX century, Rocky IV",
            "World War 1, Louis the 14th, the 19th century, Rocky 4",
        ),
        ("XXX, CD, MIX, I, V, an IV, A VI", "XXX, CD, MIX, I, V, an I V, A VI"),
        (
            "II. Methods, Part I, II (III), WWII and WWI",
            "2. Methods, Part 1, 2 (3), World War 2 and World War 1",
        ),
        (
            "King John I saw it; John I saw it, Mary I.",
            "King John the first saw it; John I saw it, Mary the first.",
        ),
        (
            "Elizabeth I was queen of James I's land",
            "Elizabeth the first was queen of James the first's land",
        ),
        ("Part Ivory, World War Ivan, Book IIX", "Part Ivory, World War Ivan, Book IIX"),
        ("Louis XLouis, Henry VX, Part IIII, War IL", "Louis XLouis, Henry VX, Part IIII, War IL"),
        ("a 5'10\" man, a 27\" screen, 5' wide", "a 5 foot 10 man, a 27 inch screen, 5 feet wide"),
        ("call 911 or +44 20 7946 0958", "call 9 1 1 or plus 4 4, 2 0, 7 9 4 6, 0 9 5 8"),
        (
            "200-1500, 256-1024 bytes, +1 2 3, 1024 + 1 = 1025",
            "200 to fifteen hundred, 256 to 1024 bytes, +1 2 3, 1024 + 1 = 1025",
        ),
        ("1521 = 39 * 39 and = 1521", "1521 = 39 times 39 and = 1521"),
        ("(555) 123-4567, 978-3-16-148410-0", "5 5 5, 1 2 3, 4 5 6 7, 978-3-16-148410-0"),
        ("https://www.x.org/a/, http://x.org.", "x.org/a, x.org."),
        ("4K, 10k, 5bn, 3x, 4x4", "4K, 10 thousand, 5 billion, 3 times, 4 by 4"),
        ("IT IS US! THE US WON.", "it IS us! THE US WON."),
        ("WORLD WAR II", "WORLD WAR 2"),
        ("One ===== two ~~~~~, C++", "One   two  , C++"),
        ("٣٤ १२, Louis Ⅳ ①, 5‰", "34 12, Louis the fourth 1, 5 per mille"),
        (
            "747-400, 1-800-FLOWERS, 2-0, 2024-05, 1990-91",
            "747-400, 1-800-FLOWERS, 2 to 0, May twenty 24, nineteen 90 to 91",
        ),
        (
            "1000s, 1990's, mid-1990s, pre-1950, 2000th",
            "thousands, nineteen nineties, mid-nineteen nineties, pre-nineteen 50, 2 thousandth",
        ),
        ("3x4x5, 3 x 4, 0x1F, foo¹, 10⁵", "3 by 4 by 5, 3 by 4, 0x1F, foo¹, 10 to the 5"),
        ('1 kg/m³, 5 ft 10 in, 5" x 7"', "1 kilogram per cubic meter, 5 foot 10, 5 inch x 7 inches"),
        (
            "w/o it, John Lee Jr vs Sgt Lee, Mt. Hood",
            "without it, John Lee junior versus sergeant Lee, mount Hood",
        ),
        ("12:00 noon, Jan 1-5", "12 noon, January 1 to 5"),
        ("$1.234.567", "$1.234.567"),
    ],
)
def test_what_espeak_misreads_is_written_out(text: str, written: str) -> None:
    assert ESPEAK(SourceText(text)).text == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("e.g. Prof. X, i.e. he", "for example professor X, that is he"),
        ("St. John of Elm St. left", "Saint John of Elm Street left"),
        ("naïve Straße Łódź", "naive Strasse Lodz"),
        ("joe@example.com and/or x=½", "joe at example dot com and slash or x equals one half "),
        ("1234567890123 at 1st, 007", "1 2 3 4 5 6 7 8 9 0 1 2 3 at 1st, 0 0 7"),
        ("WORD and HTML", "word and HTML"),
        ("THIS IS A WORD", "this is A word"),
        ("NO WAY! NASA AND THE USA", "no way! nasa and the USA"),
        ("NO!", "no!"),
        ("IT! US! I said NO WAY, 5 AM", "IT! US! I said NO WAY, 5 AM"),
        ("at 5pm or 6 a.m. −7", "at 5pm or 6 A.M. -7"),
        ("on 5/6/2020, 1/2 or 11/13", "on May 6th, twenty 20, one half or 11 slash 13"),
        ("v1.2.3 at 5:30, 17:30, 5:99 or 1:2:3", "v 1 point 2 point 3 at 5:30, 17 30, 5 99 or 1 2 3"),
        ("٣٤ १२ 1,234 2.50 5,6", "34 12 one thousand two hundred thirty-four two point 5 0 5, 6"),
        ("3rd-party #tag a|b", "3rd party hashtag tag a b"),
        (
            "Ⅳ, ①, 1/2/3, π, 5 Ω, ∞, №5, πάντα",
            "IV, 1, 1 slash 2 slash 3, pi , 5 ohms , infinity , number 5, πάντα",
        ),
        ("Untouched, isn't it?", "Untouched, isn't it?"),
    ],
)
def test_what_gruut_misreads_is_written_out(text: str, written: str) -> None:
    lexicon = {*WORDS, "word", "this", "and", "nasa"}
    found = EnglishNormalizer(lexicon=lexicon)(SourceText(text)).text
    assert " ".join(found.split()) == " ".join(written.split())


def test_elsewhere_the_day_comes_first() -> None:
    date = SourceText("5/6/2024, 5/13/2024")
    assert EnglishNormalizer("en-gb")(date).text == "June 5th, twenty 24, May 13th, twenty 24"
    assert EnglishNormalizer("en-us")(date).text == "May 6th, twenty 24, May 13th, twenty 24"


@pytest.mark.parametrize("normalize", [ESPEAK, GRUUT])
def test_what_is_written_out_stays(normalize: EnglishNormalizer) -> None:
    for written, _ in rows(READ):
        once = normalize(SourceText(written))
        assert normalize(SourceText(once.text)).text == once.text, written


def test_each_word_knows_what_it_stands_for() -> None:
    text = "He paid $3.50 on May 6, didn't he?"
    written = ESPEAK(SourceText(text))
    for word, stands_for in [("cents", "$3.50"), ("6th", "May 6"), ("he", "he"), ("paid", "paid")]:
        start = written.text.rindex(word)
        first, last = written.span(start, start + len(word))
        assert text[first:last] == stands_for


_PIECES_OF_TEXT = """\
a The NASA IT I V X World War vs. etc. Jr. $5 $ 5kg 5 1999 1/2 10:30 -5 é ½ ² # & @ % ( ) " ' , . ; : ! ? / -
x
"""
_PIECES = st.sampled_from([*_PIECES_OF_TEXT.split(), " ", " ", ""])


@settings(max_examples=150)
@given(st.lists(_PIECES, max_size=10).map("".join) | st.lists(_PIECES, max_size=10).map(" ".join))
def test_no_rule_changes_what_is_taken_for_plain(text: str) -> None:
    for normalize in (ESPEAK, GRUUT):
        assert normalize(SourceText(text)).text == normalize._apply_rules(SourceText(text)).text


_ODD_PIECES = """\
Louis War The XIV VX I L 1 12 1,000 5.5 $ € £ 1e 1/2 ½ ² ^1 ' " - – ( ) http:// a@ St. Jr. # < ~ 00th 0s May
Jan. mg/ x 12:30 99 911 call +1 é A AA . , : ; !
"""


@settings(max_examples=200)
@given(st.lists(st.sampled_from([*_ODD_PIECES.split(), " ", " "]), max_size=20).map("".join))
def test_any_digits_and_signs_are_survived(text: str) -> None:
    for normalize in (ESPEAK, GRUUT):
        written = normalize(SourceText(text))
        assert all(0 <= a <= b <= len(text) for a, b in [written.span(i, i + 1) for i in range(len(written))])


@pytest.mark.parametrize(
    "unit", ["1,", "$", "5-", "1 ", "I", "'", "1000th", "1 1/2 ", "+1 ", "(1", "May 1", "X "]
)
def test_no_rule_tries_all_ways_to_share_out_a_text(unit: str) -> None:
    # It would need minutes for this.
    for normalize in (ESPEAK, GRUUT):
        assert normalize(SourceText((unit * 600)[:600])).text


def test_looking_once_at_a_plain_sentence_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise AssertionError("a plain sentence needs no rule")

    monkeypatch.setattr(normalizer, "apply_rules", fails)
    for sentence in [*SENTENCES, *HELD_OUT]:
        assert ESPEAK(SourceText(sentence)).text == sentence
