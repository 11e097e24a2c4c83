"""SSML: what its elements say, where its text stands, and that no way to cut it changes anything."""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
import re
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balacoon_tk.errors import ParameterError
from balacoon_tk.frontend.markup.ssml import MAX_DEPTH, RATES, STRENGTHS_S, Ssml, SsmlWarning, begins_ssml
from balacoon_tk.frontend.markup.xml_source import MAX_TAG
from balacoon_tk.frontend.reading.source_text import SourceText
from balacoon_tk.frontend.reading.transducers import Control


def read(text, cuts=()):
    """Read a document in pieces; return the items, text beside text joined, and the error that ended them."""
    ssml, items, error = Ssml(), [], None
    bounds = [0, *sorted(cuts), len(text)]

    def give():
        for start, stop in pairwise(bounds):
            yield from ssml.feed(SourceText(text[start:stop], start))
        yield from ssml.finish()

    try:
        for item in give():
            if isinstance(item, SourceText) and items and isinstance(items[-1], SourceText):
                items[-1] += item
            else:
                items.append(item)
    except ParameterError as raised:
        error = str(raised)
    return items, error


def said(inside):
    """Return the text and controls of what stands in a document, without the paragraph's end."""
    items, error = read(f"<speak>{inside}</speak>")
    assert error is None
    assert items.pop() == Control(ends_paragraph=True)
    return [item.text if isinstance(item, SourceText) else item for item in items]


PARAGRAPH, SENTENCE = Control(ends_paragraph=True), Control()


def break_of(seconds):
    return Control(break_s=seconds, goes_on=True)


def rate_of(rate):
    return Control(rate=rate, goes_on=True)


@pytest.mark.parametrize(
    ("inside", "items"),
    [
        ("", []),
        ("Fish &amp; chips &#65;&#x42; &lt;b&gt;", ["Fish & chips AB <b>"]),
        ("<![CDATA[a <b> &amp; c]]>", ["a <b> &amp; c"]),
        ("one\n\n\ttwo", ["one   two"]),
        ("a<!-- no -->b<?no no?>c", ["abc"]),
        ("<s>One.</s><s>Two.</s>", [SENTENCE, "One.", SENTENCE, SENTENCE, "Two.", SENTENCE]),
        ("<p>One.</p>Two.", [PARAGRAPH, "One.", PARAGRAPH, "Two."]),
        ('Hi<break time="300ms"/>there', ["Hi,", break_of(0.3), "there"]),
        ('Hi.<break time="1.5s"/>', ["Hi.", break_of(1.5)]),
        ('Hi, <break strength="weak"/>', ["Hi, ", break_of(STRENGTHS_S["weak"])]),
        ("Hi!<break/>", ["Hi!", break_of(STRENGTHS_S["medium"])]),
        ('Hi<break strength="none"/> there', ["Hi there"]),
        ('Hi<break time="0ms"/> there', ["Hi there"]),
        ('<say-as interpret-as="characters">AB 12</say-as>!', ["A, B, 1, 2!"]),
        ('<say-as interpret-as="spell-out">x</say-as>', ["x"]),
        ('a <phoneme alphabet="ipa" ph="təˈmɑːtoʊ">tomato</phoneme>.', ["a [[təˈmɑːtoʊ]]."]),
        ('<phoneme ph="a"/>', ["[[a]]"]),
        ('the <sub alias="World Wide Web">WWW</sub> is', ["the World Wide Web is"]),
        ('a <prosody rate="slow">b</prosody> c', ["a ", rate_of(0.75), "b", rate_of(1.0), " c"]),
        (
            '<prosody rate="150%"><prosody rate="+100%">b</prosody></prosody>',
            [rate_of(1.5), rate_of(3.0), "b", rate_of(1.5), rate_of(1.0)],
        ),
        ('a <prosody rate="slow">b</prosody>?! c', ["a ", rate_of(0.75), "b?!", rate_of(1.0), " c"]),
        ('<prosody rate="medium">b</prosody>', ["b"]),
        ('<prosody rate="-50%">b</prosody>', [rate_of(0.5), "b", rate_of(1.0)]),
        ('<prosody rate="1.25">b</prosody>', [rate_of(1.25), "b", rate_of(1.0)]),
    ],
)
def test_what_stands_in_a_document_is_text_and_controls(inside, items):
    assert said(inside) == items


