"""Lists of sentences as researchers have them, how a corpus is cut, and where seeds come from."""

import pytest

from balacoon_tk.corpus import CorpusSentence, read_corpus_sentences
from balacoon_tk.corpus.plan import BATCH_SIZE, WINDOW, Batch, make_batches
from balacoon_tk.corpus.sentences import check_corpus_sentences, decode_corpus_sentences
from balacoon_tk.errors import ParameterError


def read(data, name="list.txt", **options):
    return [tuple(each) for each in decode_corpus_sentences(data, name, **options)]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("list.txt", "a1|Hello.\nb2|And more."),
        ("metadata.csv", "a1|Dr. 5|Hello.\r\nb2|And more.|\r\n"),
        ("list.tsv", "a1\tHello.\n\nb2\tAnd more."),
        ("data/text", "a1 Hello.\nb2  And more.\n"),
        ("list.jsonl", '{"id": "a1", "text": "Hello."}\n{"text": "And more.", "id": "b2", "speaker": 1}\n'),
    ],
)
def test_ids_and_texts_are_found_in_every_form(name, data):
    assert read(data.encode(), name) == [("a1", "Hello."), ("b2", "And more.")]


def test_plain_lines_are_called_after_their_place():
    data = "\ufeff# mine\nHello there.\n\n  Two\u2028lines | in one.\n".encode()
    assert read(data) == [("000001", "Hello there."), ("000002", "Two\u2028lines | in one.")]


def test_a_form_that_is_asked_for_is_taken():
    assert read(b"a1|Hello.", form="lines") == [("000001", "a1|Hello.")]
    assert read(b"a1 Hello there.", form="kaldi") == [("a1", "Hello there.")]
    with pytest.raises(ParameterError, match="form='csv' must be one of auto"):
        read(b"a", form="csv")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"ok\nGr\xfc\xdfe\n", r"list.txt: must be UTF-8, but in line 2 byte 3 is 0xfc$"),
        ("Hello".encode("utf-16"), r"in line 1 byte 1 is 0xff; it begins as UTF-16 does"),
        (b"", "must hold at least one sentence"),
        (b"# nothing\n\n", "must hold at least one sentence"),
        (b"a|x\nb|\n", "line 2: must have a text"),
        (b"a|x\n../b|y\n", r"line 2: id='../b' must be of letters"),
        (b"a|x\nb|y\nA|z\n", r"list.txt: line 3: id='A' is that of list.txt: line 1 as well"),
        (b"a|x|y|z\n", r"line 1 has 4 fields: must be an id and a text, with '\|' between"),
    ],
)
def test_what_is_wrong_with_a_list_is_named_with_its_line(data, message):
    with pytest.raises(ParameterError, match=message):
        read(data)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is no JSON"),
        ('{"id": "a"}', 'with a "text"'),
        ('{"id": 7, "text": "x"}', "id=7 must be"),
    ],
)
def test_what_is_wrong_with_a_line_of_json_is_named(line, message):
    with pytest.raises(ParameterError, match=message):
        read(line.encode(), "list.jsonl")


def test_python_gives_texts_or_pairs():
    assert check_corpus_sentences(["Hello."]) == (("000001", "Hello."),)
    assert check_corpus_sentences([("a", " Hello. ")])[0].text == "Hello."
    for wrong in ("Hello.", [], [("a",)], [("a", 3)], [""], [("a", "x"), ("a", "y")]):
        with pytest.raises(ParameterError, match=r"sentences"):
            check_corpus_sentences(wrong)


def test_a_file_is_read_where_it_lies(tmp_path):
    (tmp_path / "text").write_text("a Hello there.\n")
    assert read_corpus_sentences(tmp_path / "text") == (CorpusSentence("a", "Hello there."),)


def test_a_seed_is_of_the_run_the_id_and_the_text_and_of_nothing_else():
    sentence = CorpusSentence("a1", "Hello.")
    assert sentence.seed(0) == 4390127997043266192  # as other machines have it
    others = [("a1", "Hello!", 0), ("a2", "Hello.", 0), ("a1", "Hello.", 1), ("a", "1Hello.", 0)]
    seeds = {CorpusSentence(name, text).seed(seed) for name, text, seed in others}
    assert len(seeds | {sentence.seed(0)}) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("n", [1, BATCH_SIZE, BATCH_SIZE + 1, WINDOW - 1, WINDOW, WINDOW + 1])
def test_batches_hold_each_utterance_once_and_long_ones_come_first_in_a_window(n):
    sentences = [CorpusSentence(str(i), "x" * (1 + i * 37 % 101)) for i in range(n)]
    windows = [*make_batches(sentences, 2)]
    batches = [batch for window in windows for batch in window]
    assert [batch.number for batch in batches] == [*range(len(batches))]
    said = [(batch.variant, index) for batch in batches for index in batch.indices]
    assert sorted(said) == [(variant, index) for variant in range(2) for index in range(n)]
    for window in windows:
        lengths = [len(sentence.text) for batch in window for sentence in batch.sentences]
        assert lengths == sorted(lengths, reverse=True)
        indices = [index for batch in window for index in batch.indices]
        assert max(indices) // WINDOW == min(indices) // WINDOW
    assert max(len(batch.indices) for batch in batches) <= BATCH_SIZE


def test_a_batch_goes_to_a_worker_as_a_line():
    (window,) = make_batches([CorpusSentence("a", "Tea\nat “five”")], 1)
    line = window[0].to_json()
    assert "\n" not in line
    assert Batch.from_json(line) == window[0]
