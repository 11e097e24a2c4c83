"""The pieces that every report is made of: tables, and what stands in their cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from speed.measure import spread

Data = Mapping[str, Any]

MS = 1e3


def stamp(facts: Data, *, command: str = "make bench") -> str:
    """Return the line that says on what, and by which command, a report's figures were measured."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return f"{machine_label(facts)}; Python {facts['python']}; {versions}. Written by `{command}`."


def threads_label(n_threads: str) -> str:
    """Return a number of threads as a heading says it."""
    return f"{n_threads} thread{'' if n_threads == '1' else 's'}"


def machine_label(facts: Data) -> str:
    """Return the machine as a sentence says it."""
    return f"{facts['n_cpus']} cores, {facts['cpu']}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def targets_table(targets: Sequence[Data]) -> list[str]:
    """Return a table of targets, as `speed.targets.check` gives them."""
    rows = [
        [
            target["name"],
            f"{'≥' if target['at_least'] else '≤'} {target['limit']:g} {target['unit']}".rstrip(),
            f"{target['value']:.3g} {target['unit']}".rstrip(),
            "met" if target["met"] else "**missed**",
        ]
        for target in targets
    ]
    return table(["what", "limit", "measured", ""], rows)


def times(values: Sequence[float], *, digits: int = 1) -> str:
    """Return median and quartiles in milliseconds."""
    low, middle, high = (f"{MS * value:.{digits}f}" for value in spread(values))
    return f"{middle} ({low} to {high})"