def test_every_character_is_from_its_place_in_the_callers_text():
    text = (
        '<?xml version="1.0"?>\r\n<speak>é&amp;日\r\n<sub alias="long">W3C</sub><b>x</b>\U0001f600y</speak>'
    )
    with pytest.warns(SsmlWarning):
        items, _ = read(text)
    spans = {
        item.text[i] if item.text[i] not in "long" else "long": text[slice(*item.span(i, i + 1))]
        for item in items
        if isinstance(item, SourceText)
        for i in range(len(item))
    }
    assert spans == {
        "é": "é",
        "&": "&amp;",
        "日": "日",
        " ": "\r\n",
        "long": "W3C",
        "x": "x",
        "\U0001f600": "\U0001f600",
        "y": "y",
    }


DOCUMENTS = [
    '<?xml version="1.0" encoding="utf-8"?>\n<!-- c --><speak version="1.1" xml:lang="en-US">\r\n<p><s>Fish '
    '&amp; chips <say-as interpret-as="characters">AB 1</say-as>.</s> é日<break time="1s"/> '
    '<prosody rate="slow">slow</prosody> <sub alias="World Wide">WWW</sub> <phoneme ph="tə">to</phoneme></p>'
    "<![CDATA[a<b&c;]]> x]] </speak>\n ",
    "<speak>é\né<b></c></speak>",
    "<speak>one. <s>two.</s> <audio src='x'/></speak>",
    "<speak>one &foo; two</speak>",
    "<speak>x</speak> y",
    "<speak>é\ud800x</speak>",
    f"<speak>x<!--{'x' * MAX_TAG}--></speak>",
    f"<speak>x<b c='{'x' * MAX_TAG}'/></speak>",
    "<speak>x <!DOCTYPE speak></speak>",
    "<speak>x",
    "<speak>one two ]]> three</speak>",
    "",
]  # fmt: skip


@pytest.mark.parametrize("text", DOCUMENTS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_no_way_to_cut_a_document_changes_what_it_says_nor_its_error(text, data):
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=12))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SsmlWarning)
        expected, items = read(text), read(text, cuts)
    assert [repr(item) for item in items[0]] == [repr(item) for item in expected[0]]
    assert items[1] == expected[1]


def test_a_document_in_single_characters_is_the_whole():
    text = DOCUMENTS[0]
    assert repr(read(text, range(len(text)))) == repr(read(text))


