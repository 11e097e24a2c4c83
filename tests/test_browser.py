"""The player and the playground in a real page: JupyterLab in a browser without a window."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import pytest

from balacoon_tk.audio import read_wav

ROOT = Path(__file__).parent.parent
PLAYER = ROOT / "balacoon_tk" / "player" / "player.js"
BROWSERS = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome", "chrome")
BROWSER = os.environ.get("BALACOON_TK_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
FIRST_SOUND_LIMIT_MS = 150.0
SENTENCES = (
    "This was typed into the page, and the first sound of it comes long before its last word has been made.",
    "Each bar is a chunk, as high as it is loud and as wide as it is long.",
    "What has sounded is grey, the line stands where it sounds now, and all the rest is in the buffer.",
)
TEXT = " ".join(SENTENCES * 3)
LISTENING = (
    "import numpy as np\n"
    "from balacoon_tk.player import ABXTest, SideBySide\n"
    "tones = {name: np.sin(2 * np.pi * hz * np.arange(11025) / 22050) / 4 for name, hz in "
    "(('low', 220.0), ('high', 440.0))}",
    "systems = {name: (lambda sentence, tone=tone: tone) for name, tone in tones.items()}\n"
    "ABXTest(systems, ['One.', 'Two.'], path='abx.csv', sample_rate=22050)",
    "SideBySide(tones, sample_rate=22050)",
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason=f"no browser: none of {', '.join(BROWSERS)} is installed"),
]


@pytest.fixture(scope="module")
def browser():
    """A browser of this machine, without a window; sound goes nowhere, on the clock of a device."""
    playwright = pytest.importorskip("playwright.sync_api", reason='needs pip install "balacoon_tk[dev]"')
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab over a copy of the notebooks, and one of our own; gives its address and its folder."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    # With its kernel, or JupyterLab asks which one.
    metadata = nbformat.read(ROOT / "notebooks" / "6_playground.ipynb", as_version=4).metadata
    cells = [nbformat.v4.new_code_cell(cell) for cell in LISTENING]
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / "notebooks" / "listening.ipynb"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        *("--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0"),
        *("--IdentityProvider.token=", f"--ServerApp.root_dir={folder}"),
    ]
    # JupyterLab asks whether it may show news, in front of what the screenshot is of.
    config = folder / "jupyter_config_dir" / "labconfig" / "page_config.json"
    config.parent.mkdir(parents=True)
    config.write_text('{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}')
    environment = os.environ | {
        name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], stdout=log, stderr=log, env=environment
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()[-3000:]
                assert time.monotonic() < deadline, (folder / "log").read_text()[-3000:]
                time.sleep(0.3)
        yield address, folder / "notebooks"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def page(browser, lab):
    """The playground's notebook with all cells run."""
    yield from open_notebook(browser, lab[0], "6_playground", ".btk-player")


@pytest.fixture(scope="module")
def listening(browser, lab):
    """A listening test of two tones, and figures below it."""
    yield from open_notebook(browser, lab[0], "listening", ".btk-listening")


def open_notebook(browser, address, name, shown):
    """Run all cells of a notebook and give its page, once something is shown in it."""
    page = browser.new_page(viewport={"width": 1100, "height": 1000})
    page.set_default_timeout(60_000)
    # What JupyterLab asks meanwhile (which kernel, whether to trust) would stand in front of everything.
    # One may come after another, so nobody waits for the first one to be gone.
    page.add_locator_handler(page.locator(".jp-Dialog"), answer, no_wait_after=True)
    page.goto(f"{address}/lab/tree/notebooks/{name}.ipynb?reset")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()
    run_all(page)
    page.locator(shown).wait_for()
    yield page
    page.close()


def answer(dialog):
    """Say yes to a question of JupyterLab's."""
    print(f"JupyterLab asked: {dialog.inner_text()!r}")
    dialog.locator(".jp-mod-accept").first.click()


def run_all(page):
    """Run all cells; what is asked for while the kernel is being connected is forgotten, so ask again."""
    first = page.locator(".jp-CodeCell .jp-InputPrompt").first
    for _ in range(10):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.locator(".lm-Menu-item", has_text="Run All Cells").first.click()
        page.wait_for_timeout(3000)
        if re.search(r"[*\d]", first.inner_text()):
            return
    keep(page, "not-running")
    pytest.fail("the cells don't run: see out/browser/not-running.png")


