"""Export of trained voices, and rewrites of their graphs."""

from balacoon_tk.errors import MissingExtraError

try:
    import onnx as _onnx  # noqa: F401 - only to say what is missing
    import onnx_ir as _onnx_ir  # noqa: F401
except ImportError as _error:
    raise MissingExtraError("balacoon_tk.export", extra="export") from _error

from balacoon_tk.export.decoder import export_decoder
from balacoon_tk.export.pipeline import export_trained, export_voice
from balacoon_tk.export.quantize import BudgetError, make_precision, quantize_voice
from balacoon_tk.export.sandbox import Limits
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.simplify.noise import noise_inputs
from balacoon_tk.graph.streaming import make_streaming
from balacoon_tk.targets.deploy import deploy_voice

__all__ = [
    "BudgetError",
    "Limits",
    "NotStreamableError",
    "deploy_voice",
    "export_decoder",
    "export_trained",
    "export_voice",
    "make_precision",
    "make_streaming",
    "noise_inputs",
    "quantize_voice",
]
