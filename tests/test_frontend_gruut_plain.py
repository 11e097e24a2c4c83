"""The short way through gruut's English: no phoneme differs from gruut's own, and plain sentences take it."""
# ruff: noqa: RUF001 - the look-alikes of ASCII are meant

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from balacoon_tk.frontend import GruutFrontend, UnknownWordWarning, preparation
from balacoon_tk.frontend.backends.gruut_plain import PlainReader, Tagger
from balacoon_tk.frontend.english import normalizer
from balacoon_tk.frontend.english.joins import is_said_weakly, join_english
from balacoon_tk.frontend.english.normalizer import EnglishNormalizer
from balacoon_tk.frontend.reading import cleaning
from balacoon_tk.frontend.reading.cleaning import plain_punctuation
from balacoon_tk.frontend.reading.source_text import SourceText
from balacoon_tk.metrics.sentences import hard_sentences, plain_sentences
from frontend_sentences import HELD_OUT, SENTENCES, random_sentences
from speed.texts import STREAM_TEXT, TEXTS, WARM_UP

pytest.importorskip("gruut")

PLAIN = [*SENTENCES, *HELD_OUT, *TEXTS.values(), STREAM_TEXT, WARM_UP]
N_GENERATED = 1500

# What is plain, though one might doubt it.
EDGES = [
    "When he came, when she came: what did they read?",
    'Read it! I read it. They read it? "What," he said.',
    "I am what I am - am I?",
    "'Tis the dogs' bowl, 'tis it (or isn't it).",
    "The well-known mother-in-law's X-ray, o'clock and ne'er-do-well.",
    "Co and Dr are words, too; vs is one",
    '("Wound," she said) and wound up (the wound).',
    "A zorblat met a Kowalczyk-style brimble's zorblat.",
    "A",
]
LEFT_TO_GRUUT = [
    "He read 5 books.",
    "It costs $3.",
    "Mr. Smith read it.",
    "He lives on Elm St.",
    "Smith vs. Jones",
    "Vs",
    "The FBI came.",
    "Chapter XIV",
    "Go to B.",
    "He left at noon, p.m. or not.",
    "She said [sic] so.",
    "A star* and_more",
    "Hafþór rested.",
    "und für Mørk",
    "мир",
    "so what?!",
    "wait... what",
    "rock-'n'-roll",
    "a -- b",
]


@pytest.fixture(scope="module")
def frontend() -> GruutFrontend:
    return GruutFrontend()


def spoken(frontend: GruutFrontend, text: str) -> list[str]:
    return ["".join(sentence.phonemes) for sentence in frontend.phonemize(text)]


