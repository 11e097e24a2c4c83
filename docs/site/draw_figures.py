"""Draw the figures of the explanation, from runs of a voice on this machine.

python docs/site/draw_figures.py --out build/docs/figures
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from balacoon_tk import TTS
from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.graph import analyse_model, decoder_layers
from balacoon_tk.graph.streaming import plan_cuts
from balacoon_tk.metrics import compare, sentence_frames, sweep_overlap
from balacoon_tk.plots import (
    draw_overlap_error,
    draw_plan,
    draw_pushes,
    draw_receptive_field,
    draw_timeline,
    draw_waveform,
    new_figure,
    save_figure,
)
from balacoon_tk.targets.ort_cpu import OrtCpuCosts, optimize_decoder
from balacoon_tk.voice.files import VoiceFiles

TEXT = "Where chunks meet without context, there is a click, and it comes back with every chunk that follows."
_SEED = 1
_AROUND_S = 0.012  # shown on each side of a chunk's border
_PUSHED = (5, 8, 14, 28, 56, 64)  # frames in a push, the last again and again


def draw_all(tts: TTS, folder: Path, text: str = TEXT) -> None:
    """Write a PNG file for each figure into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        save_figure(draw(tts, text), folder / f"{name}.png")


def receptive_field(tts: TTS, text: str) -> Figure:
    """Draw how far each layer of the plain decoder looks."""
    files = VoiceFiles(tts.voice.path)
    layers = decoder_layers(files.model(files.manifest.decoder))
    frame_s = files.manifest.hop_length / files.manifest.sample_rate
    figure = new_figure(8, 6)
    draw_receptive_field(figure.subplots(), layers, frame_s=frame_s)
    return figure


def chunk_border(tts: TTS, text: str) -> Figure:
    """Draw the border that is hurt most without context, and the same one with all of it."""
    needed, sample_rate = tts.voice.manifest.decoder.left_context, tts.get_sampling_rate()
    without, enough = sweep_overlap(tts, text, context_frames=(0, needed), seed=_SEED)
    around = round(_AROUND_S * sample_rate)
    error = np.abs(without.samples - enough.samples)
    inner = [border for border in without.borders if around <= border <= error.size - around]
    worst = max(inner, key=lambda border: error[border - around : border + around].max())
    figure = new_figure(8, 4)
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    for axes, samples, title in (
        (panels[0], without.samples, "each chunk decoded by itself"),
        (panels[1], enough.samples, f"with {needed} frames of context on each side"),
    ):
        shown = samples[worst - around : worst + around]
        draw_waveform(axes, shown, sample_rate=sample_rate, borders=[around])
        axes.set_title(title, loc="left", fontsize="medium")
    panels[1].set(xlabel="time (s)")
    return figure


def overlap_error(tts: TTS, text: str) -> Figure:
    """Draw what is left of the error, and what it costs, with more and more context."""
    needed = tts.voice.manifest.decoder.left_context
    contexts = sorted({*np.linspace(0, needed, 9).astype(int).tolist(), needed - 1, needed + 4})
    points = sweep_overlap(tts, text, context_frames=[each for each in contexts if each >= 0], seed=_SEED)
    figure = new_figure(8, 5.5)
    above, below = figure.subplots(2, 1)
    draw_overlap_error(above, points, needed_frames=needed, work_axes=below)
    return figure


def frontier(tts: TTS, text: str) -> Figure:
    """Draw how the samples that are known follow the frames that were pushed."""
    frames = sentence_frames(tts, text, seed=_SEED)
    decoder = StatefulDecoder(tts.voice.decoder)
    pushes, start = [], 0
    while start < frames.n_frames:
        size = _PUSHED[min(len(pushes), len(_PUSHED) - 1)]
        stop = min(start + size, frames.n_frames)
        samples = decoder.push(frames.window(start, stop)[np.newaxis], last=stop == frames.n_frames)
        pushes.append((stop - start, samples.size))
        start = stop
    figure = new_figure(8, 3.5)
    axes = figure.subplots()
    draw_pushes(axes, pushes, hop_length=decoder.hop_length, sample_rate=tts.get_sampling_rate())
    return figure


def cut_plan(tts: TTS, text: str) -> Figure:
    """Draw where ONNX Runtime's decoder keeps states and where it computes a margin again."""
    files = VoiceFiles(tts.voice.path)
    decoder = optimize_decoder(files.model(files.manifest.decoder)).model
    figure = new_figure(9, 4.5)
    plan = plan_cuts(analyse_model(decoder), chunk_frames=32, costs=OrtCpuCosts(in_halves=True))
    draw_plan(figure.subplots(), plan)
    return figure


def timeline(tts: TTS, text: str) -> Figure:
    """Draw when audio was ready and played, by each strategy, in turn."""
    comparison = compare(tts, text, seed=_SEED)
    figure = new_figure(9, 4)
    traces = {name: result.median_trace for name, result in comparison.strategies.items()}
    draw_timeline(figure.subplots(), traces)
    return figure


FIGURES: dict[str, Callable[[TTS, str], Figure]] = {
    draw.__name__: draw
    for draw in (chunk_border, overlap_error, receptive_field, frontier, cut_plan, timeline)
}
"""What draws each figure; its name is the file's."""


def main() -> None:
    """Draw all figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the figures")
    parser.add_argument("--voice", help="voice of one speaker (default: the default voice)")
    args = parser.parse_args()
    draw_all(TTS(args.voice), args.out)


if __name__ == "__main__":
    main()
