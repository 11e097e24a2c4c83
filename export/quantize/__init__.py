"""Smaller and faster voices within a budget of quality."""

from balacoon_tk.export.quantize.budgets import make_precision, sweep_budgets
from balacoon_tk.export.quantize.half_voice import Halved, halve_voice
from balacoon_tk.export.quantize.pareto import Budget, BudgetError, Candidate, ParetoFront
from balacoon_tk.export.quantize.voice import Quantized, quantize_voice

__all__ = [
    "Budget",
    "BudgetError",
    "Candidate",
    "Halved",
    "ParetoFront",
    "Quantized",
    "halve_voice",
    "make_precision",
    "quantize_voice",
    "sweep_budgets",
]
