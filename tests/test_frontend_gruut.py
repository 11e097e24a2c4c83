"""gruut: no GPL, and nearly the phonemes that voices learnt from espeak-ng.

Disagreement is the Levenshtein distance between the phonemes of both backends, as a share of
espeak-ng's. gruut as it comes: 8.4 % on SENTENCES, 8.9 % on HELD_OUT. With its breaks written as
punctuation: 4.4 and 5.2 %. With the rules of english/joins.py: 0.12 and 0.39 %.
"""
# ruff: noqa: RUF001 - the look-alikes of ASCII are meant

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.frontend import EspeakFrontend, GruutFrontend, UnknownWordWarning
from balacoon_tk.frontend.backends import gruut as gruut_module
from balacoon_tk.frontend.backends.gruut_plain import Lexicon, SpokenWord
from balacoon_tk.frontend.english.joins import join_english
from balacoon_tk.frontend.naming import MAX_NAMED
from frontend_sentences import HELD_OUT, SENTENCES, in_threads

pytest.importorskip("gruut")


@pytest.fixture(scope="module")
def frontend() -> GruutFrontend:
    return GruutFrontend()


def spoken(frontend: GruutFrontend, text: str) -> list[str]:
    return ["".join(sentence.phonemes) for sentence in frontend.phonemize(text)]


def distance(a: Sequence[str], b: Sequence[str]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[:], i
        for j, y in enumerate(b, 1):
            row[j] = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (x != y))
    return row[-1]


@pytest.mark.parametrize(("sentences", "limit"), [(SENTENCES, 0.002), (HELD_OUT, 0.005)])
def test_gruut_agrees_with_espeak(frontend: GruutFrontend, sentences: list[str], limit: float) -> None:
    pytest.importorskip("piper.espeakbridge")
    reference = EspeakFrontend("en-us")
    wrong = n_phonemes = 0
    for text in sentences:
        (expected,), (found,) = reference.phonemize(text), frontend.phonemize(text)
        assert found.text == expected.text
        wrong += distance(found.phonemes, expected.phonemes)
        n_phonemes += len(expected.phonemes)
    assert wrong / n_phonemes < limit


def test_distance_counts_edits() -> None:
    assert [distance("abc", b) for b in ("abc", "ac", "axc", "", "cba")] == [0, 1, 1, 3, 2]


@pytest.mark.parametrize(
    ("text", "phonemes"),
    [
        ("Hello [[wˈɜːld]] again.", ["həlˈoʊ wˈɜːld ɐɡˈɛn."]),
        ("[[həlˈoʊ]], world!", ["həlˈoʊ, wˈɜːld!"]),
        (
            "Mr. Smith came, at last; or not: who knows?",
            ["mˈɪstɚ smˈɪθ kˈeɪm, æt lˈæst; ɔːɹ nˌɑːt: hˌuː nˈoʊz?"],
        ),
        ("“Stop!” he said.", ["stˈɑːp! hiː sˈɛd."]),
        ("He left at 5 p.m. Go to B.", ["hiː lˈɛft æt fˈaɪv pˌiːʲˈɛm.", "ɡˌoʊ tə bˈiː."]),
        ("The USA, NASA and the FBI", ["ðə jˌuːˌɛsˈeɪ, nˈæsɐ ænd ðɪʲ ˌɛfbˌiːʲˈaɪ"]),
        ("HELLO WORLD", ["həlˈoʊ wˈɜːld"]),
        ("It costs $3.50.", ["ɪt kˈɔsts θɹˈiː dˈɑːlɚz fˈɪfti sˈɛnts."]),
        ("I read it.", ["aɪ ɹˈɛd ɪt."]),
        ("On 5/6/2020.", ["ˌɔn mˈeɪ sˈɪksθ, twˈɛnti twˈɛnti."]),
    ],
)
def test_english_is_written_as_espeak_writes_it(
    frontend: GruutFrontend, text: str, phonemes: list[str]
) -> None:
    assert spoken(frontend, text) == phonemes


@pytest.mark.parametrize("text", ["", "...", "😀", "\x00", "$", "— ?"])
def test_text_with_nothing_to_say_gives_no_sentence(frontend: GruutFrontend, text: str) -> None:
    assert spoken(frontend, text) == []


