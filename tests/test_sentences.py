"""The packaged sentences, and files of the same form."""

import re

import pytest

from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics import hard_sentences, plain_sentences, read_sentences
from balacoon_tk.metrics.sentences import check_sentences


def test_there_are_a_hundred_plain_sentences_from_one_word_to_forty() -> None:
    sentences = plain_sentences()
    lengths = [len(sentence.split()) for sentence in sentences]
    assert len(set(sentences)) == len(sentences) >= 100
    assert (min(lengths), max(lengths)) == (1, 40)
    assert all(any(low <= n < low + 5 for n in lengths) for low in range(1, 40, 5)), "of every length"


def test_plain_sentences_hold_letters_and_simple_punctuation_only() -> None:
    for sentence in plain_sentences():
        assert re.fullmatch(r"[A-Za-z ,']+[.?!]", sentence), sentence


def test_hard_sentences_are_apart_and_of_every_kind() -> None:
    kinds = hard_sentences()
    assert {"numbers", "abbreviations", "names", "tongue twisters", "punctuation"} <= set(kinds)
    every = [sentence for sentences in kinds.values() for sentence in sentences]
    assert len(set(every)) == len(every) >= 30
    assert not set(every) & set(plain_sentences())
    assert all(any(c.isdigit() for c in sentence) for sentence in kinds["numbers"][:6])


def test_a_file_has_a_sentence_a_line(tmp_path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("\ufeff# a comment\nOne.\n\n  Two words.  \r\n", encoding="utf-8")
    assert read_sentences(path) == ("One.", "Two words.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must hold at least one sentence"),
        (b"# nothing\n\n", "must hold at least one sentence"),
        (b"abc\xe9", "must be UTF-8, but byte 3 is 0xe9"),
    ],
)
def test_a_file_without_sentences_is_refused(tmp_path, content, message) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(ParameterError, match=rf"list\.txt: {message}"):
        read_sentences(path)


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        ([], "sentences must hold at least one sentence"),
        ("Hello there.", "sentences='Hello there.' must be a sequence of str, not one str"),
        (["One.", " "], r"sentences\[1\]=' ' must be a str with something to say"),
        (["One.", 2], r"sentences\[1\]=2 must be a str"),
    ],
)
def test_what_is_no_list_of_sentences_is_refused(sentences, message) -> None:
    with pytest.raises(ParameterError, match=message):
        check_sentences(sentences)