def read(page):
    """What the player says now."""
    return page.locator(".btk-player").evaluate("element => ({...element.dataset})")


def wait_for(page, wanted, limit_s=60.0):
    """Read the player until it says what is wanted; return all that it said on the way."""
    seen, deadline = [], time.monotonic() + limit_s
    while True:
        seen.append(read(page))
        if wanted(seen[-1]):
            return seen
        assert time.monotonic() < deadline, seen[-1]
        time.sleep(0.02)


def press(page, name):
    page.locator("button", has_text=name).first.click()


def keep(page, name):
    folder = ROOT / "out" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")


def set_text(page, text):
    page.locator(".jp-OutputArea textarea").first.fill(text)
    page.wait_for_timeout(200)


@pytest.mark.voice
def test_a_text_that_is_typed_sounds_while_it_is_made_and_stops_at_once(page):
    set_text(page, TEXT)
    press(page, "Play")
    seen = wait_for(page, lambda now: now["state"] == "playing" and float(now["level"]) > -50.0)
    first = int(seen[-1]["chunks"])
    assert first >= 1
    assert 0.0 < float(seen[-1]["firstSoundMs"]) <= FIRST_SOUND_LIMIT_MS
    page.wait_for_timeout(500)
    keep(page, "playing")
    page.locator(".btk-playground").screenshot(path=ROOT / "out" / "browser" / "playground.png")
    seen = wait_for(page, lambda now: int(now["chunks"]) > first)
    assert seen[-1]["state"] == "playing", "chunks go on coming while it sounds"
    levels = {float(now["level"]) for now in (read(page) for _ in range(20))}
    assert len(levels) > 3, "the level moves"
    press(page, "Stop")
    stopped = wait_for(page, lambda now: now["state"] == "stopped", limit_s=1.0)[-1]
    page.wait_for_timeout(1500)
    later = read(page)
    assert later["chunks"] == stopped["chunks"], "stop stops the synthesis too"
    assert (later["state"], float(later["level"]), float(later["buffered"])) == ("stopped", -60.0, 0.0)
    (ROOT / "out" / "browser" / "report.json").write_text(json.dumps(seen[-1], indent=2))


@pytest.mark.voice
def test_a_short_text_plays_to_its_end_without_a_wait(page):
    set_text(page, "A few words.")
    press(page, "Play")
    seen = wait_for(page, lambda now: now["state"] == "done")
    assert max(float(now["buffered"]) for now in seen) > 0.3
    assert 0.0 < float(seen[-1]["firstSoundMs"]) <= FIRST_SOUND_LIMIT_MS
    keep(page, "done")


@pytest.mark.voice
def test_what_was_played_is_saved_by_one_click(page, tmp_path):
    with page.expect_download() as download:
        press(page, "Save WAV")
    download.value.save_as(tmp_path / "speech.wav")
    samples, rate = read_wav(tmp_path / "speech.wav")
    assert download.value.suggested_filename == "speech.wav"
    assert rate == 22050 and 0.3 < samples.size / rate < 5.0
    assert np.max(np.abs(samples)) > 0.05


@pytest.mark.voice
def test_what_can_not_be_spoken_is_said_in_the_page(page):
    set_text(page, "   ")
    press(page, "Play")
    page.get_by_text("there is no text to speak").wait_for()


@pytest.mark.voice
def test_a_precision_that_is_not_there_says_in_the_page_how_to_make_it(page):
    press(page, "int8")
    page.get_by_text("int8 isn't there yet: press Make it").wait_for()
    page.locator("button", has_text="Make it").wait_for()
    keep(page, "precision")
    press(page, "fp32")
    page.get_by_text("int8 isn't there yet").wait_for(state="detached")
    page.locator("button", has_text="Make it").wait_for(state="hidden")


