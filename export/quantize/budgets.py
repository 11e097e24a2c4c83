"""Searches that are asked for as a whole: one for each of several budgets, and a quick one without any."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from balacoon_tk.errors import ParameterError
from balacoon_tk.export.quantize.half_voice import halve_voice
from balacoon_tk.export.quantize.pareto import Budget, BudgetError, Candidate, ParetoFront
from balacoon_tk.export.quantize.voice import quantize_voice
from balacoon_tk.metrics.sentences import plain_sentences
from balacoon_tk.voice.finish import Progress
from balacoon_tk.voice.precisions import PRECISIONS, precision_folder
from balacoon_tk.voice.voice import Voice

# Of the plain sentences each so many-th one is enough to calibrate on, and quick to judge.
_QUICK_STEP = 25


@dataclass(frozen=True, slots=True)
class BudgetPoint:
    """What one budget gave."""

    name: str
    budget: Budget
    chosen: str | None
    """Name of the candidate; None, and no voice at `path`, if none was within the budget."""
    path: Path | None
    message: str = ""
    """Why there is none, and which candidate is nearest."""


@dataclass(frozen=True, slots=True)
class BudgetSweep:
    """All searches of a voice."""

    pareto_front: ParetoFront
    """Every candidate that one of them has tried, with the budgets that took it as its note."""
    points: tuple[BudgetPoint, ...]

    @property
    def voices(self) -> dict[str, Path]:
        """A voice for each candidate that was taken, in the order of the budgets."""
        found: dict[str, Path] = {}
        for point in self.points:
            # Voices of the same candidate are equal, so the first one stands for all.
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
    progress: Progress | None = None,
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
    sentences, n_threads : optional
        As for `balacoon_tk.export.quantize_voice`.
    progress : callable, optional
        As for `quantize_voice`; the name of the budget comes before the stage's.

    Raises
    ------
    ParameterError
        If there is no budget.
    BalacoonError
        What `quantize_voice` raises, but for a budget that isn't met: that is a result.
    """
    if not budgets:
        raise ParameterError("budgets must hold at least one budget")
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    fronts: list[ParetoFront] = []
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
                # One for all: what a search has heard, the next one with another budget takes over.
                work_folder=place / "measured",
                quantize_encoder=False,
                n_threads=n_threads,
                overwrite=True,
                progress=report,
            )
            front, path, message = made.pareto_front, made.path, ""
        except BudgetError as error:
            # A result like any other: so much can't be had for this budget.
            front, path, message = error.pareto_front, None, str(error)
        fronts.append(front)
        points.append(BudgetPoint(name, budget, front.chosen, path, message))
    candidates = _join([candidate for each in fronts for candidate in each.candidates], points)
    return BudgetSweep(replace(fronts[0], candidates=candidates, chosen=None), tuple(points))


def _join(candidates: Sequence[Candidate], points: Sequence[BudgetPoint]) -> tuple[Candidate, ...]:
    """Return each candidate once, as it was judged on most sentences."""
    found: dict[str, Candidate] = {}
    for candidate in candidates:
        known = found.get(candidate.name)
        # A search gives up on a candidate after the first sentences; another one may have heard all.
        if known is None or candidate.n_sentences > known.n_sentences:
            found[candidate.name] = candidate
    taken = {name: ", ".join(point.name for point in points if point.chosen == name) for name in found}
    return tuple(
        replace(candidate, note=f"for {taken[name]}" if taken[name] else candidate.note)
        for name, candidate in found.items()
    )


def make_precision(voice: Voice, precision: str, *, progress: Progress | None = None) -> Path:
    """Put a version of a voice where `find_precisions` finds it: the fastest int8, or weights in fp16.

    The folder is returned; one that was there is replaced.

    What int8 loses doesn't matter here: four sentences calibrate and judge it, enough to hear what bytes
    do. A version within a budget of quality takes `quantize_voice` and more sentences.
    The encoder of int8 stays as it is, so that both say the same durations.

    Parameters
    ----------
    voice : Voice
        In floating point.
    precision : {"int8", "fp16"}
    progress : callable, optional
        As for `quantize_voice`.

    Raises
    ------
    ParameterError
        If the voice can't be made in that precision.
    ModelError
        If the voice is quantized already, or nothing in its decoder gets faster in bytes.
    MissingExtraError
        If the extra `export` isn't installed, or for int8 the extra `eval`.
    """
    if precision not in PRECISIONS[1:]:
        raise ParameterError(f"precision={precision!r} must be one of {', '.join(PRECISIONS[1:])}")
    folder, source, n_threads = precision_folder(voice, precision), voice.path, voice.n_threads
    folder.parent.mkdir(parents=True, exist_ok=True)
    if precision == "fp16":
        return halve_voice(source, folder, n_threads=n_threads, overwrite=True, progress=progress).path
    return quantize_voice(
        source,
        folder,
        sentences=plain_sentences()[_QUICK_STEP - 1 :: _QUICK_STEP],
        # Without a budget the first candidate is taken, and the search is short.
        max_wer_increase=None,
        max_dnsmos_drop=None,
        quantize_encoder=False,
        n_threads=n_threads,
        backend=voice.options.backend,
        overwrite=True,
        progress=progress,
    ).path
