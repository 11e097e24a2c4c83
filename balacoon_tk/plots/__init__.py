"""Every figure that reports and notebooks show, drawn on axes that the caller may bring.

matplotlib is imported when a figure is drawn. A figure is made by `new_figure` and written by
`save_figure`; everything in between is a ``draw_`` function for each picture. What they draw are
samples, traces and plain records: nothing here speaks or measures. Each notes in words what it has drawn, and
`alt_text` is what a figure says to whoever can't see it.
"""

from balacoon_tk.plots.alternative import alt_text, describe
from balacoon_tk.plots.audio import (
    draw_difference,
    draw_frames,
    draw_mel,
    draw_spectral_difference,
    draw_spectrogram,
    draw_waveform,
)
from balacoon_tk.plots.figure import check_figure_path, new_figure, save_figure
from balacoon_tk.plots.live import draw_live
from balacoon_tk.plots.pages import comparison_figure
from balacoon_tk.plots.quantization import PartLoss, draw_sensitivity
from balacoon_tk.plots.streaming import draw_overlap_error, draw_plan, draw_pushes, draw_receptive_field
from balacoon_tk.plots.timing import draw_chunk_sweep, draw_cost, draw_timeline

__all__ = [
    "PartLoss",
    "alt_text",
    "check_figure_path",
    "comparison_figure",
    "describe",
    "draw_chunk_sweep",
    "draw_cost",
    "draw_difference",
    "draw_frames",
    "draw_live",
    "draw_mel",
    "draw_overlap_error",
    "draw_plan",
    "draw_pushes",
    "draw_receptive_field",
    "draw_sensitivity",
    "draw_spectral_difference",
    "draw_spectrogram",
    "draw_timeline",
    "draw_waveform",
    "new_figure",
    "save_figure",
]
