"""Figures and sounds in a page: a text for whoever can't see them, and links that save them."""

import base64
import html
import io
import re
import threading
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from balacoon_tk.audio import PhonemeSpan, read_wav
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics import StreamTrace
from balacoon_tk.metrics.sweeps import ChunkPoint, LengthPoint, OverlapPoint
from balacoon_tk.player import Clips, ProgressBar, SideBySide
from balacoon_tk.plots import (
    PartLoss,
    alt_text,
    describe,
    draw_chunk_sweep,
    draw_cost,
    draw_difference,
    draw_frames,
    draw_mel,
    draw_overlap_error,
    draw_pushes,
    draw_sensitivity,
    draw_spectral_difference,
    draw_spectrogram,
    draw_timeline,
    draw_waveform,
    new_figure,
    save_figure,
)
from balacoon_tk.plots.pages import intervals_figure
from balacoon_tk.plots.quantization import ParetoPoint, draw_pareto_front
from balacoon_tk.plots.timing import draw_growth, draw_spreads, draw_streams

ROOT = Path(__file__).parent.parent
RATE = 8000
TONE = (0.5 * np.sin(2 * np.pi * 1000.0 * np.arange(RATE) / RATE)).astype(np.float32)
WAITS = StreamTrace(sample_rate=100, ready_s=(0.5, 3.0), n_samples=(100, 100), total_s=3.0, first_audible=0)
SMOOTH = StreamTrace(sample_rate=100, ready_s=(0.015,), n_samples=(200,), total_s=0.1, first_audible=0)
SPANS = (PhonemeSpan("h", 0.0, 0.5), PhonemeSpan("ə", 0.5, 1.0))
POINT = OverlapPoint(0, 0.5, 1.0, np.zeros(1, np.float32), ())
CASES = {
    "waveform": (
        lambda axes: draw_waveform(axes, TONE, sample_rate=RATE, borders=[100, 200], alignment=SPANS),
        ["1.00 s", "peak 0.5", "2 borders", "2 phonemes"],
    ),
    "spectrogram": (lambda axes: draw_spectrogram(axes, TONE, sample_rate=RATE), ["4 kHz", "1000 Hz"]),
    "mel": (lambda axes: draw_mel(axes, TONE, sample_rate=RATE, alignment=SPANS), ["phonemes h ə"]),
    "difference": (
        lambda axes: draw_difference(axes, {"a": TONE + 0.25, "b": TONE}, TONE, sample_rate=RATE),
        ["a: at most 2.5e-01", "b: the same to the bit", "3.1e-05"],
    ),
    "frames": (
        lambda axes: draw_frames(axes, np.array([[-1.5, 2.0, 0.0]], "f4"), frame_s=0.5),
        ["1 channel of 3 frames over 1.50 s", "from -1.5 to 2"],
    ),
    "spectral difference": (
        lambda axes: draw_spectral_difference(axes, 2 * TONE, TONE, sample_rate=RATE),
        ["to +6.0 dB"],
    ),
    "timeline": (
        lambda axes: draw_timeline(axes, {"stateful": SMOOTH, "overlap": WAITS}),
        ["stateful: 1 chunk of 2.00 s in all, TTFA 15 ms, no underrun", "overlap: 2 chunks", "waits 1500 ms"],
    ),
    "cost": (
        lambda axes: draw_cost(
            axes, [LengthPoint("full", 1.0, 0.2, 0.3), LengthPoint("full", 2.0, 0.4, 0.5)]
        ),
        ["full: all of it 300 to 500", "full: first sound 200 to 400", "audio (s) from 1 to 2"],
    ),
    "overlap": (
        lambda axes: draw_overlap_error(axes, [POINT], needed_frames=8),
        ["5.0e-01 with 0", "receptive field: 8 frames a side"],
    ),
    "pushes": (
        lambda axes: draw_pushes(axes, [(3, 8), (2, 12)], hop_length=4, sample_rate=4),
        ["2 pushes of 5.00 s in all", "at most 1.000 s", "5.00 s after"],
    ),
    "sensitivity": (lambda axes: draw_sensitivity(axes, [PartLoss("a", 1.5, 2e6)]), ["a 1.5 dB"]),
    "pareto": (
        lambda axes: draw_pareto_front(
            axes,
            [ParetoPoint("x", 5.0, 60_000_000, 4.0), ParetoPoint("y", 4.0, 1_000_000, 3.5)],
            quality_label="MOS",
        ),
        ["x 5 times, 4, 60 MB", "y 4 times, 3.5, 1 MB (beaten)"],
    ),
    "growth": (
        lambda axes: draw_growth(axes, {"a": [(10, 0.01), (100, 0.02)]}, {"a": [(10, 0.03), (100, 0.3)]}),
        ["a: all of it 30 to 300", "a: first sound 10 to 20"],
    ),
    "spreads": (lambda axes: draw_spreads(axes, {"fast": [0.001, 0.002, 0.009]}), ["fast 2 ms"]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_picture_says_in_words_and_numbers_what_it_shows(name):
    draw, told = CASES[name]
    figure = new_figure(4.0, 3.0)
    draw(figure.subplots())
    text = alt_text(figure)
    assert all(each in text for each in told), text
    assert "\n" not in text and text.endswith(".")


def test_each_panel_of_a_figure_says_what_it_shows_and_a_colour_bar_nothing():
    figure = new_figure(4.0, 3.0)
    above, below = figure.subplots(2, 1)
    figure.suptitle("Two things")
    image = draw_spectrogram(above, TONE, sample_rate=RATE)
    figure.colorbar(image, ax=above)
    below.plot([1, 2], label="mine")
    below.set(xlabel="time (s)", ylabel="level", title="My own")
    text = alt_text(figure)
    assert text.startswith("Two things. Panel 1 of 2: Spectrogram of 1.00 s")
    assert text.endswith("Panel 2 of 2: My own: level against time (s): mine.")
    describe(below, "It rises.")
    assert alt_text(figure).endswith("Panel 2 of 2: My own: It rises.")


def test_sweeps_streams_and_intervals_say_the_numbers_of_each_panel():
    panels = new_figure(4.0, 6.0)
    draw_chunk_sweep(
        panels.subplots(3, 1), [ChunkPoint("overlap", n, n / 100, 0.1 * n, 4.0 / n, 0.5, 0.0) for n in (4, 8)]
    )
    assert "TTFA (ms): overlap 400 to 800." in alt_text(panels)
    assert "RTF: overlap 1 to 0.5." in alt_text(panels), "the line of real time is no curve"
    streams = new_figure(4, 3)
    draw_streams(streams.subplots(2, 1), {"spread": [(1, 1.0), (2, 0.5)]}, {"spread": [(1, 0.0), (2, 0.25)]})
    assert "spread 100 to 50" in alt_text(streams) and "spread 0 to 250" in alt_text(streams)
    intervals = intervals_figure(["full", "none"], {"WER (%)": [(3.1, 2.9, 3.3), (np.nan,) * 3]})
    assert alt_text(intervals) == "WER (%): full 3.1 (2.9 to 3.3)."


@pytest.mark.parametrize("n_axes", [0, 1])
def test_an_empty_figure_says_so(n_axes):
    figure = new_figure(2.0, 2.0)
    for _ in range(n_axes):
        figure.add_subplot()
    assert alt_text(figure) == ("axes without labels: nothing." if n_axes else "An empty figure.")


class Tags(HTMLParser):
    """Collects the start tags of HTML with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def data_of(address, mime):
    head, _, data = address.partition(",")
    assert head == f"data:{mime};base64"
    return base64.b64decode(data)


def test_a_page_shows_a_figure_with_its_text_and_saves_it_by_a_click():
    figure = new_figure(3.0, 2.0)
    axes = figure.subplots()
    axes.plot([1, 2])
    describe(axes, 'It says "<b>5</b>" & more.')
    bundle, metadata = figure._repr_mimebundle_()
    text = 'It says "<b>5</b>" & more.'
    assert bundle["text/plain"] == metadata["image/png"]["alt"] == text
    tags = Tags(bundle["text/html"])
    (picture,) = tags.all("img")
    assert picture["alt"] == text
    png, svg = tags.all("a")
    assert (png["download"], svg["download"]) == ("figure.png", "figure.svg")
    assert data_of(png["href"], "image/png") == data_of(picture["src"], "image/png")
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    drawing = data_of(svg["href"], "image/svg+xml")
    assert ElementTree.fromstring(drawing).tag.endswith("svg")
    assert html.escape(text, quote=False).encode() in drawing
    assert text.encode() in data_of(png["href"], "image/png")


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_files_of_figures_carry_their_text_and_are_the_same_again(suffix, tmp_path):
    for name in "ab":
        figure = new_figure(2.0, 2.0)
        describe(figure.subplots(), "Nothing but this sentence.")
        save_figure(figure, tmp_path / f"{name}.{suffix}")
    assert b"Nothing but this sentence." in (tmp_path / f"a.{suffix}").read_bytes()


def test_sounds_are_saved_as_they_were_given():
    samples = np.array([0, 32767, -32767, 5], np.int16)
    tags = Tags(Clips({'a "b" <c>': samples, "float": TONE}, sample_rate=RATE)._repr_html_())
    links, players = tags.all("a"), tags.all("audio")
    assert [link["download"] for link in links] == ['a "b" <c>.wav', "float.wav"]
    assert [player["aria-label"] for player in players] == ['a "b" <c>', "float"]
    assert [player["src"] for player in players] == [link["href"] for link in links]
    found, rate = read_wav(io.BytesIO(data_of(links[0]["href"], "audio/wav")))
    assert rate == RATE
    np.testing.assert_array_equal(np.rint(found * 32767), samples)
    assert repr(Clips({"float": TONE}, sample_rate=RATE)) == "float: 1.00 s"


def test_versions_side_by_side_are_compared_with_the_first():
    sounds = {"fp32": TONE, "int8": TONE + np.float32(0.25), "other": TONE[:-1]}
    shown = SideBySide(sounds, sample_rate=RATE)
    bundle, metadata = shown._repr_mimebundle_()
    assert len(Tags(bundle["text/html"]).all("audio")) == 3
    assert "the same as a to the bit" in SideBySide({"a": TONE, "b": TONE}, sample_rate=RATE)._repr_html_()
    for told in (
        "largest difference 2.5e-01, log-spectral distance ",
        "of another length than fp32: not compared",
    ):
        assert bundle["text/html"].count(told) == 1
    titles = [axes.get_title(loc="left") for axes in shown.figure().axes if axes.get_title(loc="left")]
    assert titles == ["fp32", "int8", "other", "int8 against fp32"]
    assert "Panel 4 of 4: int8 against fp32: Spectral difference" in metadata["image/png"]["alt"]


@pytest.mark.parametrize("kind", [Clips, SideBySide])
@pytest.mark.parametrize("sounds", [{}, {"a": np.zeros(0, "f4")}, {"a": np.array([np.nan], "f4")}])
def test_what_is_no_sound_is_refused(kind, sounds):
    with pytest.raises(ParameterError):
        kind(sounds, sample_rate=RATE)


def test_a_bar_counts_the_seconds_by_itself_and_says_how_it_ended(monkeypatch):
    monkeypatch.setattr("balacoon_tk.player.progress._TICK_S", 0.01)
    shown = []
    monkeypatch.setattr("balacoon_tk.player.progress.display", lambda bar, **_: shown.append(bar))
    bar = ProgressBar("waiting")
    label = bar.children[1]
    seen, ticked = [], threading.Event()
    with bar:
        label.observe(lambda change: (seen.append(change["new"]), ticked.set()), "value")
        assert shown == [bar] and repr(bar) == "[after 0 s: waiting]"
        bar._begun_s -= 3.0
        assert ticked.wait(30.0)
        assert seen[0] == "after 3 s: waiting"
    assert repr(bar) == "[100 % after 3 s: waiting]"
    with pytest.raises(KeyError), ProgressBar("failing") as failed:
        failed.show("half", 0.5)
        raise KeyError
    assert failed.children[0].bar_style == "danger"
    assert repr(failed) == "[50 % after 0 s: half]"
    for each in (bar, failed):
        each.close_all()


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_pictures_of_documents_say_what_they_show(document):
    text = re.sub(r"`[^`\n]*`", "", document.read_text(encoding="utf-8"))
    for alt, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text):
        assert len(alt.split()) >= 5, target
