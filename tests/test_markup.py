"""Marks of Markdown: what is said without them, what only looks like one, and that pieces change nothing."""
# ruff: noqa: RUF001 - the look-alikes of ASCII are meant

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balacoon_tk.errors import ParameterError
from balacoon_tk.frontend import CharacterFrontend
from balacoon_tk.frontend.markup.inline import MAX_ADDRESS, MAX_HELD, InlineMarkup
from balacoon_tk.frontend.markup.markdown import Markdown
from balacoon_tk.frontend.markup.marked_text import Markup
from balacoon_tk.frontend.reading.reader import Reading
from balacoon_tk.frontend.reading.source_text import SourceText
from frontend_sentences import HELD_OUT, SENTENCES


def rewritten(pieces: list[str], kind: type[InlineMarkup]) -> SourceText:
    markup, place, parts = kind(), 0, [SourceText("")]
    for piece in pieces:
        parts += markup.feed(SourceText(piece, place))
        place += len(piece)
    return SourceText.join([*parts, *markup.finish()])


def inline(text: str) -> str:
    return rewritten([text], InlineMarkup).text


INLINE = [
    ("a **bold** move", "a bold move"),
    ("*em*, _em_, __strong__, ~~struck~~, ***both***", "em, em, strong, struck, both"),
    ('**Note:** take **3**, (*see*) "**this**"', 'Note: take 3, (see) "this"'),
    ("**two\nlines**", "two\nlines"),
    ("这是**粗体**文字", "这是粗体文字"),
    ("`code *as* it is` and ``co`de``", "code *as* it is and co`de"),
    ('see [the **docs**](https://x.y/z), [here](<a b> "title")', "see the docs, here"),
    ("![a picture](x.png) [![badge](b.svg)](https://x.y)", "a picture badge"),
    ("[wiki](https://x.y/a_(b)) it", "wiki it"),
    ("<https://x.y/z> <joe@x.com>", "https://x.y/z joe@x.com"),
    ("a claim[^1], wow![^note]", "a claim, wow!"),
    (r"\*not\* \[so\] a\b", r"*not* [so] a\b"),
    ("```py\nx\n```", "py\nx\n"),
    ("**never closed", "never closed"),
]
NO_MARKUP = [
    *SENTENCES,
    *HELD_OUT,
    "5 * 3, a*b, 2**3, x ** y, f(x)*2, 5 *3, 3* 4",
    "a *= 2, x**=2, 2**-1, *.py, /* x */, 5* a*",
    "snake_case, x_1, a_b_c, ____",
    "[word] alone, word[1](see below), x[0](1 2), [a] (b), ]( [",
    "a < b, <b and c, 3 <5, x > y",
    "~5 and a~b, 2 ~ 3",
    "an `open one",
    "[[wˈɜː*ld*_x_]] and [[a](b)]]",
    "* item\n* item\n- item",
    "an `open\n\none` here [a\n\nb](c)",
]


@pytest.mark.parametrize(("text", "said"), INLINE)
def test_inline_marks_go(text: str, said: str) -> None:
    assert inline(text) == said
    assert rewritten([text], Markdown).text.strip() == said.removeprefix("py\n").strip()


@pytest.mark.parametrize("text", NO_MARKUP)
def test_what_only_looks_like_a_mark_stays(text: str) -> None:
    assert inline(text) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# Title\nand text\n## Next #1", "Title\nand text\nNext #1"),
        ("Title\n=====\na\n\n---\n\n* * *\nb", "Title\na\nb"),
        ("| a | **b** |\n|:--|--:|\n| c | d |\nend", "a , b\nc , d\nend"),
        ("a | b, x || y", "a | b, x || y"),
        ("```python\nx = *y*\n# z\n```\nend *it*", "x = *y*\n# z\nend it"),
        ("~~~\n```\n~~~\nend", "```\nend"),
        ("- [ ] one\n- [x] two\n+ three\n1. four", "-  one\n-  two\n- three\n1. four"),
        ("> quoted *so*\n> # too", "> quoted so\ntoo"),
        ('[1]: http://x.y "z"\n[^1]: A note.\n[a](b) c', "A note.\na c"),
        ("<p>a <b>bold</b><br/>b</p> 3 <5 <!-- no -->c", "a bold\nb\n3 <5 c"),
        ("Q&amp;A &lt;b&gt; &#39;x&#39; a&b &nosuch;", "Q&A <b> 'x' a&b &nosuch;"),
        ("#hashtag\n-5 here\n+5", "#hashtag\n-5 here\n+5"),
    ],
)
def test_marks_on_lines_of_their_own_go(text: str, said: str) -> None:
    lines = [line.strip() for line in rewritten([text], Markdown).text.split("\n")]
    assert "\n".join(line for line in lines if line) == said


