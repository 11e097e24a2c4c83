"""When to give how much: chunk sizes from what a machine was measured to take.

The names are imported when they are asked for: a `TTS` reads calibrations, and measuring one needs a `TTS`.
"""

from typing import TYPE_CHECKING

from balacoon_tk._lazy import lazy_names

if TYPE_CHECKING:
    from balacoon_tk.pacing.calibration import Calibration, load_calibration, save_calibration
    from balacoon_tk.pacing.measure import calibrate

__all__ = ["Calibration", "calibrate", "load_calibration", "save_calibration"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {"calibration": ("Calibration", "load_calibration", "save_calibration"), "measure": ("calibrate",)},
)
