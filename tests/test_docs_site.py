"""The site: every page in its place, links that lead somewhere, and nothing fetched from elsewhere."""

import re
import struct
import warnings
from html.parser import HTMLParser

import pytest

import draw_figures
from balacoon_tk import TTS
from balacoon_tk.cli._main import COMMANDS
from pages import ROOT
from site_commands import command_line_page
from site_docstrings import to_markdown
from site_links import rewrite_links
from site_reference import public_names, reference_pages
from test_public_names import PUBLIC_NAMES
from tiny_voice import build_tiny_voice

mkdocs_config = pytest.importorskip("mkdocs.config", reason='needs pip install "balacoon_tk[docs]"')


def build(folder, **changes):
    """Build a site strictly; what MkDocs would have warned of is an error."""
    from mkdocs.commands.build import build as mkdocs_build

    figures = changes.pop("figures", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other packages
        config = mkdocs_config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), **changes)
        if figures is not None:
            config.extra["figures"] = str(figures)
        mkdocs_build(config)
    return folder


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    voice = build_tiny_voice(tmp_path_factory.mktemp("voices") / "tiny", streaming=True)
    draw_figures.draw_all(TTS(voice, n_threads=1), folder, text="abc def ghi jkl mno pqr")
    return folder


@pytest.fixture(scope="module")
def site(figures, tmp_path_factory):
    """All of the site but docstrings, whose rendering takes most of the time; `make docs` has them too."""
    plugins = ["search", "offline"]
    return build(tmp_path_factory.mktemp("site"), plugins=plugins, figures=figures)


@pytest.fixture(scope="module")
def pages(site):
    return {path.relative_to(site).as_posix(): path.read_text() for path in sorted(site.rglob("*.html"))}


class Loaded(HTMLParser):
    """What a browser loads for a page, and its pictures."""

    def __init__(self, html):
        super().__init__()
        self.urls, self.images = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "img":
            self.images.append(attributes)
        loads = tag in ("script", "img", "iframe", "source", "audio", "video", "embed", "object", "use")
        if tag == "link":
            loads = attributes.get("rel") not in ("canonical", "prev", "next", "alternate")
        if loads:
            self.urls += [
                attributes[name] for name in ("src", "href", "srcset", "data") if name in attributes
            ]


def test_figures_are_drawn_of_any_voice(figures):
    assert {path.stem for path in figures.iterdir()} == draw_figures.FIGURES.keys()
    text = (ROOT / "docs/explanation/exact_streaming.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\(figures/(\w+)\.png\)", text)) == draw_figures.FIGURES.keys()


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for name, html in pages.items():
        assert [url for url in Loaded(html).urls if "//" in url] == [], name
        # Material's script fetches another one where a page has a diagram.
        assert 'class="mermaid"' not in html, name
    for path in site.rglob("*.css"):
        for url in re.findall(r"(?:url\(|@import )['\"]?([^'\")]+)", path.read_text()):
            assert url.startswith("data:") or "//" not in url, (path, url)


def test_pictures_say_what_they_show_and_how_large_they_are(site, pages):
    n_pictures = 0
    for name, html in pages.items():
        for image in Loaded(html).images:
            if image["src"].endswith(".png"):
                n_pictures += 1
                data = (site / name).parent.joinpath(image["src"]).read_bytes()
                width, height = struct.unpack(">II", data[16:24])
                assert len(image["alt"]) > 20, (name, image)
                assert int(image["width"]) / int(image["height"]) == pytest.approx(width / height, rel=0.01)
    assert n_pictures > 12


def test_pages_of_other_files_are_there_with_their_links(site, pages):
    assert 'href="../testing.html"' in pages["project/contributing.html"]
    assert 'href="benchmarks/cuts.json"' in pages["live_text.html"]
    assert (site / "benchmarks/cuts.json").read_bytes() == (
        ROOT / "benchmarks/results/cuts.json"
    ).read_bytes()
    assert "From text to sound, beside other engines" in pages["benchmarks/bench.html"]
    links = (site / "external_links.txt").read_text().splitlines()
    assert "https://github.com/OHF-Voice/piper1-gpl" in links
    assert links == sorted(links)


def test_the_home_page_has_the_readme_s_figures(pages):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first_push = re.search(r"\| first push of lag \+ 2 frames \| ([\d.]+) \|", readme)[1]
    assert f"<td>{first_push}</td>" in pages["index.html"]
    assert "<!--" not in pages["index.html"].partition("<article")[2].partition("</article>")[0]


def test_formulas_need_no_script(pages):
    html = pages["explanation/exact_streaming.html"]
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in html
    assert "$`" not in html
    assert "\\frac" not in html


def test_every_public_name_is_on_a_page_of_the_reference():
    pages = reference_pages()
    for module, names in PUBLIC_NAMES.items():
        # What is spoken with is offered at the top.
        place = "balacoon_tk" if module == "tts" else f"balacoon_tk.{module}"
        assert set(names.split()) <= set(public_names()[place])
        assert f"::: {place}\n" in pages[f"reference/{place}.md"]


def test_docstrings_become_markdown():
    table = "====  =====\nname  what\n====  =====\n`a`   one\n      more\n`b`   two\n====  ====="
    expected = "| name | what |\n| --- | --- |\n| `a` | one more |\n| `b` | two |"
    assert to_markdown(f"What there is::\n\n{table}\n\nEnd.") == f"What there is:\n\n{expected}\n\nEnd."


def test_the_page_of_the_command_line_has_every_option():
    page = command_line_page()
    assert re.findall(r"^## (\w+)$", page, flags=re.MULTILINE) == list(COMMANDS)
    row = "| `-o DIR`, `--output DIR` | folder of the exported voice, or a file ending in .addon |"
    assert row in page
    assert "(default: 8000)" in page
    assert '```sh\nbalacoon-tk synthesize "Hello there." -o hello.wav\n' in page


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("words.md", "words.md"),
        ("../README.md", "index.md"),
        ("../CONTRIBUTING.md#style", "project/contributing.md#style"),
        ("../benchmarks/results/bench.json", "benchmarks/bench.json"),
        ("../tests/cuts.py", "https://example.org/tests/cuts.py"),
        ("../nowhere.md", "../nowhere.md"),
        ("#here", "#here"),
        ("https://example.org/a", "https://example.org/a"),
    ],
)
def test_links_lead_to_pages_or_to_the_repository(link, expected):
    def rewritten(text, page="live_text.md"):
        return rewrite_links(text, origin=f"docs/{page}", page=page, source_url="https://example.org/")

    assert rewritten(f"a [b]({link}) c") == f"a [b]({expected}) c"
    assert rewritten(f"`a [b]({link})`") == f"`a [b]({link})`"
    assert rewritten(f"```\na [b]({link})\n```") == f"```\na [b]({link})\n```"


@pytest.mark.parametrize("broken", ["[a](nowhere.md)", "[a](index.md#nowhere)", "[a](../tests/nowhere.py)"])
def test_a_link_that_leads_nowhere_is_no_site(broken, tmp_path):
    import mkdocs.exceptions

    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text(f"# Home\n\n{broken}\n")
    pages = {"docs_dir": str(tmp_path / "docs"), "nav": [{"Home": "index.md"}, {"Reference": []}]}
    with pytest.raises(mkdocs.exceptions.Abort, match="warnings in strict mode"):
        build(tmp_path / "site", plugins=[], hooks=[], theme={"name": "mkdocs"}, **pages)