def test_a_listening_test_is_taken_by_keyboard_alone_and_kept(listening, lab):
    page, rows = listening, lambda: (lab[1] / "abx.csv").read_text(encoding="utf-8").splitlines()[1:]
    test = page.get_by_role("group", name="ABX listening test")
    says = test.get_by_role("status")
    n_cells = page.locator(".jp-Cell").count()
    test.focus()
    says.get_by_text("Trial 1 of 2. Listen to A and B and X.").wait_for()
    for key in "ab1":
        page.keyboard.press(key)
    says.get_by_text("Listen to X.").wait_for()
    assert not (lab[1] / "abx.csv").exists(), "nobody answers before they have heard all of it"
    page.keyboard.press("x")
    assert test.get_by_role("button", name="Play X").get_attribute("aria-pressed") == "true"
    says.get_by_text("Is X the same as A, or as B?").wait_for()
    keep(page, "listening")
    page.keyboard.press("1")
    says.get_by_text("Answered; go on with Next.").wait_for()
    assert len(rows()) == 1
    page.keyboard.press("2")
    page.keyboard.press("n")
    says.get_by_text("Trial 2 of 2. Listen").wait_for()
    assert len(rows()) == 1, "an answer is final"
    # By tabs and Enter as well, as those do who have no sight of the keys.
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Play AA"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "one sees where the focus is"
    page.keyboard.press("Enter")
    says.get_by_text("Listen to B and X.").wait_for()
    for key in "bx2":
        page.keyboard.press(key)
    says.get_by_text("Answered").wait_for()
    page.keyboard.press("n")
    says.get_by_text("Done. ").wait_for()
    assert len(rows()) == 2
    for key in "dd":
        page.keyboard.press(key)
    page.wait_for_timeout(500)
    assert page.locator(".jp-Cell").count() == n_cells, "JupyterLab cuts a cell by x and deletes it by d, d"
    with page.expect_download() as download:
        test.get_by_role("link", name="Save the answers as CSV").click()
    assert download.value.path().read_text(encoding="utf-8").splitlines()[1:] == rows()
    keep(page, "listening-done")


def test_a_listening_test_fits_a_narrow_page(listening):
    # As wide as a telephone, beside the files.
    listening.set_viewport_size({"width": 720, "height": 900})
    listening.wait_for_timeout(500)
    test = listening.locator(".btk-listening")
    test.scroll_into_view_if_needed()
    keep(listening, "listening-narrow")
    widths = test.evaluate("element => [element.scrollWidth, element.clientWidth]")
    assert widths[0] <= widths[1]
    listening.set_viewport_size({"width": 1100, "height": 1000})


@pytest.mark.parametrize("name", ["low.wav", "figure.png", "figure.svg"])
def test_sounds_and_figures_are_saved_by_one_click(listening, name):
    with listening.expect_download() as download:
        listening.locator(f'a[download="{name}"]').click()
    assert download.value.suggested_filename == name
    begins = {"low.wav": b"RIFF", "figure.png": b"\x89PNG", "figure.svg": b"<?xml"}
    assert download.value.path().read_bytes().startswith(begins[name])
    keep(listening, "side-by-side")


SCHEDULED = """async ({source, chunks, rate}) => {
    const url = URL.createObjectURL(new Blob([source], {type: "text/javascript"}));
    const {ChunkPlayer} = await import(url);
    const n = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    const context = new OfflineAudioContext(1, n + rate, rate);
    const player = new ChunkPlayer({createContext: () => context, nowMs: () => 0});
    player.resume = () => {};  // an offline context begins when it is rendered
    player.start(1, rate, 0);
    const startS = player.push(1, Int16Array.from(chunks[0]));
    for (const chunk of chunks.slice(1)) player.push(1, Int16Array.from(chunk));
    const rendered = await context.startRendering();
    const start = Math.round(startS * rate);
    return Array.from(rendered.getChannelData(0).slice(start, start + n));
}"""


@pytest.mark.parametrize("rate", [16000, 22050, 24000, 44100])
def test_chunks_meet_in_the_browser_without_a_sample_between_them(browser, rate):
    samples = np.random.default_rng(rate).integers(-32767, 32768, size=9000)
    chunks = [part.tolist() for part in np.split(samples, [1, 130, 131, 4000, 4441])]
    page = browser.new_page()
    page.goto("about:blank")
    heard = page.evaluate(
        SCHEDULED, {"source": PLAYER.read_text(encoding="utf-8"), "chunks": chunks, "rate": rate}
    )
    page.close()
    np.testing.assert_allclose(np.array(heard), samples / 32767, atol=1e-6)