def test_what_is_complete_is_given_at_once():
    ssml = Ssml()
    assert [item.text for item in ssml.feed(SourceText("<speak>One. Tw"))] == ["One. Tw"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<speak>\n  <s>One</p></speak>", "SSML, line 2, column 11: not well formed: mismatched tag"),
        ("<speak>é &foo;</speak>", "SSML, line 1, column 10: not well formed: undefined entity"),
        ("<speak>x</speak>y", "line 1, column 17: not well formed: text outside of the document's element"),
        ("<speak>x</speak>\n <!-- -->y،", "line 2, column 10: not well formed: text outside of the"),
        ("<?xml version='1.0'?>\ny،<speak>", "line 2, column 1: not well formed: text outside of the"),
        ("<speak>x</speak><speak>", "line 1, column 17: not well formed: junk after document element"),
        ("<speak>\x00</speak>", "line 1, column 8: not well formed"),
        ("<speak>\ud800</speak>", "line 1, column 8: half of a surrogate pair"),
        ("<speak>one", "line 1, column 11: the document ends where an element is still open"),
        ("", "line 1, column 1: not well formed: no element found"),
        ("<p>x</p>", "line 1, column 1: <p> must be <speak>, which is around all else"),
        ("<speak><speak/></speak>", "column 8: <speak> can't be read, nor passed over"),
        ("<speak><audio src='x'/></speak>", "column 8: <audio> can't be read, nor passed over"),
        ('<!DOCTYPE speak [<!ENTITY a "b">]><speak/>', "column 1: a document type is not read"),
        ("<speak><break time='3'/></speak>", "<break> time='3' must be a number and 's' or 'ms'"),
        ("<speak><break time='11s'/></speak>", "time='11s' must be .* at most MAX_BREAK_S=10 s"),
        ("<speak><break strength='odd'/></speak>", "strength='odd' must be one of none, x-weak"),
        ("<speak><prosody rate='odd'>x</prosody></speak>", "rate='odd' must be one of x-slow"),
        ("<speak><prosody rate='2000%'>x</prosody></speak>", r"rate='2000%' must be .* within \[0.1, 10\]"),
        ("<speak><phoneme>x</phoneme></speak>", "<phoneme> must have ph"),
        ("<speak><phoneme alphabet='x-sampa' ph='x'/></speak>", "alphabet='x-sampa' must be 'ipa'"),
        ("<speak><phoneme ph=']]'/></speak>", "must have no brackets"),
        ("<speak><sub>x</sub></speak>", "<sub> must have alias"),
        ("<speak><sub alias='x'><s>y</s></sub></speak>", "<s> can't stand within <sub>"),
        ("<speak>" + "<b>" * MAX_DEPTH, f"must be within at most MAX_DEPTH={MAX_DEPTH} elements"),
        (f"<speak><!--{'x' * MAX_TAG}", f"column 8: a tag or comment of more than MAX_TAG={MAX_TAG} "),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::balacoon_tk.frontend.markup.ssml.SsmlWarning")
def test_what_can_not_be_read_is_refused_by_line_and_column(text, message):
    _, error = read(text)
    assert error is not None
    assert re.search(message, error)
    if len(text) < MAX_TAG:
        assert read(text, range(len(text)))[1] == error


def test_what_is_passed_over_is_named_once():
    text = "<speak><b>a</b><b>c</b><p lang='x' xml:lang='y'/><say-as interpret-as='date'>1/2</say-as></speak>"
    with pytest.warns(SsmlWarning) as warned:
        items, _ = read(text)
    assert [str(each.message).partition(": ")[2] for each in warned] == [
        "'<b>'", "'lang of <p>', 'xml:lang of <p>'", "\"interpret-as='date'\"",
    ]  # fmt: skip
    assert "".join(item.text for item in items if isinstance(item, SourceText)) == "ac1/2"


def test_what_a_document_has_by_the_standard_needs_no_warning():
    text = '<speak version="1.1" xmlns="http://www.w3.org/2001/10/synthesis" xml:lang="en-US">x</speak>'
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(text)[1] is None


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("<speak>", True),
        ("<speak version='1.1'>", True),
        ("\ufeff\n <speak/>", True),
        ("<?xml version='1.0'?>\n<speak>", True),
        ("<spoken>", False),
        ("a <speak>", False),
        ("<?php", False),
        ("<?xml version='1.0'?><html>", False),
        ("a < b", False),
    ],
)
def test_a_text_says_by_its_beginning_whether_it_is_ssml(text, begins):
    assert begins_ssml(text) is begins
    known = [begins_ssml(text[:n]) for n in range(len(text) + 1)]
    assert known[: known.index(begins)] == [None] * known.index(begins)
    assert set(known[known.index(begins) :]) == {begins}


def test_rates_and_strengths_are_in_their_order():
    assert list(STRENGTHS_S.values()) == sorted(STRENGTHS_S.values())
    assert list(RATES.values()) == sorted(RATES.values())


def test_a_long_document_takes_a_time_that_grows_with_its_length_alone():
    sizes = []
    for n in (200, 2000):
        ssml, text = Ssml(), "<speak>" + "<s>It is so.</s>" * n
        held = 0
        for place, character in enumerate(text):
            for _ in ssml.feed(SourceText(character, place)):
                pass
            held = max(held, len(ssml._source._text))
        sizes.append(held)
    assert sizes[0] == sizes[1] < 20


def test_the_documentation_s_document_is_read():
    page = (Path(__file__).parents[1] / "docs" / "ssml.md").read_text(encoding="utf-8")
    (document,) = re.findall(r"```xml\n(.*?)```", page, flags=re.DOTALL)
    items, error = read(document)
    assert error is None
    text = " ".join("".join(item.text for item in items if isinstance(item, SourceText)).split())
    assert text == "Dr. Oh Neill ate a [[təˈmɑːtoʊ]]. Wait, and listen. The code is A, X, 7."
    for name, seconds in STRENGTHS_S.items():
        assert name == "none" or f"{name}` {seconds}" in page
    for name, rate in RATES.items():
        assert name == "default" or f"`{name}` {rate:g}" in page
