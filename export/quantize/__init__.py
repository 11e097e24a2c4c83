"""Smaller and faster voices within a budget of quality."""

from balacoon_tk.export.quantize.half_voice import Halved, halve_voice
from balacoon_tk.export.quantize.pareto import Budget, BudgetError, Candidate, Frontier
from balacoon_tk.export.quantize.voice import Quantized, quantize_voice

__all__ = [
    "Budget",
    "BudgetError",
    "Candidate",
    "Frontier",
    "Halved",
    "Quantized",
    "halve_voice",
    "quantize_voice",
]
