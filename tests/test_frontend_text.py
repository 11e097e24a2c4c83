"""Cleaning, punctuation and raw phonemes: what happens to a text before any backend sees it."""
# ruff: noqa: RUF001 - the look-alikes of ASCII are meant

import tracemalloc
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balacoon_tk.errors import ParameterError
from balacoon_tk.frontend import MAX_TEXT, CharacterFrontend
from balacoon_tk.frontend.reading import cleaning
from balacoon_tk.frontend.reading.cleaning import Cleaner, has_speech, is_plain
from balacoon_tk.frontend.reading.raw_phonemes import (
    MAX_RAW_PHONEMES,
    RAW_MARK,
    RawPhonemes,
    restore_raw_phonemes,
)
from balacoon_tk.frontend.reading.reader import read
from balacoon_tk.frontend.reading.source_text import SourceText
from balacoon_tk.frontend.reading.transducers import run


def clean_text(text: str) -> str:
    return cleaning.clean_text(SourceText(text)).text


def plain_punctuation(sentence: str) -> str:
    return cleaning.plain_punctuation(SourceText(sentence)).text


def mark_raw_phonemes(text: str) -> tuple[str, list[str]]:
    phonemes = RawPhonemes()
    items = list(run((phonemes, Cleaner()), [SourceText(text)], finish=True))
    return "".join(item.text for item in items if isinstance(item, SourceText)), list(phonemes.raws)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("plain text.\nTwo lines.", "plain text.\nTwo lines."),
        ("a\u00a0b\u2003c\td", "a b c d"),
        ("a\r\nb\rc\u2028d\x85e", "a\nb\nc\nd\ne"),
        ("one\u2029two\fthree", "one\n\ntwo\n\nthree"),
        ("con\x00tr\x07ol\x1b", "control"),
        ("zero\u200bwidth\ufeff, soft\u00adhyphen", "zerowidth, softhyphen"),
        ("bidi \u202eabc\u202c", "bidi abc"),
        ("half a pair \ud83d", "half a pair "),
        ("private \ue000\U000f0000", "private "),
        ("Hi 😀!", "Hi!"),
        ("family 👨‍👩‍👧 flag 🇩🇪 thumb 👍🏽 heart ❤️", "family flag thumb heart "),
        ("key 1️⃣", "key 1"),
        ("20 °C, №5, ™ stay", "20 °C, №5, ™ stay"),
        ("Ｆｕｌｌ ｗｉｄｔｈ １２．５", "Full width 12.5"),
        ("你好。世界！", "你好。世界！"),
        ("ﬁne 𝐛𝐨𝐥𝐝", "fine bold"),
        ("cafe\u0301", "café"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("क\u094d\u200dष", "क\u094d\u200dष"),
        ("stray\u200d joiner", "stray joiner"),
        ("Quoi ? Oui !", "Quoi? Oui!"),
        ("costs .5 or more", "costs .5 or more"),
        ("fillers \u3164\u115f", "fillers "),
        ("\ufffd", " "),
    ],
)
def test_cleaning_leaves_what_is_said(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


@given(st.text())
def test_cleaned_text_has_no_control_characters_and_is_composed(text: str) -> None:
    cleaned = clean_text(text)
    assert not [c for c in cleaned if unicodedata.category(c)[0] == "C" and c not in "\n\u200c\u200d"]
    assert RAW_MARK not in cleaned
    assert "  " not in cleaned


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"])))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)


@pytest.mark.parametrize("text", [" a", "a ", "a  b", "a\n", "a\nb", "a .", "a . b", "a ,b", "a\tb"])
def test_a_text_that_cleaning_may_change_is_not_plain(text: str) -> None:
    assert not is_plain(text)


@given(st.text(st.sampled_from("aB0 .,!?;:\"'()-\n"), max_size=30))
def test_a_plain_text_is_what_the_rules_would_leave(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleaning, "is_plain", lambda text: False)
        cleaned = clean_text(text)
    assert clean_text(text) == cleaned
    assert is_plain(text) <= (cleaned == text)


@pytest.mark.parametrize("text", ["", " \n", "...", "?! —", "()", "_", "$ %"])
def test_no_speech_in(text: str) -> None:
    assert not has_speech(text)


@pytest.mark.parametrize("text", ["a", "1", "你", "٣", "½", "Ⅷ"])
def test_speech_in(text: str) -> None:
    assert has_speech(text)


@pytest.mark.parametrize(
    ("sentence", "plain"),
    [
        ("", ""),
        ("Plain, isn't it?", "Plain, isn't it?"),
        ("你好，世界。", "你好, 世界."),
        ("真的吗？！", "真的吗?"),
        ("مرحبا، كيف حالك؟", "مرحبا, كيف حالك?"),
        ("नमस्ते।", "नमस्ते."),
        ("“It’s «fine»”", '"It\'s "fine""'),
        ("well... no", "well, no"),
        ("well… no…", "well, no."),
        ("wait … what...", "wait, what."),
        ("yes — no", "yes; no"),
        ("yes—no", "yes; no"),
        ("yes – no, pages 5–10", "yes; no, pages 5–10"),
        ("yes -- no, well-known", "yes; no, well-known"),
        ("— Hello", "Hello"),
        ("What?!? No!!!", "What? No!"),
        ("Yes,...", "Yes."),
        ("wait, — no", "wait; no"),
        ("at 5 a.m., or .5 later", "at 5 a.m., or .5 later"),
        ("3,000.5 at 10:30", "3,000.5 at 10:30"),
    ],
)
def test_punctuation_becomes_plain(sentence: str, plain: str) -> None:
    assert plain_punctuation(sentence) == plain


@pytest.mark.parametrize("marks", ["...", ". ", "…", "..-", "?!", "! ", "- ", "—", ", .", ";,"])
def test_punctuation_takes_time_in_proportion_to_the_text(marks: str) -> None:
    # A rule that tries every way to share out three hundred dots needs ten seconds.
    assert len(plain_punctuation(marks * (600 // len(marks)) + "a")) <= 601


@pytest.mark.parametrize(
    ("text", "marked", "raws"),
    [
        ("none", "none", []),
        ("Hello [[wˈɜːld]] again.", "Hello | again.", ["wˈɜːld"]),
        ("[[a]][[b]]", "||", ["a", "b"]),
        ("[[]]", "|", [""]),
        ("[[a\n  b]]", "|", ["a b"]),
        ("un[[ə]]able", "un|able", ["ə"]),
        ("x[y[0]] stays", "x[y[0]] stays", []),
        ("[[[a]]]", "|]", ["[a"]),
        ("emoji 😀 out, [[😀]] in", "emoji out, | in", ["😀"]),
    ],
)
def test_raw_phonemes_travel_as_one_mark(text: str, marked: str, raws: list[str]) -> None:
    assert mark_raw_phonemes(text) == (marked.replace("|", RAW_MARK), raws)


@given(st.lists(st.text(st.sampled_from("ab ˈ.")), max_size=4), st.text(st.sampled_from("xyz. "), max_size=5))
def test_raw_phonemes_are_restored(raws: list[str], between: str) -> None:
    text = between.join(f"[[{raw}]]" for raw in raws)
    marked, found = mark_raw_phonemes(text)
    assert mark_raw_phonemes(restore_raw_phonemes(marked, found)) == (marked, found)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[[", r"text\[0:\]='\[\[' \(line 1\)"),
        ("Hello [[wˈɜːld again", r"text\[6:\]='\[\[wˈɜːld again' \(line 1\) .* must close them"),
        ("one\n[[ok]]\nthree [[", r"text\[17:\]='\[\[' \(line 3\)"),
        ("[[a [[b]]", r"text\[0:\]='\[\[a \[\[b\]\]'"),
        (
            "[[" + "a" * (MAX_RAW_PHONEMES + 1) + "]]",
            r"text\[0:\].* within MAX_RAW_PHONEMES=10000 characters",
        ),
    ],
)
def test_raw_phonemes_that_are_never_closed_are_refused(text: str, match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        read(text)
    with pytest.raises(ParameterError, match=match.partition("=")[0]):
        list(read(iter(text)))


def test_raw_phonemes_may_be_as_long_as_is_said() -> None:
    raw = "a" * MAX_RAW_PHONEMES
    assert [sentence.raws for sentence in read(f"[[{raw}]]")] == [[raw]]


def test_a_text_of_weeks_is_refused() -> None:
    with pytest.raises(ParameterError, match="text of 10000001 characters must have at most MAX_TEXT=10"):
        CharacterFrontend().phonemize("a" * (MAX_TEXT + 1))


@pytest.mark.parametrize("text", ["Six words. " * 10_000, "a" * 300_000, "é" * 100_000])
def test_a_long_text_needs_memory_for_a_few_copies_of_it(text: str) -> None:
    tracemalloc.start()
    try:
        n_phonemes = sum(len(sentence.phonemes) for sentence in CharacterFrontend().phonemize(text))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert n_phonemes > len(text) * 0.9
    # Characters take one to four bytes; beside the text's copies nothing grows.
    assert peak < 4 * 4 * len(text) + 500_000


def test_text_must_be_a_str() -> None:
    with pytest.raises(ParameterError, match="text=b'bytes' must be a str"):
        read(b"bytes")  # type: ignore[arg-type]