def test_words_of_other_scripts_are_left_out_and_named_once() -> None:
    own = GruutFrontend()
    with pytest.warns(UnknownWordWarning) as caught:
        assert spoken(own, "Hello мир. 你好。 мир") == ["həlˈoʊ."]
        assert spoken(own, "мир") == []
    before = "gruut can't pronounce these words, so they are left out: "
    assert [str(warning.message) for warning in caught] == [f"{before}'мир'", f"{before}'你好'"]


def test_a_text_in_another_script_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    own = GruutFrontend()
    words = [chr(0x4E00 + index) * 2 for index in range(3 * MAX_NAMED)]
    with pytest.warns(UnknownWordWarning) as caught:
        assert spoken(own, " ".join(words)) == []
    named = "".join(str(warning.message) for warning in caught)
    assert sum(word in named for word in words) == MAX_NAMED
    assert named.endswith("and no more are named")
    assert len(caught) < 5
    assert caplog.records == []


@pytest.mark.parametrize("text", ["1," * 50, "7,0" * 30, "It was 1" + ",01" * 40 + " once."])
def test_numbers_that_gruut_fails_over_are_read_digit_by_digit(frontend: GruutFrontend, text: str) -> None:
    assert sum(phonemes.count("w") for phonemes in spoken(frontend, text)) >= text.count("1")


def test_a_word_that_gruut_fails_over_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    own = GruutFrontend()
    parsed = own._processor.parsed

    def fails(text: str) -> list[SpokenWord]:
        if "zirb" in text:
            raise ArithmeticError("as decimal does")
        return parsed(text)

    monkeypatch.setattr(own._processor, "parsed", fails)
    with pytest.warns(UnknownWordWarning, match="left out: 'zirb'"):
        assert spoken(own, "5 zirb/cats") == spoken(own, "5 / cats")


@pytest.mark.filterwarnings("ignore::balacoon_tk.frontend.UnknownWordWarning")
@pytest.mark.parametrize(
    "text",
    ["1e400", "9" * 50, "0/0/0000 99:99", "1.2.3.4", "²³½", "C++ && <b>x</b>", "٣٤ १२", "-0 +5 5$ $-5 $1e9"],
)
def test_odd_numbers_and_signs_are_survived(frontend: GruutFrontend, text: str) -> None:
    assert all(phonemes for phonemes in spoken(frontend, text))


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        ([], ""),
        ([("garden", "ɡˈɑːɹdəŋ")], "ɡˈɑːɹdən"),
        ([("king", "kˈɪŋ")], "kˈɪŋ"),
        ([("over", "ˌoʊvɚɹ"), ("the", "ðə")], "ˌoʊvɚ ðə"),
        ([("over", "ˌoʊvɚ"), ("it", "ɪɾ")], "ˌoʊvɚɹ ɪt"),
        ([("it", "ɪɾ"), ("is", "ɪz")], "ɪɾ ɪz"),
        ([("city", "sˈɪɾi"), ("ability", "ɐbˈɪlɪɾi")], "sˈɪɾiʲ ɐbˈɪlᵻɾi"),
        (
            [("create", "kɹiːˈeɪt"), ("quiet", "kwˈaɪət"), ("museum", "mjuːzˈiəm")],
            "kɹiːʲˈeɪt kwˈaɪət mjuːzˈiəm",
        ),
        ([("tea", "tˈiː"), ("and", "ænd")], "tˈiː ænd"),
        ([("of", "ʌv"), ("the", "ðə"), ("hour", "ˈaʊɚ")], "ʌvðɪʲ ˈaʊɚ"),
        ([("to", "tə"), ("eat", "ˈiːt")], "tʊ ˈiːt"),
        ([("A", "ɐ"), ("B", "bˈiː"), ("C", "sˈiː")], "ˌeɪbˌiːsˈiː"),
        ([("A", "ɐ"), ("cat", "kˈæt")], "ɐ kˈæt"),
        ([("When", "wˌɛn"), ("I", "ˈaɪ")], "wˌɛn aɪ"),
        ([("and", "ænd"), ("when", "wˌɛn")], "ænd wɛn"),
    ],
)
def test_words_change_with_what_follows(words: list[tuple[str, str]], joined: str) -> None:
    assert join_english(words) == joined