_MARKS = """\
* ** _ __ ` `` ``` [ ] ( ) ]( ![ < > \\ [^1] [[ ]] ~~ ~~~ # | --- = + - &amp; & <b> --> http: @
"""
_SPACED = ["\n", "\n\n", " ", " ", "a", "b", "1", "[ ] ", "]: ", "# "]
_PIECES = st.lists(st.sampled_from([*_MARKS.split(), *_SPACED]), max_size=14)


@settings(max_examples=200)
@given(_PIECES, st.data(), st.sampled_from([InlineMarkup, Markdown]))
def test_pieces_give_what_the_whole_gives(
    parts: list[str], data: st.DataObject, kind: type[InlineMarkup]
) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    whole = rewritten([text], kind)
    for pieces in (list(text), [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]):
        found = rewritten(pieces, kind)
        assert found.text == whole.text
        places = [found.span(place, place + 1) for place in range(len(found))]
        assert places == [whole.span(place, place + 1) for place in range(len(whole))]
    if kind is InlineMarkup:
        assert all(text[first:last] == c for c, (first, last) in zip(found.text, places, strict=True))


@pytest.mark.parametrize("kind", [InlineMarkup, Markdown])
@pytest.mark.parametrize(
    ("text", "n_held"),
    [
        ("Hello there", 0),
        ("a **b", 0),
        ("a **", 2),
        ("Hello!", 1),
        ("an [aside that", 11),
        ("[a](http", 8),
        ("`code", 5),
        (f"[{'a' * MAX_HELD}", 0),
        (f"`{'a' * (MAX_HELD + 1)}", 0),
        (f"[a]({'b' * MAX_ADDRESS}", 0),
        ("[a](see below", 0),
        ("`a\n\nb", 0),
    ],
)
def test_only_what_may_still_be_markup_is_held_back(kind: type[InlineMarkup], text: str, n_held: int) -> None:
    markup = kind()
    given_out = sum(len(part) for part in markup.feed(SourceText(f"x {text}")))
    removed = text.count("**b") * 2
    assert given_out == len(text) + 2 - n_held - removed


@pytest.mark.parametrize("kind", [InlineMarkup, Markdown])
@pytest.mark.parametrize(
    "unit", ["*", "[", "`", "[a", "`a``", "![", "<", "# ", "|", "[a](", "&", "\\", "-", "[["]
)
def test_a_text_without_end_is_not_held_back_without_end(kind: type[InlineMarkup], unit: str) -> None:
    markup = kind()
    for place, character in enumerate(unit * (2_600 // len(unit))):
        for _ in markup.feed(SourceText(character, place)):
            pass
        assert len(markup._held) <= MAX_ADDRESS + MAX_HELD


def said(text: str | list[str], markup: Markup | None = None) -> list[str]:
    sentences = CharacterFrontend().phonemize(text, Reading(markup=markup))
    return ["".join(sentence.phonemes) for sentence in sentences]


def test_inline_marks_are_no_speech_unless_a_caller_says_that_the_text_is_plain() -> None:
    text = "# One **two** [three](x.y)."
    assert said(text) == ["one two three."]
    assert said(text, markup="plain") == ["one **two** [three](x.y)."]
    assert said("| a | b |\n|---|---|\n| c | d |", markup="markdown") == ["a, b", "c, d"]


@pytest.mark.parametrize("text", ["a \\[[^1]", "```[[\nx\n```\n\n[[a]]"])
def test_a_bracket_that_is_dropped_need_not_be_closed(text: str) -> None:
    assert said(text, "markdown") == said([text], "markdown") != []
    with pytest.raises(ParameterError, match="must close them"):
        said(text, "plain")


def test_markdown_is_not_looked_for_in_ssml() -> None:
    assert said("<speak>*a* b</speak>") == ["*a* b"]


def test_what_comes_after_a_flush_is_another_text() -> None:
    markup = InlineMarkup()
    parts = [
        *markup.feed(SourceText("**a `b")),
        *markup.finish(),
        *markup.feed(SourceText("c* d` e", 6)),
        *markup.finish(),
    ]
    assert [part.text for part in parts] == ["a ", "`b", "c* d", "` e"]
