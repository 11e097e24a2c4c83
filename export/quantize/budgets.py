"""What each budget of quality buys: a voice is quantized for several of them, and each result kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from balacoon_tk.errors import ParameterError

if TYPE_CHECKING:
    from balacoon_tk.export.quantize import Budget, Candidate, Frontier


@dataclass(frozen=True, slots=True)
class BudgetPoint:
    """What one budget gave."""

    name: str
    budget: Budget
    chosen: str | None
    """Name of the candidate; None if none was within the budget."""
    path: Path | None
    """The voice that was made; None as well."""
    message: str = ""
    """Why there is none, and which candidate is nearest."""


@dataclass(frozen=True, slots=True)
class BudgetSweep:
    """All searches of a voice."""

    frontier: Frontier
    """Every candidate that one of them has tried, with the budgets that took it as its note."""
    points: tuple[BudgetPoint, ...]

    @property
    def voices(self) -> dict[str, Path]:
        """A voice for each candidate that was taken, in the order of the budgets."""
        found: dict[str, Path] = {}
        for point in self.points:
            if point.chosen is not None and point.path is not None:
                found.setdefault(point.chosen, point.path)
        return found


def sweep_budgets(
    voice: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    budgets: Mapping[str, Budget],
    *,
    sentences: Sequence[str] | None = None,
    n_threads: int | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> BudgetSweep:
    """Quantize a voice's decoder for each budget; what one search has measured, the others take over.

    The encoder stays as it is, so that all of them say the same durations.

    Parameters
    ----------
    voice : path
        A voice folder or an .addon file, in floating point.
    folder : path
        Where the voices go, and what is measured: the same call goes on where it was stopped.
    budgets : mapping of str to Budget
        Names for them, the widest first.
    sentences : sequence of str, optional
    n_threads : int, optional
        As for `balacoon_tk.export.quantize_voice`.
    progress : callable, optional
        Called with what is done and the share of the whole that is done, from 0 to 1.

    Returns
    -------
    BudgetSweep

    Raises
    ------
    ParameterError
        If there is no budget.
    BalacoonError
        What `quantize_voice` raises, but for a budget that isn't met: that is a result.
    """
    from balacoon_tk.export.quantize import BudgetError, quantize_voice

    if not budgets:
        raise ParameterError("budgets must hold at least one budget")
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    frontiers: list[Frontier] = []
    points: list[BudgetPoint] = []
    for number, (name, budget) in enumerate(budgets.items()):

        def report(stage: str, share: float, number: int = number, name: str = name) -> None:
            if progress is not None:
                progress(f"{name}: {stage}", (number + share) / len(budgets))

        try:
            made = quantize_voice(
                voice,
                place / f"voice-{number}",
                sentences=sentences,
                **asdict(budget),
                work_folder=place / "measured",
                quantize_encoder=False,
                n_threads=n_threads,
                overwrite=True,
                progress=report,
            )
        except BudgetError as error:
            frontiers.append(error.frontier)
            points.append(BudgetPoint(name, budget, None, None, str(error)))
        else:
            frontiers.append(made.frontier)
            points.append(BudgetPoint(name, budget, made.frontier.chosen, made.path))
    candidates = _join([candidate for each in frontiers for candidate in each.candidates], points)
    return BudgetSweep(replace(frontiers[0], candidates=candidates, chosen=None), tuple(points))


def _join(candidates: Sequence[Candidate], points: Sequence[BudgetPoint]) -> tuple[Candidate, ...]:
    """Return each candidate once, as it was judged on most sentences."""
    found: dict[str, Candidate] = {}
    for candidate in candidates:
        known = found.get(candidate.name)
        if known is None or candidate.n_sentences > known.n_sentences:
            found[candidate.name] = candidate
    taken = {name: ", ".join(point.name for point in points if point.chosen == name) for name in found}
    return tuple(
        replace(candidate, note=f"for {taken[name]}" if taken[name] else candidate.note)
        for name, candidate in found.items()
    )
