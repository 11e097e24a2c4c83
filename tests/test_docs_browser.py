"""The site as a reader sees it: wide and narrow, light and dark, from a disk and without a network."""

import pytest

from pages import ROOT
from test_browser import BROWSER, BROWSERS

SITE = ROOT / "build" / "site"
LOOKED_AT = (
    *("index", "tutorials/first_voice", "tutorials/vocoder", "explanation/exact_streaming", "decoders"),
    *("benchmarks/bench", "reference/command_line", "reference/balacoon_tk.decoder", "project/changelog"),
)
WIDTHS = {"wide": (1440, 900), "narrow": (390, 844)}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason=f"no browser: none of {', '.join(BROWSERS)} is installed"),
]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason='needs pip install "balacoon_tk[dev]"')
    assert (SITE / "index.html").is_file(), "`make docs` comes first"
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(params=WIDTHS)
def page(browser, request):
    """A page of either width that notes what it loads, and what goes wrong in it."""
    width, height = WIDTHS[request.param]
    page = browser.new_page(viewport={"width": width, "height": height})
    page.kind, page.loaded, page.wrong = request.param, [], []
    page.on("request", lambda asked: page.loaded.append(asked.url))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("requestfailed", lambda asked: page.wrong.append(asked.url))
    yield page
    page.close()


def shown(page, name):
    page.goto((SITE / f"{name}.html").as_uri(), wait_until="load")
    page.wait_for_function("document.documentElement.classList.contains('js')")


def keep(page, name):
    """Keep a picture of the whole page."""
    for image in page.locator("article img").all():  # those that come when they are scrolled to
        image.scroll_into_view_if_needed()
        image.evaluate("image => image.decode()")  # fails where it is broken
    page.evaluate("window.scrollTo(0, 0)")
    folder = ROOT / "out" / "docs"
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name.replace('/', '-')}-{page.kind}.png", full_page=True)


@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_page_loads_nothing_from_elsewhere_and_fits(page, name):
    shown(page, name)
    keep(page, name)
    assert page.wrong == []
    assert [url for url in page.loaded if not url.startswith(("file:", "data:", "blob:"))] == []
    # Tables and drawings scroll in their own box, never the page.
    assert page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth") <= 0


def test_search_finds_a_page_without_a_server(page):
    shown(page, "index")
    if page.kind == "narrow":
        page.locator("label[for=__search]").first.click()
    page.locator("input.md-search__input").click()
    page.keyboard.type("receptive field", delay=20)
    found = page.locator(".md-search-result__link").first
    found.wait_for()
    assert page.wrong == []
    found.click()
    page.wait_for_function("!location.pathname.endsWith('/index.html')")


def test_a_reader_may_turn_the_light_off(page):
    shown(page, "explanation/exact_streaming")
    before = page.evaluate("document.body.dataset.mdColorScheme")
    page.locator("label[for^=__palette]:visible").click()
    page.wait_for_function("before => document.body.dataset.mdColorScheme != before", arg=before)
    keep(page, "explanation/exact_streaming-dark")
    assert {before, page.evaluate("document.body.dataset.mdColorScheme")} == {"default", "slate"}
