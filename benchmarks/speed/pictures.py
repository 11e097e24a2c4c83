"""What was measured, as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from balacoon_tk.metrics import StreamTrace
from balacoon_tk.plots import draw_timeline, new_figure, save_figure
from balacoon_tk.plots.timing import draw_growth, draw_spreads, draw_streams

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Data = Mapping[str, Any]

_N_THREADS = "2"
_TIMELINE_OF = ("balacoon_tk", "streaming-vits", "piper-tts")


def draw_pictures(result: Data, folder: Path) -> list[Path]:
    """Draw every picture of which the part was measured; return their paths."""
    paths = []
    for name, (part, draw) in PICTURES.items():
        if part in result["parts"]:
            paths.append(folder / f"{name}.png")
            save_figure(draw(result["parts"][part]), paths[-1])
    return paths


def _ttfa(data: Data) -> Figure:
    engines = data["threads"][_N_THREADS]
    figure = new_figure(9.0, 1.5 + 0.35 * len(engines))
    # A minute of text is out of the scale of the others.
    keys = [key for key in data["texts"] if key != "minute"]
    panels = figure.subplots(1, len(keys), sharey=True)
    for panel, key in zip(panels, keys, strict=True):
        draw_spreads(panel, {name: engine["texts"][key]["ttfa_s"] for name, engine in engines.items()})
        panel.set_title(f"{key} phonemes", loc="left", fontsize="medium")
        panel.set(xlabel="TTFA (ms, log scale)")
    return figure


def _timeline(data: Data) -> Figure:
    figure = new_figure(9.0, 4.2)
    axes = figure.subplots()
    engines = data["threads"][_N_THREADS]
    traces = {
        name: StreamTrace(**engines[name]["texts"]["440"]["chunks"])
        for name in _TIMELINE_OF
        if name in engines
    }
    draw_timeline(axes, traces)
    title = "440 phonemes: audio ready (steps with marks) and played (thin lines), in the median round"
    axes.set_title(title, loc="left", fontsize="medium")
    return figure


def _stages(data: Data) -> Figure:
    figure = new_figure(9.0, 5.0)
    found = data["threads"][_N_THREADS]
    length = list(found["encoder"])[-1]
    rows = {f"frontend, {name}": texts[length] for name, texts in data["frontend"].items()}
    rows |= {
        "encoder": found["encoder"][length]["voice"],
        "encoder, as it was trained": found["encoder"][length]["trained"],
        "upsampler": found["upsampler"]["at once"],
    }
    rows |= {
        f"decoder, {how}{'' if how == 'full' else ' frames'}": times
        for how, times in found["decoder"].items()
    }
    axes = figure.subplots()
    draw_spreads(axes, rows)
    axes.set_title(f"{length} phonemes, {_N_THREADS} threads", loc="left", fontsize="medium")
    return figure


def _growth(data: Data) -> Figure:
    figure = new_figure(9.0, 4.5)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (shape, curves) in zip(panels, data["curves"].items(), strict=True):
        first, total = (
            {
                name: [(point["n_phonemes"], median(point[field])) for point in curve]
                for name, curve in curves.items()
            }
            for field in ("ttfa_s", "total_s")
        )
        draw_growth(panel, first, total)
        panel.set_title(shape.capitalize(), loc="left", fontsize="medium")
    panels[1].set(ylabel="")
    # The same engines are on both sides.
    panels[1].get_legend().remove()
    return figure


def _streams(data: Data) -> Figure:
    figure = new_figure(7.0, 5.0)
    panels = figure.subplots(2, 1, sharex=True)
    ways = {f"started within {data['spread_s']:g} s": data["spread"], "started at once": data["at once"]}
    shares = {
        f"{name}, {prebuffer}": [
            (
                point["n_streams"],
                sum(late <= limit for late in point["underrun_s"]) / len(point["underrun_s"]),
            )
            for point in points
        ]
        for name, points in ways.items()
        for prebuffer, limit in (("no buffer", 0.0), ("100 ms", 0.1))
    }
    waits = {
        name: [(point["n_streams"], max(point["underrun_s"])) for point in points]
        for name, points in ways.items()
    }
    draw_streams(panels, shares, waits)
    return figure


PICTURES = {
    "ttfa": ("end_to_end", _ttfa),
    "timeline": ("end_to_end", _timeline),
    "stages": ("stages", _stages),
    "growth": ("growth", _growth),
    "streams": ("streams", _streams),
}
"""Each picture's part of the result, and what draws it."""
