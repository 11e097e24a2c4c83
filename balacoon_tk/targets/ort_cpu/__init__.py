"""ONNX Runtime on a processor.

The names are imported when they are asked for: a voice that was compiled before needs none of them.
"""

from typing import TYPE_CHECKING

from balacoon_tk._lazy import lazy_names

if TYPE_CHECKING:
    from balacoon_tk.targets.ort_cpu.costs import OrtCpuCosts
    from balacoon_tk.targets.ort_cpu.optimize import optimize_decoder

__all__ = ["OrtCpuCosts", "optimize_decoder"]

__getattr__, __dir__ = lazy_names(__name__, {"costs": ("OrtCpuCosts",), "optimize": ("optimize_decoder",)})