def test_threads_get_the_phonemes_that_one_thread_gets(frontend: GruutFrontend) -> None:
    texts = ["She reads on May 5, 2020.", "It was 3:30 p.m. and he read 12 books.", "A xyzzy word."]
    expected = [list(frontend.phonemize(text)) for text in texts]
    failures: list[str] = []

    def run() -> None:
        # A frontend made in the thread shares its parser with the others.
        for each in (frontend, GruutFrontend("en_US")):
            if [list(each.phonemize(text)) for text in texts] != expected:
                failures.append(each.language)  # noqa: PERF401 - a list per thread says less

    in_threads([run] * 6)
    assert not failures


def test_the_lexicon_answers_as_gruut_does(tmp_path: Path) -> None:
    rows = [
        ("read", "VBD", 0, "r e d"),
        ("read", "", 1, "r a d"),
        ("read", "", 0, "r i d"),
        ("Bob", "NN", 0, "b o b"),
        ("i'm", "", 0, "a m"),
        ("im", "", 0, "i m"),
    ]
    with closing(sqlite3.connect(tmp_path / "lexicon.db")) as database, database:
        database.execute(
            "CREATE TABLE word_phonemes (word TEXT, role TEXT, pron_order INTEGER, phonemes TEXT)"
        )
        database.executemany("INSERT INTO word_phonemes VALUES (?, ?, ?, ?)", rows)
    lexicon = Lexicon(tmp_path / "lexicon.db")
    assert lexicon("read") == lexicon("Read,") == lexicon("read", "NN") == ["r", "i", "d"]
    assert lexicon("read", "VBD") == ["r", "e", "d"]
    assert lexicon("Bob") == ["b", "o", "b"], "any role is better than none"
    assert lexicon("bob") is None
    assert lexicon("I'm") == ["a", "m"], "in lower case before without marks"
    assert lexicon("'Im'") == ["i", "m"]
    assert set(lexicon.roles("Read")) == {"VBD"}
    assert not lexicon.roles("im")
    assert lexicon("Read", do_transforms=False) is None
    assert "read" in lexicon
    assert "Read" not in lexicon


@pytest.mark.parametrize("language", ["xx", "", "klingon"])
def test_an_unknown_language_is_refused(language: str) -> None:
    with pytest.raises(
        ParameterError, match=f"language={language!r} must be one that gruut knows: ar, .*en-us"
    ):
        GruutFrontend(language)


def test_a_language_that_is_not_installed_names_its_package() -> None:
    with pytest.raises(ParameterError, match=r"language='sv-se' needs .* pip install gruut-lang-sv"):
        GruutFrontend("sv")


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gruut", None)
    with pytest.raises(MissingExtraError, match=r"balacoon_tk\[voice\]") as caught:
        GruutFrontend()
    assert caught.value.extra == "voice"


def test_dates_are_read_where_utcnow_is_deprecated_and_warnings_are_errors() -> None:
    code = """
import datetime, warnings

class Deprecating(datetime.datetime):
    @classmethod
    def utcnow(cls):
        warnings.warn("datetime.datetime.utcnow() is deprecated", DeprecationWarning, stacklevel=2)
        return cls(2020, 1, 1)

datetime.datetime = Deprecating
from balacoon_tk.frontend.backends import gruut
print(len(next(gruut.GruutFrontend().phonemize("On 5/6/2020.")).phonemes))
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, check=True)
    assert int(run.stdout) == len("ˌɔn mˈeɪ sˈɪksθ, twˈɛnti twˈɛnti.")
    assert not run.stderr


def test_walking_and_skipping_numbers_change_no_phoneme(monkeypatch: pytest.MonkeyPatch) -> None:
    import networkx
    from gruut import text_processor, utils

    def general_search(graph: networkx.DiGraph, node: object) -> Iterator[object]:
        for name in networkx.dfs_preorder_nodes(graph, node.node):  # type: ignore[attr-defined]
            if not graph.out_degree(name):
                yield graph.nodes[name]["data"]

    texts = [*SENTENCES[:6], "Nan went to infinity and inf.", "NASA paid $3 on 1/2/2020, or 1,234.5."]
    frontend = GruutFrontend()
    found = [list(frontend.phonemize(text)) for text in texts]
    for module in (utils, text_processor):
        monkeypatch.setattr(module, "leaves", general_search)
    monkeypatch.setattr(gruut_module, "_DIGIT", re.compile(""))
    assert [list(frontend.phonemize(text)) for text in texts] == found
