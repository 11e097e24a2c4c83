"""What an evaluation found: figures with confidence intervals, as a table, JSON, Markdown and a picture."""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balacoon_tk._files import json_text, write_whole
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics.bootstrap import Estimate, PairedBootstrap, Weighted
from balacoon_tk.metrics.registry import Metric, all_metrics
from balacoon_tk.metrics.trace import REFERENCE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# For each field a number a sentence.
_Columns = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One metric of one strategy of one voice over all sentences, and how it differs from a baseline."""

    voice: str
    strategy: str
    metric: str
    unit: str
    estimate: Estimate
    baseline: str
    """``voice/strategy`` that the difference is to; empty where this is the baseline itself."""
    difference: Estimate | None
    """This less the baseline, sentence by sentence; None where there is nothing to compare."""

    def to_dict(self) -> dict[str, object]:
        """Return the row as one flat record."""
        row = asdict(self)
        difference = row.pop("difference") or dict.fromkeys(("value", "low", "high"), math.nan)
        row |= row.pop("estimate")
        ends = {f"difference_{end}": difference[end] for end in ("low", "high")}
        return row | {"difference": difference["value"], **ends}


@dataclass(frozen=True, slots=True)
class Report:
    """Results of an evaluation, sentence by sentence and over all of them.

    The baseline of a strategy is the whole utterance by the same voice; that of a further voice's whole
    utterance is the first voice's.
    """

    settings: Mapping[str, Any]
    """What was asked for."""
    records: tuple[Mapping[str, Any], ...]
    """A record for each voice, sentence and strategy."""
    summary: tuple[SummaryRow, ...]
    confidence: float

    @classmethod
    def from_records(
        cls,
        records: Sequence[Mapping[str, Any]],
        *,
        settings: Mapping[str, Any],
        confidence: float = 0.95,
        n_resamples: int = 2000,
    ) -> Report:
        """Summarise records; those of one sentence have the same number in ``sentence``."""
        if not records:
            raise ParameterError("records must hold at least one record")
        n_sentences = 1 + max(record["sentence"] for record in records)
        bootstrap = PairedBootstrap(n_sentences, n_resamples=n_resamples, confidence=confidence)
        columns = _columns(records, n_sentences)
        first = next(iter(columns))[0]
        rows = []
        for (voice, strategy), fields in columns.items():
            # A stream is held against the same voice whole, and a further voice against the first one, both
            # whole: in each pair one thing is different.
            baseline = (voice, REFERENCE) if strategy != REFERENCE else (first, REFERENCE)
            others = columns.get(baseline, {}) if baseline != (voice, strategy) else {}
            for metric in all_metrics():
                measured, compared = _parts(metric, fields), _parts(metric, others)
                if measured is None:
                    continue
                row = SummaryRow(
                    voice, strategy, metric.name, metric.unit, bootstrap.ratio(*measured), "", None
                )
                # A figure without a counterpart, such as the difference to the reference, has no baseline.
                if compared is not None:
                    difference = bootstrap.difference(measured, compared)
                    row = replace(row, baseline="/".join(baseline), difference=difference)
                rows.append(row)
        return cls(dict(settings), tuple(records), tuple(rows), confidence)

    def rows(self) -> list[dict[str, object]]:
        """Return the summary as flat records, one for each voice, strategy and metric."""
        return [row.to_dict() for row in self.summary]

    def table(self) -> Any:
        """Return `rows` as a pandas DataFrame, or as they are where pandas isn't installed."""
        return _framed(self.rows())

    def sentence_table(self) -> Any:
        """Return `records` as a pandas DataFrame, or as they are where pandas isn't installed."""
        return _framed([dict(record) for record in self.records])

    def find(self, metric: str, *, strategy: str, voice: str | None = None) -> SummaryRow:
        """Return one row of the summary; the first voice's if None.

        Raises
        ------
        ParameterError
            If there is no such row; the message names those that there are.
        """
        voice = self.summary[0].voice if voice is None else voice
        for row in self.summary:
            if (row.metric, row.strategy, row.voice) == (metric, strategy, voice):
                return row
        # The widest first: of a voice that isn't there no metric is missing.
        for name, value in (("voice", voice), ("strategy", strategy), ("metric", metric)):
            known = dict.fromkeys(getattr(row, name) for row in self.summary)
            if value not in known:
                raise ParameterError(f"{name}={value!r} must be one of {', '.join(known)}")
        raise ParameterError(f"metric={metric!r} was not measured for {voice}/{strategy}")

    def to_dict(self) -> dict[str, object]:
        """Return all of it as JSON has it; write it with `save` or print it with `to_json`."""
        return {
            "settings": dict(self.settings),
            "confidence": self.confidence,
            "summary": self.rows(),
            "records": [dict(record) for record in self.records],
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON text; what isn't finite becomes null."""
        return json_text(self.to_dict())

    def to_markdown(self) -> str:
        """Return the figures as Markdown, a table for each voice and one for the differences."""
        voices = dict.fromkeys(row.voice for row in self.summary)
        n_sentences = len({record["sentence"] for record in self.records})
        n_taken = sum(bool(record.get("verdict_of")) for record in self.records)
        interval = f"{100 * self.confidence:g} % confidence intervals (paired bootstrap, by sentence)"
        text = ["# Evaluation", "", f"{n_sentences} sentences, {', '.join(voices)}. In brackets: {interval}."]
        if n_taken:
            text += [
                "",
                f"{n_taken} of {len(self.records)} utterances differ from one that was judged already by at "
                "most one step of 16-bit PCM in any sample, and take over its verdict.",
            ]
        for voice in voices:
            rows = [row for row in self.summary if row.voice == voice]
            text += ["", f"## {voice}", "", *_markdown(rows, difference=False)]
            if differing := [row for row in rows if row.difference is not None]:
                baselines = dict.fromkeys(row.baseline for row in differing)
                text += ["", f"Difference to {' and '.join(baselines)}:", ""]
                text += _markdown(differing, difference=True)
        return "\n".join(text) + "\n"

    def figure(self) -> Figure:
        """Draw each metric with its intervals, a panel each, but for those that say the same of all."""
        from balacoon_tk.plots.pages import intervals_figure

        several = len({row.voice for row in self.summary}) > 1
        names = {
            (row.voice, row.strategy): f"{row.voice}/{row.strategy}" if several else row.strategy
            for row in self.summary
        }
        panels = {}
        for metric in all_metrics():
            found = {
                (row.voice, row.strategy): (row.estimate.value, row.estimate.low, row.estimate.high)
                for row in self.summary
                if row.metric == metric.name and math.isfinite(row.estimate.value)
            }
            # What is the same of all needs no picture: no space is left to what differs otherwise.
            if len(set(found.values())) > 1:
                panels[metric.title] = [found.get(key, (math.nan,) * 3) for key in names]
        return intervals_figure(list(names.values()), panels)

    def save(self, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Write ``report.md``, ``report.json`` and, where matplotlib is installed, ``report.png``.

        Each is there whole or not at all. Returns the files; a `ParameterError` if there is no such folder.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise ParameterError(f"{folder}: no such folder")
        # What needs nothing comes first: a picture that fails leaves the figures in place.
        paths = (folder / "report.md", folder / "report.json", folder / "report.png")
        write_whole(paths[0], self.to_markdown())
        write_whole(paths[1], self.to_json())
        if importlib.util.find_spec("matplotlib") is None:
            return paths[:2]
        from balacoon_tk.plots import save_figure

        save_figure(self.figure(), paths[2])
        return paths


def _columns(records: Sequence[Mapping[str, Any]], n_sentences: int) -> dict[tuple[str, str], _Columns]:
    """Return for each voice and strategy each field that is a number, NaN where it is None or missing."""
    columns: dict[tuple[str, str], _Columns] = {}
    for record in records:
        fields = columns.setdefault((record["voice"], record["strategy"]), {})
        for name, value in record.items():
            # Texts and lists are for whoever looks a sentence up, and nothing to make a mean of.
            if (value is None or isinstance(value, (int, float))) and name != "sentence":
                column = fields.setdefault(name, [math.nan] * n_sentences)
                column[record["sentence"]] = math.nan if value is None else float(value)
    return columns


def _parts(metric: Metric, fields: _Columns) -> Weighted | None:
    """Return what is summed and what it is divided by, if anything; None where nothing was measured."""
    if metric.ratio is None:
        return (fields[metric.name], None) if metric.name in fields else None
    over, under = metric.ratio
    return (fields[over], fields[under]) if over in fields and under in fields else None


def _markdown(rows: Sequence[SummaryRow], *, difference: bool) -> list[str]:
    strategies = list(dict.fromkeys(row.strategy for row in rows))
    lines = [f"| metric | {' | '.join(strategies)} |", f"|---|{'---:|' * len(strategies)}"]
    for metric in all_metrics():
        cells = {
            row.strategy: _cell(row.difference if difference else row.estimate, metric.digits, difference)
            for row in rows
            if row.metric == metric.name
        }
        if cells:
            lines.append(f"| {metric.title} | {' | '.join(cells.get(each, '') for each in strategies)} |")
    return lines


def _cell(estimate: Estimate | None, digits: int, signed: bool) -> str:
    if estimate is None or math.isnan(estimate.value):
        return ""
    form = f"{'+' if signed else ''}.{digits}f"
    value, low, high = (format(x, form) for x in (estimate.value, estimate.low, estimate.high))
    # An interval narrower than the digits that are shown would only look like a mistake.
    return value if value == low == high else f"{value} [{low}, {high}]"


def _framed(rows: list[dict[str, Any]]) -> Any:
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        return rows
    return pandas.DataFrame(rows)
