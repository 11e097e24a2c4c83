"""Reading a graph: axes and rates, receptive field, streamability.

The names are imported when they are asked for: its errors are read where there is no onnx.
"""

from typing import TYPE_CHECKING

from balacoon_tk._lazy import lazy_names

if TYPE_CHECKING:
    from balacoon_tk.graph.layers import decoder_layers
    from balacoon_tk.graph.obstacles import Obstacle, find_obstacles
    from balacoon_tk.graph.prepare import analyse_model

__all__ = ["Obstacle", "analyse_model", "decoder_layers", "find_obstacles"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "layers": ("decoder_layers",),
        "obstacles": ("Obstacle", "find_obstacles"),
        "prepare": ("analyse_model",),
    },
)