def differing(frontend: GruutFrontend, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the texts that are read otherwise by gruut's own parser, with every rule looked for."""
    found = [spoken(frontend, text) for text in texts]
    with monkeypatch.context() as patch:
        patch.setattr(frontend._processor, "_plain", None)
        patch.setattr(normalizer, "_PLAIN", re.compile("(?!)"))
        for module in (cleaning, preparation):
            patch.setattr(module, "is_plain", lambda sentence: False)
        expected = [spoken(frontend, text) for text in texts]
    return [text for text, a, b in zip(texts, found, expected, strict=True) if a != b]


@pytest.fixture
def plain_reader(frontend: GruutFrontend) -> PlainReader:
    reader = frontend._processor._plain
    assert reader is not None
    return reader


@pytest.mark.filterwarnings("ignore::balacoon_tk.frontend.UnknownWordWarning")
def test_no_known_sentence_is_read_otherwise_than_by_gruut(
    frontend: GruutFrontend, monkeypatch: pytest.MonkeyPatch
) -> None:
    hard = itertools.chain(*hard_sentences().values())
    texts = [*PLAIN, *EDGES, *LEFT_TO_GRUUT, *plain_sentences(), *hard]
    assert differing(frontend, texts, monkeypatch) == []


def test_no_generated_sentence_is_read_otherwise_than_by_gruut(
    frontend: GruutFrontend, plain_reader: PlainReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    lexicon = frontend._processor.lexicon
    generated = random_sentences(lexicon._plain, lexicon._by_role, seed=1)
    texts = list(itertools.islice(generated, N_GENERATED))
    n_plain = sum(plain_reader.words(text) is not None for text in texts)
    assert N_GENERATED // 3 < n_plain < N_GENERATED, "both ways must be seen"
    assert differing(frontend, texts, monkeypatch) == []


def test_plain_sentences_never_reach_gruuts_parser(
    frontend: GruutFrontend, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(frontend._processor, "parsed", lambda text: read.append(text) or [])
    for text in [*PLAIN, *EDGES, *plain_sentences()]:
        spoken(frontend, text)
    assert not read


@pytest.mark.parametrize("text", LEFT_TO_GRUUT)
def test_what_is_not_plain_is_left_to_gruut(plain_reader: PlainReader, text: str) -> None:
    assert plain_reader.words(text) is None


def test_breaks_stand_where_gruut_puts_them(plain_reader: PlainReader) -> None:
    words = plain_reader.words('"Stop!" (he said), well-read: no?')
    assert words is not None
    assert [word.text for word in words] == ["Stop", "!", "he", "said", ",", "well", "read", ":", "no", "?"]
    assert [word.text for word in words if word.is_break] == list("!,:?")


def test_a_word_with_an_apostrophe_at_its_end_is_looked_for(
    frontend: GruutFrontend, plain_reader: PlainReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    # gruut's English has none today.
    monkeypatch.setitem(frontend._processor.lexicon._plain, "zirbs'", "z ɪ b")
    monkeypatch.setitem(frontend._processor.lexicon._plain, "zirbs", "z ɪ p")
    texts = ["A zirbs' cat.", "A zirbs', cat.", "A well-zirbs', cat.", "A 'zirbs'", "A zirbs'!"]
    assert differing(frontend, texts, monkeypatch) == []
    assert [plain_reader.words(text) is not None for text in texts] == [True, False, False, False, False]


def test_a_word_without_phonemes_is_left_out_and_named_as_ever(plain_reader: PlainReader) -> None:
    own = GruutFrontend()
    assert plain_reader.words("Ew, when?") is not None
    with pytest.warns(UnknownWordWarning, match="'Ew'"):
        assert spoken(own, "Ew when I come?") == spoken(own, "When I come?")


@pytest.mark.parametrize("text", [*SENTENCES[:5], "When", "a b", "I I I", "josé hafþór o'clock x I read"])
def test_features_are_those_that_gruut_makes_but_for_zeros(frontend: GruutFrontend, text: str) -> None:
    from gruut.pos import PartOfSpeechTagger
    from pycrfsuite import ItemSequence

    words = text.split()
    found = ItemSequence(tagger_of(frontend).items(words)).items()
    expected = ItemSequence(PartOfSpeechTagger.sent2features(words)).items()
    # In gruut's order too: sums of floating point depend on it.
    assert [list(item.items()) for item in found] == [
        [(name, value) for name, value in item.items() if value] for item in expected
    ]


def tagger_of(frontend: GruutFrontend) -> Tagger:
    reader = frontend._processor._plain
    assert reader is not None
    return reader._tag


@pytest.mark.parametrize(
    ("text", "n_tagged"),
    [
        ("The cat sat.", 0),
        ("I am here when you come, I read.", 8),
        ("I am here when you come.", 0),
        ("He came, when she left.", 5),
        ("The cat sat. When? I sat.", 1),
        ("Ew when I sat.", 4),  # nothing is said for the first word
        ("What? The cat sat. Read", 2),
    ],
)
def test_only_what_a_tag_decides_is_tagged(
    frontend: GruutFrontend,
    plain_reader: PlainReader,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    n_tagged: int,
) -> None:
    tagged: list[str] = []
    tagger = tagger_of(frontend)
    monkeypatch.setattr(plain_reader, "_tag", lambda words: tagged.extend(words) or tagger(words))
    assert plain_reader.words(text) is not None
    assert len(tagged) == n_tagged


@pytest.mark.parametrize(
    ("text", "inside", "weakly"),
    [
        ("am", False, True),
        ("AM", True, True),
        ("When", True, True),
        ("When", False, False),
        ("i", True, False),
    ],
)
def test_words_that_are_said_weakly_need_no_phonemes(text: str, *, inside: bool, weakly: bool) -> None:
    assert is_said_weakly(text, inside=inside) is weakly
    before = [("and", "ænd")] * inside
    same = join_english([*before, (text, "kˈæt")]) == join_english([*before, (text, "dˈɑːɡ")])
    assert same is weakly


def test_a_word_that_must_be_guessed_is_guessed_once(
    frontend: GruutFrontend, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, guess = frontend._processor._guess, frontend._processor._plain._guess
    misses = kept.cache_info().misses
    assert len(spoken(frontend, "A zirblotch. A Zirblotch, a zirblotch! A (zirblotch) 5.")) == 3
    assert kept.cache_info().misses == misses + 2  # as it is spelled
    guess("zirblotch").append("x")
    assert guess("zirblotch")[-1] != "x"


_WORDS_AND_MARKS = """\
a The cat WORD NASA X read prof. etc. etc Prof. St. st best. no. e.g. i.e. ph.d. cf. 5 5kg 1/2 é ß @ & °
- -- — ' " ( ) , ; : ! ? !? .. ... … . “ ” ’ ， 。
"""
_PIECES = st.sampled_from([*_WORDS_AND_MARKS.split(), "", " ", "  ", "\n"])
_TEXTS = st.lists(_PIECES, max_size=8).map("".join) | st.lists(_PIECES, max_size=8).map(" ".join)


@given(_TEXTS)
@example("a  cat")
@example("a cat ")
@example("etc.")
@example("NASAs")
@example("----")
@example("a;;;;b")
def test_no_rule_changes_what_is_taken_for_plain(text: str) -> None:
    normalize = EnglishNormalizer(lexicon={"word"})
    assert normalize(SourceText(text)).text == normalize._apply_rules(SourceText(text)).text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleaning, "is_plain", lambda sentence: False)
        slowly = plain_punctuation(SourceText(text)).text
    assert plain_punctuation(SourceText(text)).text == slowly
